//! Containers: what they are made from, and where they are in their life.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Id;

/// Limits of a cgroup in kernel units (CRI `LinuxContainerResources`). `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// CFS quota in microseconds per period.
    pub cpu_quota_us: Option<i64>,
    /// v1 CPU shares, 2 to 262144; v2 weight is derived from it.
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit_bytes: Option<i64>,
    /// Most processes.
    pub pids_limit: Option<i64>,
    /// Whether an OOM kills all processes together (v2 `memory.oom.group`).
    pub oom_group: Option<bool>,
    /// `oom_score_adj` of the first process, −1000 to 1000; negative values are best effort.
    pub oom_score_adj: Option<i32>,
    /// Most bytes in huge pages, by the bytes of a page (CRI `HugepageLimit`); sizes that are not named have no limit.
    #[serde(default)]
    pub huge_pages: BTreeMap<u64, u64>,
}

impl Resources {
    /// These, with what `changes` sets in place of what was there.
    pub fn with(&self, changes: &Resources) -> Resources {
        Resources {
            cpu_period_us: changes.cpu_period_us.or(self.cpu_period_us),
            cpu_quota_us: changes.cpu_quota_us.or(self.cpu_quota_us),
            cpu_shares: changes.cpu_shares.or(self.cpu_shares),
            memory_limit_bytes: changes.memory_limit_bytes.or(self.memory_limit_bytes),
            pids_limit: changes.pids_limit.or(self.pids_limit),
            oom_group: changes.oom_group.or(self.oom_group),
            oom_score_adj: changes.oom_score_adj.or(self.oom_score_adj),
            huge_pages: self
                .huge_pages
                .iter()
                .chain(&changes.huge_pages)
                .map(|(size, limit)| (*size, *limit))
                .collect(),
        }
    }
}

/// How mounts made later are seen (CRI `MountPropagation`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    /// Not at all (rprivate).
    #[default]
    Private,
    /// Mounts of the node appear in the container (rslave).
    HostToContainer,
    /// And the container's appear on the node (rshared).
    Bidirectional,
}

/// A bind mount (CRI `Mount`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container; made if absent, resolved inside the root.
    pub container_path: PathBuf,
    /// Path on the node.
    pub host_path: PathBuf,
    /// Mount read-only.
    pub readonly: bool,
    /// Submounts read-only too.
    pub recursive_readonly: bool,
    /// Propagation.
    pub propagation: MountPropagation,
}

/// An image's content, mounted read-only (CRI `Mount` with `image` and `image_sub_path`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// Absolute path inside the container; made if absent, resolved inside the root.
    pub container_path: PathBuf,
    /// Image id, [`crate::images::Image::id`].
    pub image_id: String,
    /// The name the user gave the image, for messages.
    pub image: String,
    /// What of the image to mount: a relative path, resolved inside the image. Empty is all of it.
    pub sub_path: PathBuf,
}

/// Which seccomp filter to install (CRI `SecurityProfile`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// The engine's default profile.
    RuntimeDefault,
    /// None.
    #[default]
    Unconfined,
    /// A profile file of the node, in the OCI/Docker JSON form.
    Localhost(PathBuf),
}

/// Who the process is and what it may do (CRI `LinuxContainerSecurityContext`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// All capabilities, all devices, nothing masked.
    pub privileged: bool,
    /// `runAsUser`; else the image's `USER`.
    pub run_as_user: Option<u32>,
    /// `runAsGroup`; else the image's, else the user's primary group.
    pub run_as_group: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    pub supplemental_groups: Vec<u32>,
    /// Leave out the groups of the image's `/etc/group` (`supplementalGroupsPolicy: Strict`).
    pub strict_groups: bool,
    /// Refuse to start as uid 0.
    pub run_as_non_root: bool,
    /// Root file system read-only.
    pub readonly_rootfs: bool,
    /// Set `no_new_privs` (`allowPrivilegeEscalation: false`).
    pub no_new_privs: bool,
    /// Capabilities added to the default set, without `CAP_`; `ALL` is everything.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped from the default set; `ALL` is everything.
    pub drop_capabilities: Vec<String>,
    /// Seccomp filter.
    pub seccomp: SeccompProfile,
    /// Leave /proc unmasked (`procMount: Unmasked`).
    pub unmasked_proc: bool,
    /// Join the PID namespace of this container instead (`targetContainerName`).
    pub pid_target: Option<Id>,
}

/// What a container is made from (CRI `ContainerConfig`). The default asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Container name in the Pod.
    pub name: String,
    /// Restart count (CRI `attempt`).
    pub attempt: u32,
    /// Image id, [`crate::images::Image::id`].
    pub image_id: String,
    /// The name the user gave the image, resolved: returned in status.
    pub image: String,
    /// Replaces `ENTRYPOINT` when not empty (and with it `CMD`).
    pub command: Vec<String>,
    /// Replaces `CMD` when not empty.
    pub args: Vec<String>,
    /// Replaces `WORKDIR` when not empty.
    pub working_dir: String,
    /// Environment; wins over the image's.
    pub env: Vec<(String, String)>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Mounts of images, in order.
    #[serde(default)]
    pub image_mounts: Vec<ImageMount>,
    /// Limits.
    pub resources: Resources,
    /// Identity and rights.
    pub security: SecurityContext,
    /// Log file below the sandbox's log directory: `<container>/<attempt>.log`.
    pub log_path: PathBuf,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close standard input after the first attach ends.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Overrides the image's `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// Labels, kept and returned.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept and returned: how the agent finds hash, grace and hooks again after a restart.
    pub annotations: BTreeMap<String, String>,
}

/// Where a container is in its life (CRI `ContainerState` with its fields).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its first process runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Its first process has ended, or never came to be.
    Exited {
        /// When it started; the epoch if it could not be started.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
        /// Exit code; 128 + N for signal N.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled`, `StartError` or `Unknown`.
        reason: String,
        /// The runtime's own message (StartError), else empty.
        message: String,
    },
    /// It existed, and nobody knows what became of it.
    Unknown,
}

/// First process's identity as it was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All its groups, primary included.
    pub supplemental_groups: Vec<u32>,
}

/// A container as it is (CRI `ContainerStatus`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: Id,
    /// Its sandbox.
    pub sandbox_id: Id,
    /// Its Pod's UID.
    pub pod_uid: String,
    /// Its name in the Pod.
    pub name: String,
    /// Restart count it was made with.
    pub attempt: u32,
    /// State.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Image name as resolved.
    pub image: String,
    /// Image reference for `imageID`: `repo@sha256:…`, else `sha256:<id>`.
    pub image_ref: String,
    /// First process's identity, once started.
    pub user: Option<UserStatus>,
    /// Absolute log file.
    pub log_path: PathBuf,
    /// Limits in force.
    pub resources: Resources,
    /// Labels it was made with.
    pub labels: BTreeMap<String, String>,
    /// Annotations it was made with, and those added since.
    pub annotations: BTreeMap<String, String>,
}
