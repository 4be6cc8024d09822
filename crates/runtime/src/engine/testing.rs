//! Values that the tests of this module start from.

use std::collections::BTreeMap;

use ports::runtime::{ContainerConfig, Resources, SeccompProfile, SecurityContext};

/// Owned copies.
pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// A container that asks for nothing.
pub(crate) fn container_config(name: &str) -> ContainerConfig {
    ContainerConfig {
        name: name.into(),
        attempt: 0,
        image_id: String::new(),
        image: String::new(),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        mounts: Vec::new(),
        resources: Resources::default(),
        security: SecurityContext {
            privileged: false,
            run_as_user: None,
            run_as_group: None,
            supplemental_groups: Vec::new(),
            strict_groups: false,
            run_as_non_root: false,
            readonly_rootfs: false,
            no_new_privs: false,
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            seccomp: SeccompProfile::Unconfined,
            unmasked_proc: false,
            pid_target: None,
        },
        log_path: format!("{name}/0.log").into(),
        stdin: false,
        stdin_once: false,
        tty: false,
        stop_signal: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}
