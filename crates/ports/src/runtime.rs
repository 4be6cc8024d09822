//! The container runtime: CRI v1's RuntimeService in plain values.
//!
//! Differences from CRI, all of them additions: exits are pushed ([`RuntimeEvent`]) instead of listed for, and a container's stop
//! signal and image configuration are resolved by the runtime from the image port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::streams::{ExecRequest, Session, StreamError};

/// Sandbox or container id: 64 lower-case hex digits.
pub type Id = String;

// ---- sandboxes -------------------------------------------------------------------------------------------------------

/// Whose namespace a process lives in (CRI `NamespaceMode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Shared by the Pod's containers.
    #[default]
    Pod,
    /// The container's own.
    Container,
    /// The node's.
    Node,
}

/// Namespaces of a sandbox (CRI `NamespaceOption`). UTS goes with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    /// `Node` for hostNetwork, else `Pod`.
    pub network: NamespaceMode,
    /// `Node` for hostPID, `Pod` for shareProcessNamespace, else `Container`.
    pub pid: NamespaceMode,
    /// `Node` for hostIPC, else `Pod`.
    pub ipc: NamespaceMode,
}

/// Which Pod, and which try (CRI `PodSandboxMetadata`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxMetadata {
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// Pod namespace.
    pub namespace: String,
    /// Counts sandboxes of this Pod, from 0.
    pub attempt: u32,
}

/// Resolver settings written to the Pod's resolv.conf (CRI `DNSConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search list.
    pub searches: Vec<String>,
    /// Options, such as `ndots:5`.
    pub options: Vec<String>,
}

/// What a sandbox is made from (CRI `PodSandboxConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Which Pod.
    pub metadata: SandboxMetadata,
    /// Host name; ignored with the node's network.
    pub hostname: String,
    /// Where container logs go, absolute: `<log root>/<ns>_<pod>_<uid>`.
    pub log_directory: PathBuf,
    /// Resolver settings; `None` leaves resolv.conf to the caller's mounts.
    pub dns: Option<DnsConfig>,
    /// Namespaces.
    pub namespaces: NamespaceOptions,
    /// Sysctls by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the whole Pod's cgroup.
    pub resources: Resources,
    /// `cgroup_parent` below the engine's own root: `besteffort/pod<uid>`, `burstable/pod<uid>` or `pod<uid>`.
    pub cgroup_parent: String,
    /// Labels, kept and returned.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept and returned.
    pub annotations: BTreeMap<String, String>,
}

/// Whether a sandbox can take containers (CRI `PodSandboxState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Its pause runs and its network is up.
    Ready,
    /// It was stopped, or its pause is gone.
    NotReady,
}

/// A sandbox as it is (CRI `PodSandboxStatus`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// Its id.
    pub id: Id,
    /// Which Pod.
    pub metadata: SandboxMetadata,
    /// State.
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Pod addresses, primary first; empty with the node's network.
    pub ips: Vec<IpAddr>,
    /// Namespaces it was made with.
    pub namespaces: NamespaceOptions,
    /// Labels it was made with.
    pub labels: BTreeMap<String, String>,
    /// Annotations it was made with.
    pub annotations: BTreeMap<String, String>,
}

// ---- containers ------------------------------------------------------------------------------------------------------

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
    /// `oom_score_adj` of the first process, −1000 to 1000; negative values are best effort.
    pub oom_score_adj: Option<i32>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What a container is made from (CRI `ContainerConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Annotations it was made with.
    pub annotations: BTreeMap<String, String>,
}

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

/// Something that happened, told at the moment it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container changed state (started or exited). The status is whole, so nobody needs to ask back.
    Container(Box<ContainerStatus>),
    /// A container record was removed.
    ContainerRemoved {
        /// Pod UID.
        pod_uid: String,
        /// Container id.
        id: Id,
    },
    /// A sandbox became ready, was stopped or lost its pause.
    Sandbox(Box<SandboxStatus>),
}

/// Why the runtime failed.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// No such sandbox or container. Stopping and removing treat it as done.
    #[error("{what} {id} not found")]
    NotFound {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Its id.
        id: Id,
    },
    /// The sandbox or container is in no state for this.
    #[error("{what} {id} is {state}")]
    State {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Its id.
        id: Id,
        /// Its state.
        state: String,
    },
    /// The configuration cannot be carried out; the user must change it (`CreateContainerConfigError`).
    #[error("{0}")]
    Config(String),
    /// The container could not be made (`CreateContainerError`).
    #[error("failed to create container: {0}")]
    Create(String),
    /// The process could not be started (`RunContainerError`); a record with exit code 128 and reason `StartError` is left.
    #[error("failed to start container {id:?}: {reason}")]
    Start {
        /// Container id.
        id: Id,
        /// The launcher's words.
        reason: String,
    },
    /// The network could not be set up.
    #[error("failed to setup network for sandbox {id:?}")]
    Network {
        /// Sandbox id.
        id: Id,
        /// Cause.
        #[source]
        source: crate::network::NetworkError,
    },
    /// The kernel, the disk or the Pod's pause failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// CRI's RuntimeService. Every verb may be repeated; dropping a future leaves nothing half-made.
#[async_trait]
pub trait ContainerRuntime: Send + Sync {
    /// Makes and starts a sandbox: pause, namespaces, network.
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus, RuntimeError>;
    /// Kills what runs in it, takes its network down and ends its pause. Records stay.
    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// Removes it, its containers and their records.
    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// Every sandbox, of one Pod when given.
    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Vec<SandboxStatus>;

    /// Prepares a container: root file system, cgroup, log file.
    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<Id, RuntimeError>;
    /// Starts it; returns once its program is being executed.
    async fn start_container(&self, id: &str) -> Result<ContainerStatus, RuntimeError>;
    /// Sends its stop signal, waits up to `grace`, kills; returns once it has exited.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;
    /// Removes its record, root file system and (unless `keep_log`) its log.
    async fn remove_container(&self, id: &str, keep_log: bool) -> Result<(), RuntimeError>;
    /// Every container, of one Pod when given.
    async fn list_containers(&self, pod_uid: Option<&str>) -> Vec<ContainerStatus>;
    /// Changes its limits in place.
    async fn update_resources(&self, id: &str, resources: Resources) -> Result<(), RuntimeError>;
    /// Its usage.
    async fn container_stats(&self, id: &str) -> Result<Stats, RuntimeError>;
    /// The kernel's figures for a Pod's cgroup.
    async fn sandbox_stats(&self, id: &str) -> Result<Stats, RuntimeError>;
    /// Makes it write to a new file under its log path, after the old one was renamed.
    async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError>;

    /// Runs another process in a running container.
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Session, StreamError>;
    /// Joins the first process's streams. With a terminal, there is no separate stderr.
    async fn attach(&self, id: &str, stdin: bool) -> Result<Session, StreamError>;

    /// Everything that happens from now on, in order. A receiver that lags by more than the channel's bound is told so
    /// (`RecvError::Lagged`) and lists again.
    fn events(&self) -> tokio::sync::broadcast::Receiver<RuntimeEvent>;
}
