//! The end of a Pod: when it is decided (§1.1, §2.8), how much grace it has (§2.3), who is stopped when (§2.4), and what is
//! left to do once nothing runs any more (§1.1 steps 7 and 8, §2.6).
//!
//! The kill is planned as events come in: each look finds which containers are gone by now and stops those whose turn it is.

use std::collections::BTreeMap;

use cri::{ContainerState, ContainerStatus, SandboxState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::events;
use crate::kinds;
use crate::look::Look;
use crate::observed::{ContainerKind, Termination, Verdict, VolumesSeen, WorkerPhase};
use crate::plan::{EventType, NodePolicy, Plan, PreStop, Step, Stop};
use crate::stopping::{self, Hook};
use crate::text;

pub use crate::stopping::LEAST_STOP_SECONDS;

/// `spec.terminationGracePeriodSeconds` when absent (§15.1).
const DEFAULT_GRACE: i64 = 30;

/// The grace the Pod's own containers get, in seconds: what the spec says.
pub fn spec_grace(pod: &Pod) -> i64 {
    pod.spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE)
}

/// The worker's grace in seconds (§2.3): what is `held` already, the deletion's when it is shorter, the spec's when there is
/// neither; 1 when the Pod is gone; never below 1.
pub fn grace(pod: &Pod, held: Option<i64>, gone: bool) -> i64 {
    let deletion = pod
        .metadata
        .deletion_timestamp
        .as_ref()
        .and(pod.metadata.deletion_grace_period_seconds);
    let candidates = [held, deletion, gone.then_some(1)];
    candidates
        .into_iter()
        .flatten()
        .min()
        .unwrap_or_else(|| spec_grace(pod))
        .max(1)
}

/// When the Pod's active deadline is reached (§2.8).
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?;
    Some(text::later(start.0, seconds))
}

/// What is decided about a Pod that passed its active deadline.
pub fn deadline_exceeded() -> Verdict {
    Verdict {
        phase: "Failed".to_owned(),
        reason: "DeadlineExceeded".to_owned(),
        message: "Pod was active on the node longer than the specified deadline".to_owned(),
        event_type: EventType::Normal,
        annotations: BTreeMap::new(),
        disruption: None,
    }
}

/// The Pod's end as far as it is decided from outside its containers, `None` while it lives on.
pub(crate) fn decide(look: &Look<'_>) -> Option<Termination> {
    let memory = &look.seen.memory;
    let held = memory.termination.as_ref();
    let may_be_judged = held.is_none() && !look.stored_terminal() && !look.deleted();
    let late = may_be_judged && deadline(look.pod).is_some_and(|at| look.now >= at);
    let evicted = memory.eviction.as_ref();
    let evicted =
        evicted.filter(|_| may_be_judged && !late && memory.phase == WorkerPhase::Syncing);
    let ends = held.is_some()
        || memory.phase > WorkerPhase::Syncing
        || look.deleted()
        || look.stored_terminal()
        || late
        || evicted.is_some();
    let limit = held.map(|t| t.grace_seconds);
    let most = evicted.and_then(|e| e.grace_seconds);
    let limit = limit.or(most.map(|most| most.min(spec_grace(look.pod))));
    ends.then(|| Termination {
        since: held.map_or(look.now, |t| t.since),
        grace_seconds: grace(look.pod, limit, look.seen.gone),
        verdict: match (late, evicted, held) {
            (true, ..) => Some(deadline_exceeded()),
            (_, Some(eviction), _) => Some(eviction.verdict.clone()),
            _ => held.and_then(|t| t.verdict.clone()),
        },
    })
}

/// Plans the next part of the Pod's end.
pub(crate) fn plan(look: &Look<'_>, end: Termination, policy: &NodePolicy) -> Plan {
    let memory = &look.seen.memory;
    let mut plan = Plan {
        phase: memory.phase.max(WorkerPhase::Terminating),
        ..Plan::default()
    };
    if memory.termination.is_none()
        && let Some(verdict) = &end.verdict
    {
        plan.steps.push(Step::Event(events::judged(verdict)));
    }
    if memory.termination.as_ref() != Some(&end) {
        plan.termination = Some(end.clone());
    }
    plan.because(None, why(look, &end));
    if look.seen.containers.iter().any(|c| look.alive(c)) {
        stop_containers(look, end.since, end.grace_seconds, &mut plan);
    } else if look
        .seen
        .sandboxes
        .iter()
        .any(|s| s.state == SandboxState::Ready)
    {
        if !plan.held_by_retry(look) {
            stop_sandboxes(look, &mut plan);
        }
    } else if let Some(at) =
        shown_until(look, &end, policy).filter(|_| memory.phase < WorkerPhase::Terminated)
    {
        plan.wake_at = Some(at);
        plan.because(None, "its last exit is shown before its end");
    } else if memory.phase < WorkerPhase::Terminated {
        // The last status is written before anything is cleaned up.
        plan.phase = WorkerPhase::Terminated;
        plan.wake_at = Some(look.now);
        plan.because(None, "nothing runs any more");
    } else if !plan.held_by_retry(look) {
        clean_up(look, &mut plan);
    }
    plan
}

/// Until when a Pod that completed by itself keeps its phase. Upstream's agent needs about a second between the last exit and
/// the end of its cleaning up, and clients see a Pod whose containers have ended and which still is `Running`.
fn shown_until(look: &Look<'_>, end: &Termination, policy: &NodePolicy) -> Option<Timestamp> {
    if look.deleted() || end.verdict.is_some() {
        return None;
    }
    let exits = look
        .seen
        .containers
        .iter()
        .filter_map(|container| match &container.state {
            ContainerState::Exited { finished_at, .. } => Some(*finished_at),
            _ => None,
        });
    // An exit in the future is a clock that was set back, and not waited for.
    let last = exits.max().filter(|last| *last <= look.now)?;
    Some(text::after(last, policy.completed_after)).filter(|until| look.now < *until)
}

fn why(look: &Look<'_>, end: &Termination) -> String {
    let cause = match &end.verdict {
        Some(verdict) => format!(
            "it is {} ({})",
            verdict.phase.to_lowercase(),
            verdict.reason
        ),
        None if look.seen.gone => "it is no longer in the API".to_owned(),
        None if look.deleted() => "it was deleted".to_owned(),
        None => "its containers are done".to_owned(),
    };
    format!(
        "the pod ends because {cause}; grace {} s since {}",
        end.grace_seconds,
        text::clock(end.since)
    )
}

/// Stops every sandbox that is still up.
pub(crate) fn stop_sandboxes(look: &Look<'_>, plan: &mut Plan) {
    for sandbox in look
        .sandboxes()
        .into_iter()
        .filter(|s| s.state == SandboxState::Ready)
    {
        plan.steps.push(Step::StopSandbox {
            id: sandbox.id.clone(),
        });
    }
    plan.because(
        None,
        "no container runs in the sandbox any more, so it is stopped",
    );
}

/// Cleans up after the Pod (§1.1 step 8, §2.6, §2.7).
fn clean_up(look: &Look<'_>, plan: &mut Plan) {
    if look.seen.volumes != VolumesSeen::Released {
        plan.steps.push(Step::TearDown);
        plan.because(None, "volumes are unmounted and directories removed");
    } else if look.seen.gone {
        plan.phase = WorkerPhase::Finished;
        remove_records(look, plan);
        plan.because(None, "the pod left the API, so its records go too");
    } else if !look.deleted() {
        plan.phase = WorkerPhase::Finished;
        plan.because(
            None,
            "the pod is finished; its records stay until it is deleted",
        );
    } else if !look.stored_terminal() && !look.is_static() {
        plan.because(
            None,
            "waits for the final status to be stored before the pod is deleted from the API",
        );
    } else if let Some(list) = finalizers(look) {
        plan.because(None, format!("waits for finalizers to be removed: {list}"));
    } else {
        plan.steps.push(Step::DeletePod);
        plan.because(
            None,
            "everything is cleaned up, so the pod is deleted from the API",
        );
    }
}

/// Finalizers that keep the object although its deletion was made final already.
fn finalizers(look: &Look<'_>) -> Option<String> {
    let meta = &look.pod.metadata;
    let list = meta.finalizers.as_deref().unwrap_or_default();
    (!list.is_empty() && meta.deletion_grace_period_seconds == Some(0)).then(|| list.join(", "))
}

fn remove_records(look: &Look<'_>, plan: &mut Plan) {
    let known = |id: &str| look.seen.sandboxes.iter().any(|s| s.id == id);
    for stray in look
        .seen
        .containers
        .iter()
        .filter(|c| !known(&c.sandbox_id))
    {
        plan.steps.push(Step::RemoveContainer {
            id: stray.id.clone(),
            keep_log: false,
        });
    }
    for sandbox in look.sandboxes() {
        plan.steps.push(Step::RemoveSandbox {
            id: sandbox.id.clone(),
        });
    }
}

/// Stops what runs, sidecars last and in reverse order, within `grace` seconds of `since` (§2.4).
pub(crate) fn stop_containers(look: &Look<'_>, since: Timestamp, grace: i64, plan: &mut Plan) {
    let deadline = text::later(since, grace);
    let left = stopping::left(look, since, grace);
    for record in in_spec_order(look) {
        let kind = kinds::kind_of(look.pod, &record.name);
        if let Some(stopping) = look.seen.memory.stopping.get(&record.id) {
            let ends = text::later(stopping.since, stopping.grace_seconds);
            if text::later(look.now, left) < ends {
                plan.steps.push(Step::Stop(stop(record, kind, left, None)));
            }
            plan.because(
                Some(&record.name),
                format!(
                    "was asked to stop and is killed at {}",
                    text::clock(ends.min(text::later(look.now, left)))
                ),
            );
            continue;
        }
        let told = plan.tell(look, format!("killing/{}", record.id));
        let message = (!told).then(|| format!("Stopping container {}", record.name));
        let stop = stop(record, kind, left, message);
        match stopping::hook(look, &stop, deadline) {
            Hook::Begin => {
                plan.steps.push(Step::PreStop(PreStop(stop)));
                plan.wake(deadline);
                plan.because(
                    Some(&record.name),
                    "runs its preStop hook before it is asked to stop",
                );
                continue;
            }
            Hook::Runs => {
                plan.wake(deadline);
                plan.because(
                    Some(&record.name),
                    "is asked to stop when its preStop hook is over",
                );
                continue;
            }
            Hook::Over => {}
        }
        match awaited(look, kind, &record.name) {
            Some(others) if look.now < deadline => {
                if let Some(message) = &stop.message {
                    plan.steps
                        .push(Step::Event(events::killing(kind, &record.name, message)));
                }
                plan.wake(deadline);
                let until = text::clock(deadline);
                plan.because(
                    Some(&record.name),
                    format!(
                        "is stopped after {}, at the latest at {until}",
                        others.join(", ")
                    ),
                );
            }
            _ => {
                plan.because(
                    Some(&record.name),
                    format!("is asked to stop and has {left} s"),
                );
                plan.steps.push(Step::Stop(stop));
            }
        }
    }
}

fn stop(
    record: &ContainerStatus,
    kind: ContainerKind,
    grace_seconds: i64,
    message: Option<String>,
) -> Stop {
    Stop {
        id: record.id.clone(),
        container: record.name.clone(),
        kind,
        grace_seconds,
        message,
        then_restart: false,
    }
}

/// Living records: init containers, apps, then ephemeral containers.
fn in_spec_order<'a>(look: &Look<'a>) -> Vec<&'a ContainerStatus> {
    let names: Vec<_> = kinds::members(look.pod).iter().map(|m| m.name()).collect();
    let rank = |name: &str| names.iter().position(|n| *n == name).unwrap_or(names.len());
    let mut alive: Vec<_> = look
        .seen
        .containers
        .iter()
        .filter(|c| look.alive(c))
        .collect();
    alive.sort_by(|a, b| {
        (rank(&a.name), &a.name, a.created_at).cmp(&(rank(&b.name), &b.name, b.created_at))
    });
    alive
}

/// Whom a container waits for before it is stopped: a sidecar for every app container and every sidecar after it.
fn awaited(look: &Look<'_>, kind: ContainerKind, name: &str) -> Option<Vec<String>> {
    if kind != ContainerKind::Sidecar {
        return None;
    }
    let waits: Vec<String> = kinds::members(look.pod)
        .iter()
        .skip_while(|m| m.name() != name)
        .skip(1)
        .filter(|m| m.kind != ContainerKind::Init)
        .filter(|m| look.living(m.name()).next().is_some())
        .map(|m| m.name().to_owned())
        .collect();
    (!waits.is_empty()).then_some(waits)
}

/// When the stopping that is under way began; now, if nothing was asked to stop yet.
pub(crate) fn began(look: &Look<'_>) -> Timestamp {
    let alive = look.seen.containers.iter().filter(|c| look.alive(c));
    alive
        .filter_map(|c| look.seen.memory.stop_of(&c.id))
        .map(|s| s.since)
        .min()
        .unwrap_or(look.now)
}
