//! Stopping one container: its `preStop` hook, then the stop signal, both within one grace (§2.3, §6).

use cri::ContainerStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Probe};

use crate::kinds;
use crate::look::Look;
use crate::plan::{Plan, PreStop, Step, Stop};
use crate::termination::spec_grace;
use crate::text;

/// Least time between the stop signal and SIGKILL, in seconds (§2.3 step 6).
pub const LEAST_STOP_SECONDS: i64 = 2;

/// Where a container that is to be stopped is with its `preStop` hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// It has one that is to be run now.
    Begin,
    /// It is under way.
    Runs,
    /// Nothing holds the stop signal back.
    Over,
}

/// How far the hook of a container is that has until `deadline` in all.
pub(crate) fn hook(look: &Look<'_>, stop: &Stop, deadline: Timestamp) -> Hook {
    match look.seen.memory.pre_stops.get(&stop.id) {
        Some(hook) if hook.is_over || look.now >= deadline => Hook::Over,
        Some(_) => Hook::Runs,
        None if has_hook(look.pod, &stop.container) && look.runs(&stop.id) => Hook::Begin,
        None => Hook::Over,
    }
}

fn has_hook(pod: &Pod, name: &str) -> bool {
    let members = kinds::members(pod);
    let member = members.iter().find(|m| m.name() == name);
    let lifecycle = member.and_then(|m| m.spec.lifecycle.as_ref());
    lifecycle.is_some_and(|hooks| hooks.pre_stop.is_some())
}

/// Seconds left of a grace that began at `since`; never below the least.
pub(crate) fn left(look: &Look<'_>, since: Timestamp, grace: i64) -> i64 {
    let elapsed = look.now.duration_since(since).as_secs().max(0);
    grace.saturating_sub(elapsed).max(LEAST_STOP_SECONDS)
}

/// Takes the next step towards stopping one container by itself. A stop that was begun is carried out as it was meant.
pub(crate) fn stop_alone(look: &Look<'_>, mut stop: Stop, plan: &mut Plan) {
    let memory = &look.seen.memory;
    if memory.stopping.contains_key(&stop.id) {
        return;
    }
    let begun = memory.pre_stops.get(&stop.id).map(|hook| &hook.stop);
    let since = begun.map_or(look.now, |begun| begun.since);
    if let Some(begun) = begun {
        stop.then_restart = begun.then_restart;
        stop.grace_seconds = begun.grace_seconds;
        stop.message = None;
    }
    let deadline = text::later(since, stop.grace_seconds);
    match hook(look, &stop, deadline) {
        Hook::Begin => plan.steps.push(Step::PreStop(PreStop(stop))),
        Hook::Runs => plan.wake(deadline),
        Hook::Over => {
            stop.grace_seconds = left(look, since, stop.grace_seconds);
            plan.steps.push(Step::Stop(stop));
        }
    }
}

/// Whether the hook of this run was begun, so that it will be stopped whatever else happens.
pub(crate) fn is_begun(look: &Look<'_>, record: &ContainerStatus) -> bool {
    look.seen.memory.pre_stops.contains_key(&record.id)
}

/// Seconds a container killed on its own gets (§2.3): its probe's when it is killed for that and the probe has its own, else the
/// Pod's; never below the least.
pub(crate) fn single_grace(pod: &Pod, probe: Option<&Probe>) -> i64 {
    probe
        .and_then(|probe| probe.termination_grace_period_seconds)
        .unwrap_or_else(|| spec_grace(pod))
        .max(LEAST_STOP_SECONDS)
}
