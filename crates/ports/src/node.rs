//! What a node agent serves to the API server (upstream's kubelet server on port 10250): logs, exec, attach, port forwarding.

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;

use crate::streams::{ExecRequest, LogStream, Reader, Session, Writer};

/// Which container of which Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Namespace.
    pub namespace: String,
    /// Pod name.
    pub pod: String,
    /// Pod UID.
    pub uid: String,
    /// Container name, already chosen by the API server.
    pub container: String,
}

/// `PodLogOptions`, validated (spec/pod-lifecycle 13.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on until the container stops.
    pub follow: bool,
    /// The instance before this one.
    pub previous: bool,
    /// Prefix lines with their time.
    pub timestamps: bool,
    /// Drop older records.
    pub since: Option<Timestamp>,
    /// Begin this many records before the end.
    pub tail_lines: Option<u64>,
    /// Stop after this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why the agent refused, ready for the API: `code` is the HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct NodeError {
    /// HTTP status code.
    pub code: u16,
    /// Upstream's words.
    pub message: String,
}

/// The node agent's streaming verbs.
#[async_trait]
pub trait NodeServer: Send + Sync {
    /// A container's log.
    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogStream, NodeError>;
    /// Another process in a container.
    async fn exec(&self, target: &Target, request: ExecRequest) -> Result<Session, NodeError>;
    /// A container's own streams.
    async fn attach(&self, target: &Target, stdin: bool) -> Result<Session, NodeError>;
    /// A new connection to a TCP port of a Pod, as if from inside it; `target` names no container.
    async fn port_forward(&self, target: &Target, port: u16)
    -> Result<(Reader, Writer), NodeError>;
}
