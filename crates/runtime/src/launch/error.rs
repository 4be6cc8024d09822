//! Why a launch failed, in the words of runc, which users know from `kubectl describe`.

use std::fmt;

use thiserror::Error;

/// A kernel error number; prints as Go programs print it: lower case, without the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut chars = text.chars();
        let first = chars.next().map(|c| c.to_ascii_lowercase()).unwrap_or('?');
        write!(f, "{first}{}", chars.as_str())
    }
}

impl std::error::Error for Errno {}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Self {
        Self(e.raw_os_error())
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Self {
        Self(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Why a process could not be started. Nothing of it is left, save for mount points made in the container's upper directory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LaunchError {
    /// There is nothing to execute.
    #[error("no command specified")]
    NoCommand,
    /// A name without slash was in no directory of `PATH`.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// A program named by its path is not there.
    #[error("exec: {path:?}: stat {path}: {errno}")]
    Stat {
        /// The path as given.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// A program is a directory or may not be executed by this user.
    #[error("exec: {path:?}: {errno}")]
    NotExecutable {
        /// The path as found.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// The kernel would not execute the program: wrong format, absent interpreter, arguments too long.
    #[error("exec {path}: {errno}")]
    Exec {
        /// The path as found.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// The image's user has no entry.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// The image's group has no entry.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// The user must not be root and is.
    #[error("container has runAsNonRoot and image will run as root")]
    Root,
    /// The working directory could not be made.
    #[error("mkdir {path}: {errno}")]
    MakeDir {
        /// Path in the container.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// The working directory could not be entered.
    #[error("chdir to cwd ({path:?}) failed: {errno}")]
    Chdir {
        /// Path in the container.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// The working directory leads out of the root (CVE-2024-21626).
    #[error("current working directory is outside of container mount namespace root")]
    Outside,
    /// A mount on or below `/proc` was asked for.
    #[error("{0:?} cannot be mounted because it is inside /proc")]
    InsideProc(String),
    /// `/proc`, `/sys` or `/dev` of the image is not a plain directory.
    #[error("mountpoint {0:?} must be an ordinary directory")]
    MountPoint(String),
    /// A mount failed.
    #[error("error mounting {source_path:?} to rootfs at {target:?}: {errno}")]
    Mount {
        /// What was to be mounted.
        source_path: String,
        /// Where in the container.
        target: String,
        /// Cause.
        errno: Errno,
    },
    /// Submounts cannot be made read-only on this kernel (needs 5.12).
    #[error("mount {0:?}: recursive read-only mounts are not supported by the kernel")]
    RecursiveReadonly(String),
    /// The root file system could not be assembled.
    #[error("failed to mount rootfs: {what}: {errno}")]
    Rootfs {
        /// The step, or what the kernel logged about it.
        what: String,
        /// Cause.
        errno: Errno,
    },
    /// An image could not be assembled for a mount.
    #[error("failed to mount image {image:?}: {what}: {errno}")]
    Image {
        /// Its name.
        image: String,
        /// The step, or what the kernel logged about it.
        what: String,
        /// Cause.
        errno: Errno,
    },
    /// A part of an image that is to be mounted cannot be found in it.
    #[error("subPath {path:?} of image {image:?}: {errno}")]
    ImagePath {
        /// The image's name.
        image: String,
        /// The part.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// A cgroup could not be entered.
    #[error("failed to join cgroup {path}: {errno}")]
    Cgroup {
        /// Its directory.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// The user has no id in the Pod's user namespace.
    #[error("cannot set uid to unmapped user in user namespace")]
    UnmappedUser,
    /// One of the groups has no id in the Pod's user namespace.
    #[error("cannot set gid to unmapped user in user namespace")]
    UnmappedGroup,
    /// The file system does not let its ids be mapped (device nodes, kernel file systems, old kernels).
    #[error("failed to fulfil mount request: failed to set MOUNT_ATTR_IDMAP on {path}: {errno}{}", idmap_hint(*errno))]
    IdMap {
        /// What was to be mounted.
        path: String,
        /// Cause.
        errno: Errno,
    },
    /// A PID namespace or container to join was named but not given.
    #[error("container {0} to join is not running")]
    NoTarget(String),
    /// The container to execute in has ended.
    #[error("cannot exec in a stopped container")]
    Stopped,
    /// The container has no terminals of its own.
    #[error("container has no devpts to open a terminal on")]
    NoDevpts,
    /// A string holds a NUL byte.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// Which.
        what: &'static str,
    },
    /// A step of process set-up failed.
    #[error("{step}: {errno}")]
    Setup {
        /// What was tried.
        step: &'static str,
        /// Cause.
        errno: Errno,
    },
}

/// What runc adds, because the kernel's word for it says nothing.
fn idmap_hint(errno: Errno) -> &'static str {
    if errno == Errno(libc::EINVAL) {
        " (maybe the filesystem used doesn't support idmap mounts on this kernel?)"
    } else {
        ""
    }
}

impl LaunchError {
    /// A failed step as an error, for `map_err`.
    pub(crate) fn setup<E: Into<Errno>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |e| Self::Setup {
            step,
            errno: e.into(),
        }
    }
}
