//! Usage.

use serde::{Deserialize, Serialize};

/// Usage of a container or Pod (CRI `ContainerStats`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time used since the start, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory in use without reclaimable cache, in bytes.
    pub memory_working_set_bytes: u64,
    /// Memory in use, in bytes.
    pub memory_usage_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}
