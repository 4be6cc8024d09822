//! Values that the tests of this module start from.

use ports::runtime::ContainerConfig;

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
