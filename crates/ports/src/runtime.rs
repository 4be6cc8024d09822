//! The container runtime: CRI v1's RuntimeService.
//!
//! Differences from CRI, all of them additions: exits are pushed ([`RuntimeEvent`]) instead of listed for, and a container's stop
//! signal and image configuration are resolved by the runtime from the image port.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
pub use cri::*;
use thiserror::Error;
use tokio::sync::watch;

use crate::network::Unready;
use crate::streams::{ExecRequest, Reader, Session, StreamError, Writer};

/// Each time a log file has grown by so many bytes it is told ([`RuntimeEvent::LogGrown`]); the kubelet's `containerLogMaxSize`.
pub const LARGE_LOG_BYTES: u64 = 10 << 20;

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
    /// A container's log file has grown by another [`LARGE_LOG_BYTES`], and may be renamed and reopened.
    LogGrown {
        /// Pod UID.
        pod_uid: String,
        /// Container id.
        id: Id,
        /// Size of the file in bytes.
        bytes: u64,
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
    /// An image could not be mounted into the container (CRI's error of that name; `CreateContainerError`).
    #[error("ImageVolumeMountFailed: {0}")]
    ImageMount(String),
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
    /// Whether Pods with a network of their own can be made, from now on (the condition `NetworkReady` of CRI's Status).
    fn network_readiness(&self) -> watch::Receiver<Unready> {
        watch::Sender::new(None).subscribe()
    }

    /// Makes and starts a sandbox: pause, namespaces, network.
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus, RuntimeError>;
    /// Kills what runs in it, takes its network down and ends its pause. Records stay.
    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// Removes it, its containers and their records.
    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError>;
    /// Every sandbox, of one Pod when given.
    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Vec<SandboxStatus>;

    /// Prepares a container: root file system, cgroup, log file.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<Id, RuntimeError>;
    /// Starts it; returns once its program is being executed.
    async fn start_container(&self, id: &str) -> Result<ContainerStatus, RuntimeError>;
    /// Sends its stop signal, waits up to `grace`, kills; returns once it has exited.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;
    /// Removes its record, root file system and (unless `keep_log`) its log.
    async fn remove_container(&self, id: &str, keep_log: bool) -> Result<(), RuntimeError>;
    /// Every container, of one Pod when given.
    async fn list_containers(&self, pod_uid: Option<&str>) -> Vec<ContainerStatus>;
    /// Changes limits of a Pod as a whole in place (CRI `UpdatePodSandboxResources`): those that are set. Adds annotations to the
    /// sandbox's record; both are on disk when it returns.
    async fn update_sandbox_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<SandboxStatus, RuntimeError>;
    /// Changes limits of a container in place (CRI `UpdateContainerResources`): those that are set. Adds annotations to its record;
    /// both are on disk when it returns.
    async fn update_container_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<ContainerStatus, RuntimeError>;
    /// Its usage.
    async fn container_stats(&self, id: &str) -> Result<Stats, RuntimeError>;
    /// The directory that holds what a container has written beside its volumes.
    async fn writable_layer(&self, id: &str) -> Result<PathBuf, RuntimeError>;
    /// The kernel's figures for a Pod's cgroup.
    async fn sandbox_stats(&self, id: &str) -> Result<Stats, RuntimeError>;
    /// The kernel's figures for the whole machine.
    async fn node_stats(&self) -> Result<Stats, RuntimeError>;
    /// Makes it write to a new file under its log path, after the old one was renamed.
    async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError>;

    /// Runs another process in a running container.
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Session, StreamError>;
    /// Joins the first process's streams. With a terminal, there is no separate stderr.
    async fn attach(&self, id: &str, stdin: bool) -> Result<Session, StreamError>;
    /// Connects to a TCP port on the loopback of a sandbox's network, IPv4 first.
    async fn port_forward(
        &self,
        sandbox_id: &str,
        port: u16,
    ) -> Result<(Reader, Writer), StreamError>;

    /// Everything that happens from now on, in order. A receiver that lags by more than the channel's bound is told so
    /// (`RecvError::Lagged`) and lists again.
    fn events(&self) -> tokio::sync::broadcast::Receiver<RuntimeEvent>;
}
