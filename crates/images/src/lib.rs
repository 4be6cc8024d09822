//! Images: pulled from registries, loaded from archives, unpacked and kept.
//!
//! [`Store`] implements [`ports::images::Images`] and adds what a user does with images on one machine: `load`, `save`,
//! `import`, `tag`, `prune`. It leaves to others: which image a container wants and when (kubelet), mounting what
//! [`rootfs`](ports::images::Images::rootfs) names (runtime), and which images are in use.
//!
//! Registries, archives and layers are not trusted: digests and sizes are checked, paths cannot leave their root, and
//! what an archive may unpack to is bounded ([`Limits`]). What is refused leaves nothing behind.

mod archive;
mod credentials;
mod digest;
mod error;
mod hosts;
mod manifest;
mod pull;
mod reference;
mod registry;
mod store;
mod unpack;

pub use digest::Digest;
pub use hosts::{HostsConfig, Retry};
pub use reference::Reference;
pub use store::{Pruned, Store};
pub use unpack::Limits;
