//! Ephemeral containers (§7): once, for nobody else's sake, and to the end of the Pod or of the user's patience (9, 13, 23, 27, 37).

use k8s_openapi::api::core::v1::{ContainerStatus, EphemeralContainer, Pod, PodStatus};
use lifecycle::{ContainerKind, kinds};
use ports::runtime::SandboxState;

use super::{Known, ensure};
use crate::machine::{Machine, Made};

/// As the spec has them.
pub(super) fn specs(pod: &Pod) -> &[EphemeralContainer] {
    let spec = pod.spec.as_ref();
    let list = spec.and_then(|s| s.ephemeral_containers.as_deref());
    list.unwrap_or_default()
}

/// As the status has them.
pub(super) fn told(status: Option<&PodStatus>) -> impl Iterator<Item = &ContainerStatus> {
    let lists = status.and_then(|s| s.ephemeral_container_statuses.as_deref());
    lists.unwrap_or_default().iter()
}

fn is_asked_to_end(pod: &Pod, name: &str) -> bool {
    api::asks::stopped(pod.metadata.annotations.as_ref()).contains(name)
}

/// 9: it starts once, and sees the processes of the run it was meant for.
pub(super) fn check_start(known: &Known, made: &Made, machine: &Machine) -> Result<(), String> {
    let name = &made.status.name;
    let runs = known.containers.get(name).map_or(0, |past| past.runs);
    ensure(runs == 0 && made.status.attempt == 0, || {
        format!(
            "9: {name} runs as #{} after {runs} runs",
            made.status.attempt
        )
    })?;
    let Some(spec) = specs(&known.pod).iter().find(|c| c.name == *name) else {
        return Err(format!("{name} starts and is not in the spec"));
    };
    let newest = spec.target_container_name.as_ref().and_then(|target| {
        let all = machine.containers.values().map(|c| &c.status);
        let of_it = all.filter(|c| c.pod_uid == made.status.pod_uid && c.name == *target);
        of_it.max_by_key(|c| c.attempt).map(|c| c.id.clone())
    });
    let joined = &made.config.security.pid_target;
    // Its target may have ended, and begun anew, since it was made.
    let is_older = joined.as_ref() < newest.as_ref();
    ensure(*joined == newest || joined.is_some() && is_older, || {
        format!("{name} joins {joined:?} and not {newest:?}")
    })
}

/// 13: nothing but its Pod's end or its user's wish ends it.
pub(super) fn check_stop(known: &Known, made: &Made, machine: &Machine) -> Result<(), String> {
    let name = &made.status.name;
    let sandbox = machine.sandboxes.get(&made.status.sandbox_id);
    let is_sound = sandbox.is_some_and(|s| s.state == SandboxState::Ready);
    // Who has failed its probe for good is not kept, and a Pod that keeps nobody ends.
    let is_kept = |made: &Made| {
        let name = &made.status.name;
        kinds::kind_of(&known.pod, name) == ContainerKind::App && !known.has_cause(name)
    };
    let has_apps = machine.running(&made.status.pod_uid).any(is_kept);
    let is_asked = is_asked_to_end(&known.pod, name);
    ensure(
        is_asked || known.may_end() || !is_sound || !has_apps,
        || format!("13: {name} is stopped and nobody asked for it"),
    )
}

/// 27 and 23: what is said of them.
pub(super) fn check_told(pod: &Pod, status: &PodStatus) -> Result<(), String> {
    let names: Vec<&str> = told(Some(status)).map(|c| c.name.as_str()).collect();
    ensure(names.windows(2).all(|pair| pair[0] < pair[1]), || {
        format!("27: ephemeral containers are told as {names:?}")
    })?;
    let phase = status.phase.as_deref().unwrap_or_default();
    for container in told(Some(status)) {
        let name = &container.name;
        ensure(specs(pod).iter().any(|c| c.name == *name), || {
            format!("27: {name} is told and not in the spec")
        })?;
        let plain = !container.ready && container.started.is_none();
        ensure(plain && container.restart_count == 0, || {
            format!("25: {name} is ready, started or restarted")
        })?;
        let state = container.state.clone().unwrap_or_default();
        let is_final = matches!(phase, "Succeeded" | "Failed");
        ensure(!is_final || state.running.is_none(), || {
            format!("23: {name} runs in phase {phase}")
        })?;
    }
    Ok(())
}

/// 37: they are only added, and what was told of one is not forgotten.
pub(super) fn check_added(old: &Pod, new: &Pod) -> Result<(), String> {
    let mut before = specs(old).iter();
    ensure(before.all(|c| specs(new).contains(c)), || {
        "37: ephemeral containers were changed or removed".to_owned()
    })?;
    let now = |name: &str| told(new.status.as_ref()).any(|c| c.name == name);
    let lost = told(old.status.as_ref()).find(|c| !now(&c.name));
    ensure(lost.is_none(), || {
        format!("27: {:?} is told no more", lost.map(|c| &c.name))
    })
}

/// When all is quiet: who can have run has run, and who was asked to end has ended.
pub(super) fn check_settled(known: &Known, uid: &str, machine: &Machine) -> Result<(), String> {
    let sandboxes = machine.sandboxes.values();
    let mut own = sandboxes.filter(|s| s.metadata.uid == uid);
    let is_up = own.any(|s| s.state == SandboxState::Ready);
    for spec in specs(&known.pod).iter().filter(|_| is_up) {
        let name = &spec.name;
        let is_asked = is_asked_to_end(&known.pod, name);
        let has_run = known.containers.get(name).is_some_and(|p| p.runs > 0);
        let can_run = !is_asked && spec.target_container_name.is_none();
        ensure(has_run || !can_run, || format!("{name} never ran"))?;
        let runs = machine.running(uid).any(|c| c.status.name == *name);
        ensure(!runs || !is_asked, || {
            format!("{name} runs although it was asked to end")
        })?;
    }
    Ok(())
}
