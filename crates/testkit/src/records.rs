//! Records as the container runtime keeps them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use ports::runtime::{
    ContainerState, ContainerStatus, NamespaceMode, NamespaceOptions, Resources, SandboxMetadata,
    SandboxState, SandboxStatus,
};

/// So many seconds after 2026-01-01T00:00:00Z.
pub fn at(second: i64) -> Timestamp {
    Timestamp::constant(1_767_225_600, 0) + SignedDuration::from_secs(second)
}

/// Id of the sandbox with this number: `sandbox-0`, `sandbox-1`, …
pub fn sandbox_id(attempt: u32) -> String {
    format!("sandbox-{attempt}")
}

/// Id of a container's record: `<name>-<attempt>`.
pub fn container_id(name: &str, attempt: u32) -> String {
    format!("{name}-{attempt}")
}

/// A sandbox of the Pod [`crate::pod`] makes, with the address 10.0.0.9.
pub fn sandbox(attempt: u32, state: SandboxState) -> SandboxStatus {
    SandboxStatus {
        id: sandbox_id(attempt),
        metadata: SandboxMetadata {
            name: "p".to_owned(),
            uid: "uid".to_owned(),
            namespace: "ns".to_owned(),
            attempt,
        },
        state,
        created_at: at(i64::from(attempt)),
        ips: vec![std::net::IpAddr::from([10, 0, 0, 9])],
        namespaces: NamespaceOptions {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
            users: None,
        },
        resources: Resources::default(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

/// A container that was made and not started.
pub fn created(name: &str, attempt: u32, second: i64) -> ContainerStatus {
    record(name, attempt, second, ContainerState::Created)
}

/// A container that runs since `second`.
pub fn running(name: &str, attempt: u32, second: i64) -> ContainerStatus {
    record(
        name,
        attempt,
        second,
        ContainerState::Running {
            started_at: at(second),
        },
    )
}

/// A container that ran from `from` to `to` and ended with `exit_code`.
pub fn exited(name: &str, attempt: u32, from: i64, to: i64, exit_code: i32) -> ContainerStatus {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let state = ContainerState::Exited {
        started_at: at(from),
        finished_at: at(to),
        exit_code,
        reason: reason.to_owned(),
        message: String::new(),
    };
    record(name, attempt, from, state)
}

/// A container nobody knows anything about.
pub fn unknown(name: &str, attempt: u32, second: i64) -> ContainerStatus {
    record(name, attempt, second, ContainerState::Unknown)
}

/// A record in sandbox 0.
fn record(name: &str, attempt: u32, second: i64, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        id: container_id(name, attempt),
        sandbox_id: sandbox_id(0),
        pod_uid: "uid".to_owned(),
        name: name.to_owned(),
        attempt,
        state,
        created_at: at(second),
        image: "docker.io/library/busybox:1.36".to_owned(),
        image_ref: "docker.io/library/busybox@sha256:feed".to_owned(),
        user: None,
        log_path: PathBuf::from(format!("/logs/{name}/{attempt}.log")),
        resources: Resources::default(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}
