//! A Pod's sandbox as the runtime is asked for it (spec `§1.5`, `§8`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use lifecycle::resize::Allocation;
use lifecycle::resources;
use ports::runtime::{
    NamespaceMode, NamespaceOptions, Resources, SandboxConfig, SandboxMetadata, SandboxStatus,
};

use crate::config::Config;
use crate::hosts;

/// Labels every sandbox and container carries, so that its Pod is known without the API.
pub(crate) fn identity(pod: &Pod) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    [
        ("name", &meta.name),
        ("namespace", &meta.namespace),
        ("uid", &meta.uid),
    ]
    .into_iter()
    .map(|(what, value)| {
        let value = value.clone().unwrap_or_default();
        (identity_label(what), value)
    })
    .collect()
}

/// The label that says the `name`, `namespace` or `uid` of a Pod.
pub(crate) fn identity_label(what: &str) -> String {
    format!("io.kubernetes.pod.{what}")
}

/// Where a sandbox's containers are found: at the node's own addresses if they share its network.
pub(crate) fn ips<'a>(sandbox: &'a SandboxStatus, config: &'a Config) -> &'a [IpAddr] {
    match sandbox.namespaces.network {
        NamespaceMode::Node => &config.host_ips,
        _ => &sandbox.ips,
    }
}

/// The configuration of the Pod's sandbox number `attempt`.
///
/// # Errors
/// The Pod's full host name does not fit (spec `§8.2`).
pub(crate) fn config(
    pod: &Pod,
    attempt: u32,
    config: &Config,
    log_directory: PathBuf,
) -> Result<SandboxConfig, String> {
    let meta = &pod.metadata;
    let namespaces = namespaces(pod);
    let on_host = namespaces.network == NamespaceMode::Node;
    let names = hosts::names(pod, &config.cluster_domain)?;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.extend(identity(pod));
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.extend([Allocation::of(pod).note()]);
    let sysctls = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.as_ref())
        .and_then(|c| c.sysctls.clone())
        .unwrap_or_default();
    Ok(SandboxConfig {
        metadata: SandboxMetadata {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            attempt,
        },
        hostname: if on_host { String::new() } else { names.kernel },
        log_directory,
        // The agent writes resolv.conf itself and mounts it into each container.
        dns: None,
        namespaces,
        sysctls: sysctls
            .into_iter()
            .map(|s| (s.name.replace('/', "."), s.value))
            .collect(),
        resources: Resources {
            pids_limit: config.pod_pids_limit.map(i64::from),
            ..resources::pod(pod)
        },
        cgroup_parent: resources::cgroup_parent(pod),
        labels,
        annotations,
    })
}

/// Which namespaces the Pod's containers share (spec `§8.1`).
pub(crate) fn namespaces(pod: &Pod) -> NamespaceOptions {
    let spec = pod.spec.as_ref();
    let set = |flag: Option<bool>| flag.unwrap_or(false);
    let node = |flag: Option<bool>| {
        if set(flag) {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        }
    };
    let pid = match spec {
        Some(s) if set(s.host_pid) => NamespaceMode::Node,
        Some(s) if set(s.share_process_namespace) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    NamespaceOptions {
        network: node(spec.and_then(|s| s.host_network)),
        pid,
        ipc: node(spec.and_then(|s| s.host_ipc)),
        users: None,
    }
}
