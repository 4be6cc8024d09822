//! The container runtime: sandboxes, containers and the processes in them, on this kernel.
//!
//! Two processes meet here. The **engine** ([`Runtime`]) keeps records, decides when, and talks; one **pause** per Pod
//! ([`pause::main`], executed before anything else is initialised) holds the Pod's namespaces, is the parent of its containers and
//! outlives the engine. They share [`wire`]: messages over a unix socket, and exit files. Pause uses [`launch`] to start processes,
//! the engine [`cgroup`] and [`seccomp`] to prepare what they are started with.
//!
//! Left to others: images and layers ([`ports::images`]), the Pod's network ([`ports::network`]), volumes, and every decision
//! about Pods. Tasks, channels and invariants are described in the modules that have them.

pub mod cgroup;
mod engine;
pub mod launch;
mod namespaces;
pub mod pause;
pub mod seccomp;
pub mod wire;

pub use engine::{Config, PauseCommand, Runtime, has_sandboxes, image_users};
