//! What a launch is made from: everything resolved by the engine, nothing left to decide but what only the root shows.
//!
//! These values cross the socket between engine and pause, so they are plain and serialisable; file descriptors travel beside
//! them in [`Stdio`]. Paths named "host" are those of the mount namespace pause lives in.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ports::runtime::{Mount, UserStatus};
use serde::{Deserialize, Serialize};

/// A container to be made and started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Container id, for messages.
    pub id: String,
    /// Root file system.
    pub root: Root,
    /// The first process.
    pub process: ProcessSpec,
    /// Who it runs as.
    pub user: UserRequest,
    /// Its PID namespace.
    pub pid_namespace: PidNamespace,
    /// Cgroups it is born in; made by [`crate::cgroup`] before.
    pub cgroup: CgroupEntry,
    /// Bind mounts. They are made in order of depth of `container_path`, equal depths in the order given.
    pub mounts: Vec<Mount>,
    /// Images mounted beside the root, in that order too.
    #[serde(default)]
    pub images: Vec<ImageTree>,
    /// Host path bound at `/dev/shm`: the Pod's, or the node's with hostIPC. `None` gives it a tmpfs of its own of 64 MiB.
    pub shm: Option<PathBuf>,
    /// Sysfs and cgroups writable, every device node of the node in `/dev` (`privileged`).
    pub privileged: bool,
    /// Paths covered so that nothing can be read (spec `§11.3`); absent ones are skipped.
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only; absent ones are skipped.
    pub readonly_paths: Vec<PathBuf>,
}

/// A root file system: overlayfs over image layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Unpacked layers, uppermost first ([`ports::images::Rootfs::layers`]).
    pub layers: Vec<PathBuf>,
    /// Where changes go. An existing directory.
    pub upper: PathBuf,
    /// overlayfs's work directory: existing, empty, on the file system of `upper`.
    pub work: PathBuf,
    /// Mount the root read-only once all mount points exist.
    pub readonly: bool,
}

/// An image's content, mounted read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTree {
    /// The image's name, for messages.
    pub image: String,
    /// Unpacked layers, uppermost first ([`ports::images::Rootfs::layers`]); two at least, since overlayfs stacks no fewer.
    pub layers: Vec<PathBuf>,
    /// What of it is mounted, resolved inside it; empty is all of it.
    pub sub_path: PathBuf,
    /// Absolute path inside the container.
    pub container_path: PathBuf,
}

/// A process, of a container or of an exec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Argument vector; the first is looked up in the `PATH` of `env` unless it has a slash.
    pub argv: Vec<String>,
    /// Environment, later entries winning. `HOME` is added from the passwd file when absent.
    pub env: Vec<(String, String)>,
    /// Working directory; empty is `/`. Made if absent when a container is launched.
    pub cwd: String,
    /// Capability sets; what the engine itself lacks is left out.
    pub capabilities: CapabilitySets,
    /// Set `no_new_privs`.
    pub no_new_privs: bool,
    /// Filter to install, see [`crate::seccomp`].
    pub seccomp: Option<SeccompProgram>,
    /// Resource limits, clamped to the engine's own hard limits.
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj`; what the engine may not set is left as it is.
    pub oom_score_adj: Option<i32>,
}

/// Who the first process runs as, before the root's passwd and group files were read (spec `§11.1`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRequest {
    /// The image's `USER`: `name`, `uid`, `name:group`, `uid:gid`; empty is root. Ignored when `uid` is set.
    pub image_user: String,
    /// `runAsUser`.
    pub uid: Option<u32>,
    /// `runAsGroup`.
    pub gid: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    pub supplemental_groups: Vec<u32>,
    /// Leave out the memberships in the image's group file.
    pub strict_groups: bool,
    /// Refuse uid 0.
    pub non_root: bool,
}

/// Which PID namespace a container gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Its own, in which it is PID 1.
    #[default]
    New,
    /// That of pause: shared by the Pod, or the node's.
    Pause,
    /// That of another container (`targetContainerName`), whose pidfd is in [`LaunchFds::pid_target`].
    Target(String),
}

/// Cgroup directories a process enters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupEntry {
    /// The unified hierarchy's directory, entered at birth (`CLONE_INTO_CGROUP`).
    pub v2: Option<PathBuf>,
    /// v1 directories by the name of their mount below `/sys/fs/cgroup`, such as `memory` or `cpu,cpuacct`.
    pub v1: BTreeMap<String, PathBuf>,
}

/// Capability sets as bit masks, bit N standing for capability N (`capabilities(7)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// Bounding set.
    pub bounding: u64,
    /// Effective set.
    pub effective: u64,
    /// Permitted set.
    pub permitted: u64,
    /// Inheritable set.
    pub inheritable: u64,
    /// Ambient set.
    pub ambient: u64,
}

/// A compiled seccomp filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// Classic BPF instructions, each a `struct sock_filter` as one native 64-bit word: code, jt, jf, k from low to high.
    pub instructions: Vec<u64>,
    /// Flags of `seccomp(2)`.
    pub flags: u32,
}

/// A resource limit (`setrlimit(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is none.
    pub hard: u64,
}

/// Another process in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// What to run. Its `env` holds the container's, [`Launched::home`] included.
    pub process: ProcessSpec,
    /// Who it runs as: the container's user.
    pub user: UserStatus,
    /// The container's cgroups.
    pub cgroup: CgroupEntry,
}

/// A process's standard streams.
#[derive(Debug, Clone, Copy)]
pub enum Stdio<'a> {
    /// Given files, usually pipes; they become the user's.
    Files {
        /// Standard input.
        stdin: BorrowedFd<'a>,
        /// Standard output.
        stdout: BorrowedFd<'a>,
        /// Standard error.
        stderr: BorrowedFd<'a>,
    },
    /// A new terminal of the container's own devpts; the caller gets its other side as [`Launched::terminal`].
    Terminal {
        /// Columns and rows to begin with; zero leaves them unset.
        size: (u16, u16),
    },
}

/// Descriptors a launch needs.
#[derive(Debug, Clone, Copy)]
pub struct LaunchFds<'a> {
    /// Standard streams.
    pub stdio: Stdio<'a>,
    /// pidfd of the container whose PID namespace is joined ([`PidNamespace::Target`]).
    pub pid_target: Option<BorrowedFd<'a>>,
    /// [`LaunchSpec::root`], if it is mounted already, attached nowhere. Not for a container with users of its own.
    pub root: Option<BorrowedFd<'a>>,
}

/// Descriptors an exec needs.
#[derive(Debug, Clone, Copy)]
pub struct ExecFds<'a> {
    /// Standard streams.
    pub stdio: Stdio<'a>,
    /// pidfd of the container's first process.
    pub target: BorrowedFd<'a>,
    /// The container's [`Launched::devpts`]; needed for [`Stdio::Terminal`].
    pub devpts: Option<BorrowedFd<'a>>,
}

/// A process that is executing its program; a child of the caller, which must reap it.
#[derive(Debug)]
pub struct Launched {
    /// Its PID as the caller sees it.
    pub pid: i32,
    /// Its pidfd: readable when it has ended.
    pub pidfd: OwnedFd,
    /// Who it runs as.
    pub user: UserStatus,
    /// `HOME` taken from the passwd file because the environment had none.
    pub home: Option<String>,
    /// The terminal's controlling side, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// The container's devpts, for terminals of later execs. Close it when the container has ended. `None` from exec.
    pub devpts: Option<OwnedFd>,
}
