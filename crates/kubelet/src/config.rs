//! What a node agent is told about itself and its node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use lifecycle::image::access::Verification;
use lifecycle::pressure::Policy;
use lifecycle::{NodePolicy, UnsafeSysctls};
use ports::runtime::IdMapping;

/// Settings of one node agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Node object, and of the node in events.
    pub node_name: String,
    /// The agent's own directory on the node; seccomp profiles are below `seccomp/` (spec `§11.5`).
    pub root: PathBuf,
    /// Directory of container logs, `/var/log/pods` upstream (spec `§13.1`).
    pub log_root: PathBuf,
    /// Directory of manifests of static Pods, if there is one (`staticPodPath`).
    pub static_pod_path: Option<PathBuf>,
    /// Domain of the cluster's names: `cluster.local`.
    pub cluster_domain: String,
    /// Name servers of Pods with `dnsPolicy: ClusterFirst`; none falls back to the node's (spec `§8.4`).
    pub cluster_dns: Vec<IpAddr>,
    /// Whether the node says by a Lease that it is there: its API server is elsewhere.
    pub has_lease: bool,
    /// Where the node serves what the API server asks of it, unless that asks in-process.
    pub kubelet_port: Option<u16>,
    /// Most Pods the node takes.
    pub max_pods: u32,
    /// Ids for Pods with users of their own, or why there are none ([`crate::user_ids`]).
    pub user_ids: Result<IdMapping, String>,
    /// What the node has.
    pub capacity: Capacity,
    /// Addresses of the node, primary first.
    pub host_ips: Vec<IpAddr>,
    /// Ranges its Pods have their addresses from, as CIDR, primary first.
    pub pod_ranges: Vec<String>,
    /// The node's resolver configuration, `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// The node's host table, `/etc/hosts`.
    pub hosts_file: PathBuf,
    /// Seconds and delays the lifecycle rules depend on.
    pub policy: NodePolicy,
    /// Most processes and threads of a Pod; `None` is as many as the node has (`podPidsLimit`).
    pub pod_pids_limit: Option<u32>,
    /// On cgroup v2 an OOM kills one process of a container instead of all (`singleProcessOOMKill`).
    pub single_process_oom_kill: bool,
    /// Sysctls that Pods may set although they are not safe.
    pub unsafe_sysctls: UnsafeSysctls,
    /// What the node must have left, or Pods have to go; without thresholds nothing is looked at (spec `§2.9`).
    pub evictions: Policy,
    /// Which images that are here may not be used by every Pod (spec `§4.4` rule 3).
    pub verification: Verification,
    /// The kernel's log, `/dev/kmsg`; without it nobody hears of processes killed because the node ran out of memory.
    pub kernel_log: Option<PathBuf>,
    /// What `status.nodeInfo` says.
    pub info: NodeInfo,
}

/// What the node has to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Bytes of the file system that holds the agent's root.
    pub storage_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Huge pages that are set aside, by the bytes of a page; of each size that the kernel has, also of none.
    pub huge_pages: BTreeMap<u64, u64>,
}

impl Capacity {
    /// Sizes of huge pages, in bytes, of which there are any: those that are limited.
    pub fn page_sizes(&self) -> impl Iterator<Item = u64> {
        let set_aside = self.huge_pages.iter().filter(|(_, count)| **count > 0);
        set_aside.map(|(size, _)| *size)
    }
}

/// Facts for `status.nodeInfo`; empty strings where the machine does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// DMI product UUID.
    pub system_uuid: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// Name and version of the container runtime: `carob://0.1.0`.
    pub container_runtime_version: String,
    /// Version of the node agent, as `v1.36.0`.
    pub kubelet_version: String,
    /// GOARCH name of the processor: `amd64`, `arm64`.
    pub architecture: String,
}
