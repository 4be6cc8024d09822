//! Values that the tests of this module start from.

use ports::runtime::{ContainerConfig, SandboxConfig, SandboxMetadata};

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
            ..SandboxMetadata::default()
        },
        hostname: name.into(),
        log_directory: "/no/logs".into(),
        ..SandboxConfig::default()
    }
}
