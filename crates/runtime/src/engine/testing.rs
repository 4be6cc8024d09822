//! Values that the tests of this module start from.

use std::collections::BTreeMap;

use ports::runtime::{
    Bandwidth, ContainerConfig, NamespaceMode, NamespaceOptions, Resources, SandboxConfig,
    SandboxMetadata,
};

/// Owned copies.
pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// A container that asks for nothing.
pub(crate) fn container_config(name: &str) -> ContainerConfig {
    ContainerConfig {
        name: name.into(),
        log_path: format!("{name}/0.log").into(),
        ..ContainerConfig::default()
    }
}

/// The sandbox of a Pod that asks for nothing.
pub(crate) fn sandbox_config(namespace: &str, name: &str) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: name.into(),
            uid: format!("uid-of-{name}"),
            namespace: namespace.into(),
            attempt: 0,
        },
        hostname: name.into(),
        log_directory: "/no/logs".into(),
        dns: None,
        namespaces: NamespaceOptions {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
            users: None,
        },
        port_mappings: Vec::new(),
        bandwidth: Bandwidth::default(),
        sysctls: BTreeMap::new(),
        resources: Resources::default(),
        cgroup_parent: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}
