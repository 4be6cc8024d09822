//! What a node agent serves to the API server (upstream's kubelet server on port 10250): logs, exec, attach, port forwarding, usage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
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

/// Processors and memory in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Billionths of a processor, on average over the window.
    pub nano_cpus: u64,
    /// Processor time since it began, at the window's end, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory without reclaimable cache at the window's end, in bytes.
    pub memory_bytes: u64,
}

/// What is used on a node, as measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The window's end.
    pub at: Timestamp,
    /// What it was measured over.
    pub window: Duration,
    /// The node's name.
    pub node_name: String,
    /// By the whole machine.
    pub node: Used,
    /// By those containers of the Pods asked for that ran all the time: by Pod UID, then by name.
    pub pods: BTreeMap<String, BTreeMap<String, Used>>,
}

/// The node agent's verbs.
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
    /// The node's Pods as API objects, with the status the agent knows.
    async fn pods(&self) -> Vec<Value>;
    /// What is used now: by the machine, and by the Pods with these UIDs. Takes as long as it measures.
    async fn usage(&self, pods: &BTreeSet<String>) -> Result<Usage, NodeError>;
}
