//! What tests of plugins need: Pods, and plugins that are shell scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ports::runtime::{SandboxConfig, SandboxMetadata};

/// A Pod's sandbox.
pub(super) fn pod(name: &str) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "here".into(),
            ..SandboxMetadata::default()
        },
        hostname: name.into(),
        log_directory: "/no/logs".into(),
        ..SandboxConfig::default()
    }
}

/// Makes a program of a script. Renamed into place, so that nobody finds it open for writing.
pub(super) fn program(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("makes executable");
}
