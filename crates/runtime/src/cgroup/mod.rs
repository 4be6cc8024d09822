//! Control groups: the engine's tree, its limits, its figures, and killing by group.
//!
//! Works the same on v2, v1 and hybrid nodes ([`Mode`]). With v1 controllers limits and counts are v1's; if a v2 hierarchy is
//! mounted beside them, each group has a directory there too, for birth (`CLONE_INTO_CGROUP`), `cgroup.kill` and
//! `cgroup.events`. A directory costs time, so no group has one where it is of no use. Synchronous; nothing is kept in memory but the layout, so a restarted engine goes on with what it finds.
//!
//! Left to others: which limits a Pod gets, and entering groups ([`crate::launch`]). Groups with children hold no
//! processes, but for pause, which is in its Pod's v1 directories.

mod devices;
mod error;
mod group;
mod layout;
mod signals;
mod values;

pub use devices::Devices;
pub use error::CgroupError;
pub use group::{Group, Tree};
pub use layout::{Layout, Mode, detect};
pub use values::Role;

#[cfg(test)]
mod tests;
