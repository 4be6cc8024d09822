//! Sandboxes: what a Pod's containers share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Id, Resources};

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

/// Ids of a Pod's own user namespace (CRI `IDMapping`), the same for uids and gids; inside they begin at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id of the node.
    pub host_id: u32,
    /// How many.
    pub length: u32,
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
    /// The Pod's own users (`hostUsers: false`), who then own its other namespaces; `None` for the node's. Takes a network and an IPC
    /// namespace of the Pod's own.
    #[serde(default)]
    pub users: Option<IdMapping>,
}

impl Default for NamespaceOptions {
    /// Those of a Pod that shares nothing with the node, and whose containers do not see each other's processes.
    fn default() -> Self {
        NamespaceOptions {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
            users: None,
        }
    }
}

/// Which Pod, and which try (CRI `PodSandboxMetadata`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A port of the node that leads to the Pod (CRI `PortMapping`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port inside the Pod.
    pub container_port: u16,
    /// Port of the node.
    pub host_port: u16,
    /// Address of the node; empty for all of them.
    pub host_ip: String,
}

/// How much a Pod may receive and send, in bits per second; for networks that can limit it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// To the Pod.
    pub ingress_bits: Option<u64>,
    /// From the Pod.
    pub egress_bits: Option<u64>,
}

/// What a sandbox is made from (CRI `PodSandboxConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Ports of the node.
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
    /// Limits of traffic.
    #[serde(default)]
    pub bandwidth: Bandwidth,
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
    /// Limits of the Pod as a whole that are in force.
    pub resources: Resources,
    /// Labels it was made with.
    pub labels: BTreeMap<String, String>,
    /// Annotations it was made with, and those added since.
    pub annotations: BTreeMap<String, String>,
}
