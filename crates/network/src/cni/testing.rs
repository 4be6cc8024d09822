//! What tests of plugins need: Pods, and plugins that are shell scripts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ports::runtime::{
    Bandwidth, NamespaceMode, NamespaceOptions, Resources, SandboxConfig, SandboxMetadata,
};

/// A Pod's sandbox.
pub(super) fn pod(name: &str) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "here".into(),
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

/// Makes a program of a script. Renamed into place, so that nobody finds it open for writing.
pub(super) fn program(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("makes executable");
}
