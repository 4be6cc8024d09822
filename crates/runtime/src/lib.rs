//! The container runtime: sandboxes, containers and the processes in them, on this kernel.

pub mod cgroup;
pub mod launch;
