//! A Pod's sandbox as the runtime is asked for it (spec `§1.5`, `§8`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::resize::Allocation;
use lifecycle::{huge_pages, resources};
use ports::runtime::{
    Bandwidth, NamespaceMode, NamespaceOptions, PortMapping, Resources, SandboxConfig,
    SandboxMetadata, SandboxStatus,
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
/// The Pod's full host name does not fit (spec `§8.2`), or its limits of traffic are none.
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
        port_mappings: match on_host {
            true => Vec::new(),
            false => port_mappings(pod),
        },
        bandwidth: bandwidth(pod)?,
        sysctls: sysctls
            .into_iter()
            .map(|s| (s.name.replace('/', "."), s.value))
            .collect(),
        resources: Resources {
            pids_limit: config.pod_pids_limit.map(i64::from),
            huge_pages: huge_pages::of_pod(pod, config.capacity.page_sizes()),
            ..resources::pod(pod)
        },
        cgroup_parent: resources::cgroup_parent(pod),
        labels,
        annotations,
    })
}

/// Host ports of app containers and sidecars.
fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let ports = spec.containers.iter().chain(sidecars);
    let ports = ports.flat_map(|container| container.ports.iter().flatten());
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    ports
        .filter_map(|port| {
            Some(PortMapping {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                container_port: number(port.container_port)?,
                host_port: number(port.host_port?)?,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// The limits of a Pod's traffic, between 1k and 1P bits per second (upstream's util/bandwidth).
fn bandwidth(pod: &Pod) -> Result<Bandwidth, String> {
    let limit = |way: &str| -> Result<Option<u64>, String> {
        let name = format!("kubernetes.io/{way}-bandwidth");
        let annotations = pod.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|all| all.get(&name)) else {
            return Ok(None);
        };
        let wrong = |why: &str| format!("failed to get pod bandwidth: {name} {text:?}: {why}");
        let rate: Quantity = text.parse().map_err(|_| wrong("no quantity"))?;
        match u64::try_from(rate.value()) {
            Ok(rate @ 0..1_000) => Err(wrong(&format!("{rate} is unreasonably small (< 1kbit)"))),
            Ok(rate @ 1_000..=1_000_000_000_000_000) => Ok(Some(rate)),
            Ok(_) => Err(wrong("it is unreasonably large (> 1Pbit)")),
            Err(_) => Err(wrong("it is unreasonably small (< 1kbit)")),
        }
    };
    Ok(Bandwidth {
        ingress_bits: limit("ingress")?,
        egress_bits: limit("egress")?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_traffic_are_as_upstream_has_them() {
        let limits = |text: &str| {
            let pod =
                serde_json::from_value::<Pod>(serde_json::json!({"metadata": {"annotations": {
                "kubernetes.io/egress-bandwidth": text}}}));
            bandwidth(&pod.expect("a Pod")).map(|limits| limits.egress_bits)
        };
        assert_eq!(limits("10M"), Ok(Some(10_000_000)));
        assert_eq!(limits("1k"), Ok(Some(1_000)));
        for (text, why) in [
            ("999", "999 is unreasonably small (< 1kbit)"),
            ("-1M", "it is unreasonably small (< 1kbit)"),
            ("2P", "it is unreasonably large (> 1Pbit)"),
            ("much", "no quantity"),
        ] {
            let error = limits(text).expect_err(why);
            assert!(error.ends_with(why), "{error}");
        }
        assert_eq!(bandwidth(&Pod::default()), Ok(Bandwidth::default()));
    }

    #[test]
    fn host_ports_of_apps_and_sidecars_are_mapped() {
        let pod = serde_json::json!({"spec": {
            "initContainers": [
                {"name": "i", "ports": [{"containerPort": 1, "hostPort": 1}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}],
            "containers": [{"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 8081, "hostIP": "127.0.0.1"}]}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let ports = port_mappings(&pod);
        let ports: Vec<_> = ports
            .iter()
            .map(|p| {
                (
                    p.protocol.as_str(),
                    p.container_port,
                    p.host_port,
                    p.host_ip.as_str(),
                )
            })
            .collect();
        assert_eq!(
            ports,
            [("TCP", 81, 8081, "127.0.0.1"), ("UDP", 53, 5353, "")]
        );
    }
}
