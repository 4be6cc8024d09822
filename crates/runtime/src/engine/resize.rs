//! Changing limits in place (spec/pod-lifecycle 12.7): the cgroup first, then the record, so that a record never claims what the kernel
//! does not do. Cut short in between, the change is simply made again.

use std::collections::BTreeMap;
use std::sync::Arc;

use ports::runtime::{ContainerStatus, Id, Resources, RuntimeError, SandboxState, SandboxStatus};

use super::{Inner, cgroup_error, io_error};

/// Changes what is set of a Pod's limits, and adds annotations.
pub(super) async fn sandbox(
    inner: Arc<Inner>,
    id: Id,
    resources: Resources,
    annotations: BTreeMap<String, String>,
) -> Result<SandboxStatus, RuntimeError> {
    let sandbox = inner.find_sandbox(&id)?;
    let _work = sandbox.work().await;
    // One that was stopped has no cgroup any more.
    if sandbox.status().state == SandboxState::Ready {
        if resources.cpu_quota_us.is_some() {
            lift_ended(&inner, &id);
        }
        let applied = inner.cgroups.pod(&sandbox.record()).update(&resources);
        applied.map_err(cgroup_error("failed to change the Pod's limits"))?;
    }
    sandbox
        .note(&inner, &resources, annotations)
        .map_err(io_error("failed to record the Pod's limits"))?;
    if sandbox.status().state == SandboxState::Ready {
        let weighed = inner.cgroups.weigh(&sandbox.record());
        weighed.map_err(cgroup_error("failed to change the limits of all Pods"))?;
    }
    Ok(sandbox.status())
}

/// Lifts the quotas of containers that have ended: with v1 controllers no quota may be below that of a group in it, and theirs are
/// there until their records go.
fn lift_ended(inner: &Inner, sandbox: &str) {
    let lifted = Resources {
        cpu_quota_us: Some(-1),
        ..Resources::default()
    };
    for container in inner.containers_of(sandbox) {
        if !container.record().is_open() {
            let sandbox = container.sandbox.record();
            // It may have no group any more.
            let _ = inner
                .cgroups
                .container(&sandbox, &container.id)
                .update(&lifted);
        }
    }
}

/// Changes what is set of a container's limits, now if it has a cgroup, or for when it starts; and adds annotations.
pub(super) async fn container(
    inner: Arc<Inner>,
    id: Id,
    resources: Resources,
    annotations: BTreeMap<String, String>,
) -> Result<ContainerStatus, RuntimeError> {
    let container = inner.find_container(&id)?;
    let _work = container.work().await;
    if container.is_running() {
        let group = inner.cgroups.container(&container.sandbox.record(), &id);
        let applied = group.update(&resources);
        applied.map_err(cgroup_error("failed to change the container's limits"))?;
    }
    container
        .note(&inner, &resources, annotations)
        .map_err(io_error("failed to record the container's limits"))?;
    Ok(container.status())
}
