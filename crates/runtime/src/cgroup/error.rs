//! Why a cgroup operation failed.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a cgroup operation failed.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The node has no cgroups mounted.
    #[error("no cgroup hierarchy is mounted")]
    None,
    /// A file or directory of a hierarchy could not be read, written, made or removed.
    #[error("{verb} {path}", path = path.display())]
    Io {
        /// What was tried: `read`, `mkdir`, or `write VALUE to`.
        verb: String,
        /// On what.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The device program of a v2 group was refused.
    #[error("{step} device program of {path}", path = path.display())]
    Devices {
        /// `load` or `attach`.
        step: &'static str,
        /// The group.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Processes were still there when the time was up.
    #[error("processes are left in cgroup {path}", path = path.display())]
    Busy {
        /// The group.
        path: PathBuf,
    },
}

impl CgroupError {
    pub(super) fn io(verb: impl Into<String>, path: &Path, source: io::Error) -> Self {
        Self::Io {
            verb: verb.into(),
            path: path.to_owned(),
            source,
        }
    }

    /// The kernel's error number, if it was the kernel.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } | Self::Devices { source, .. } => source.raw_os_error(),
            Self::None | Self::Busy { .. } => None,
        }
    }
}
