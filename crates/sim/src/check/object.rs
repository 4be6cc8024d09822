//! What is stored about Pods: each status by itself, and against the one before (19, 20, 22–32, 35).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition, PodStatus};
use lifecycle::{ContainerKind, kinds, restart};

use super::{Checks, Known, again, debug, ensure, pressure, sizes};
use crate::machine::{Machine, Made};

/// Longer than any `postStart` hook, and the telling of it.
const HOOKED: Duration = Duration::from_secs(10);

/// Longer than the pace of reports holds back a start beside another.
const TOLD: Duration = Duration::from_secs(2);

/// More statuses than these that change nothing are no accident.
const IDLE_WRITES: u32 = 10;

type Found = (Option<String>, Result<(), String>);

impl Checks {
    /// A Pod was created or changed.
    pub(crate) fn stored(&mut self, pod: Pod, passed: Duration, now: Timestamp) -> Found {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let known = self.pods.entry(uid).or_default();
        let old = std::mem::replace(&mut known.pod, pod);
        known.idle_writes = 0;
        known.lacked.extend(&self.lacked);
        let pod = &known.pod;
        if pod.metadata.deletion_timestamp.is_some() {
            known.deleted_at.get_or_insert(passed);
        }
        if old.metadata.uid.is_some() {
            known.edited.extend(edited(&old, pod));
            for (name, restarts) in sizes::resized(&old, pod) {
                if restarts {
                    known.edited.insert(name.clone());
                }
                known.resized.insert(name);
            }
        }
        let grace = |pod: &Pod| pod.metadata.deletion_grace_period_seconds;
        if grace(&old) != grace(pod) {
            known.graced_at = passed;
        }
        known.is_over |= is_final(pod);
        let name = pod.metadata.name.clone().unwrap_or_default();
        let line = (summary(&old) != summary(pod)).then(|| format!("{name}: {}", summary(pod)));
        let found = check(known, &old, now, self.clock_went_back);
        let found = found.and_then(|()| pressure::check_evicted(known));
        if old.status != known.pod.status {
            known.told_at = now;
        }
        (line, found.map_err(|text| format!("{text} (of {name})")))
    }

    /// The agent wrote a Pod's status. One whose answer was lost is written again, and changes nothing then; not again and again.
    pub(crate) fn wrote_status(&mut self, name: &str) -> Result<(), String> {
        let named = self.pods.values_mut();
        let mut named =
            named.filter(|k| k.pod.metadata.name.as_deref() == Some(name) && !k.is_gone);
        let Some(known) = named.next() else {
            return Ok(());
        };
        known.idle_writes += 1;
        ensure(known.idle_writes <= IDLE_WRITES, || {
            format!("the status of {name} was written {IDLE_WRITES} times and did not change")
        })
    }

    /// A Pod left the API.
    pub(crate) fn removed(&mut self, pod: Pod, machine: &Machine, passed: Duration) -> Found {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(known) = self.pods.get_mut(&uid) else {
            return (None, Err(format!("{name} was removed and never stored")));
        };
        known.is_gone = true;
        // Back-off goes with the Pod; its images are named after it, and so are those of the next of its name.
        let of_it = format!("{name}-");
        self.pulls.retain(|image, _| !image.starts_with(&of_it));
        // A Pod in a final phase goes as soon as it is deleted; its agent cleans up afterwards.
        let was_over = known.is_over && known.deleted_at.is_none_or(|at| at == passed);
        known.deleted_at.get_or_insert(passed);
        let is_bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let found = if known.is_forced || !is_bound || was_over {
            Ok(())
        } else {
            left_nothing(&uid, &pod, machine)
        };
        (
            Some(format!("{name}: gone")),
            found.map_err(|text| format!("{text} (of {name})")),
        )
    }

    /// The user wants a Pod out of the API at once.
    pub(crate) fn forced(&mut self, name: &str) {
        let named = self.pods.values_mut();
        let named = named.filter(|k| k.pod.metadata.name.as_deref() == Some(name) && !k.is_gone);
        for known in named {
            known.is_forced = true;
        }
    }

    /// What is wrong with the Pods that are left when all is quiet.
    pub(crate) fn settled(&self, machine: &Machine, passed: Duration) -> Result<(), String> {
        self.node_settled()?;
        self.workloads_settled()?;
        for (uid, known) in self.pods.iter().filter(|(_, k)| !k.is_gone) {
            let name = known.pod.metadata.name.as_deref().unwrap_or_default();
            let phase = phase(&known.pod);
            ensure(known.pod.metadata.deletion_timestamp.is_none(), || {
                format!("18: {name} was deleted and is still there, {phase}")
            })?;
            self.sizes_settled(uid, known, machine)?;
            let may_wait = waits(&known.pod) || self.waits_for_room(uid, &known.pod);
            ensure(phase != "Pending" || may_wait, || {
                format!(
                    "{name} is Pending and waits for nothing: {}",
                    summary(&known.pod)
                )
            })?;
            debug::check_settled(known, uid, machine)?;
            for made in machine.running(uid) {
                if is_untold(known, made, passed) {
                    continue;
                }
                let status = known.pod.status.as_ref();
                let mut shown = all(status).chain(debug::told(status));
                let shown = shown.find(|c| c.name == made.status.name);
                let is_shown = shown.is_some_and(|c| state(c).running.is_some());
                ensure(is_shown, || {
                    format!("33: {} of {name} runs and is not said to", made.status.name)
                })?;
            }
        }
        Ok(())
    }

    /// 21: nothing is left of anything.
    pub(crate) fn nothing_left(&self, machine: &Machine) -> Result<(), String> {
        let left = self.pods.values().find(|k| !k.is_gone);
        if let Some(known) = left {
            let name = known.pod.metadata.name.as_deref().unwrap_or_default();
            return Err(format!(
                "19: {name} is still in the API: {}",
                summary(&known.pod)
            ));
        }
        self.no_workload_left()?;
        let named = |uid: &str| self.name(uid);
        if let Some(made) = machine.containers.values().next() {
            let of = named(&made.status.pod_uid);
            return Err(format!(
                "21: a record of {} of {of} is left",
                made.status.name
            ));
        }
        if let Some(sandbox) = machine.sandboxes.values().next() {
            return Err(format!(
                "21: a sandbox of {} is left",
                named(&sandbox.metadata.uid)
            ));
        }
        match machine.volumes.keys().next() {
            Some(uid) => Err(format!("21: the directory of {} is left", named(uid))),
            None => Ok(()),
        }
    }
}

/// Whether a run is not to be said to run yet: a start is told when its `postStart` hook is over, and not at all when that failed
/// (§6). The pace of reports holds others back for two seconds at most.
fn is_untold(known: &Known, made: &Made, passed: Duration) -> bool {
    let name = &made.status.name;
    let members = kinds::members(&known.pod);
    let member = members.iter().find(|m| m.name() == name);
    let hooks = member.and_then(|m| m.spec.lifecycle.as_ref());
    let has_hook = hooks.is_some_and(|hooks| hooks.post_start.is_some());
    let has_failed = known
        .containers
        .get(name)
        .is_some_and(|past| past.has_failed_hook);
    let wait = if has_hook { HOOKED } else { TOLD };
    has_failed || passed.saturating_sub(made.began) < wait
}

/// 19: what a deleted Pod must have left behind before it leaves the API.
fn left_nothing(uid: &str, pod: &Pod, machine: &Machine) -> Result<(), String> {
    if let Some(made) = machine.running(uid).next() {
        return Err(format!("19: the pod goes while {} runs", made.status.name));
    }
    ensure(!machine.volumes.contains_key(uid), || {
        "19: the pod goes before its volumes".to_owned()
    })?;
    ensure(is_final(pod), || {
        format!("19: the pod goes in phase {}", phase(pod))
    })
}

fn check(known: &Known, old: &Pod, now: Timestamp, clock_went_back: bool) -> Result<(), String> {
    let pod = &known.pod;
    let Some(status) = &pod.status else {
        return Ok(());
    };
    check_alone(pod, status, clock_went_back)?;
    if old.metadata.uid.is_none() {
        return Ok(());
    }
    check_object(old, pod)?;
    debug::check_added(old, pod)?;
    match &old.status {
        Some(before) => check_change(known, before, status, now, clock_went_back),
        None => Ok(()),
    }
}

/// 20 and 35: what only the server writes.
fn check_object(old: &Pod, pod: &Pod) -> Result<(), String> {
    let (before, after) = (&old.metadata, &pod.metadata);
    let bound = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.clone());
    let mut same_node = pod.spec.clone().unwrap_or_default();
    same_node.node_name = bound(old);
    let is_changed = Some(&same_node) != old.spec.as_ref();
    let is_deleted = before.deletion_timestamp.is_none() && after.deletion_timestamp.is_some();
    let grown = after.generation.unwrap_or(0) - before.generation.unwrap_or(0);
    ensure(grown == i64::from(is_changed || is_deleted), || {
        format!("35: generation grew by {grown}; spec changed {is_changed}, deleted {is_deleted}")
    })?;
    if let (Some(first), Some(second)) = (&before.deletion_timestamp, &after.deletion_timestamp) {
        // One that comes when the grace was over moves it to now, and leaves a second at most (spec `§2.1`).
        let was_over = after
            .deletion_grace_period_seconds
            .is_some_and(|left| left <= 1);
        ensure(was_over || second.0 <= first.0, || {
            "20: deletionTimestamp moved later".to_owned()
        })?;
    }
    ensure(
        before.deletion_timestamp.is_none() || after.deletion_timestamp.is_some(),
        || "20: a deletion was taken back".to_owned(),
    )
}

/// What holds of every status by itself.
fn check_alone(pod: &Pod, status: &PodStatus, clock_went_back: bool) -> Result<(), String> {
    let is_reported = all(Some(status)).next().is_some();
    let count = all(Some(status)).count();
    ensure(!is_reported || count == kinds::members(pod).len(), || {
        format!("27: {count} statuses")
    })?;
    for container in all(Some(status)) {
        check_container(pod, container, clock_went_back)?;
    }
    let mut bytes = all(Some(status)).filter_map(|c| state(c).terminated?.message);
    let total: usize = bytes.by_ref().map(|m| m.len()).sum();
    ensure(total <= 12_288, || {
        format!("32: {total} bytes of termination messages")
    })?;
    check_ready(pod, status)?;
    debug::check_told(pod, status)?;
    let told = condition(status, "AllContainersRestarting");
    ensure(told.is_none() || again::may_restart_all(pod), || {
        "AllContainersRestarting without such a rule".to_owned()
    })?;
    check_final(pod, status)
}

fn check_container(
    pod: &Pod,
    container: &ContainerStatus,
    clock_went_back: bool,
) -> Result<(), String> {
    let name = &container.name;
    let now = state(container);
    let set = [
        now.running.is_some(),
        now.waiting.is_some(),
        now.terminated.is_some(),
    ];
    ensure(set.iter().filter(|s| **s).count() == 1, || {
        format!("27: state of {name}: {now:?}")
    })?;
    let reason = now
        .waiting
        .clone()
        .and_then(|w| w.reason)
        .unwrap_or_default();
    let has_init = !kinds::init(pod).is_empty();
    ensure(reason != "PodInitializing" || has_init, || {
        format!("31: {name} is PodInitializing")
    })?;
    ensure(reason != "ContainerCreating" || !has_init, || {
        format!("31: {name} is ContainerCreating")
    })?;
    let last = container
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let id = now.terminated.as_ref().and_then(|t| t.container_id.clone());
    ensure(
        id.is_none() || last.is_none_or(|l| l.container_id != id),
        || format!("28: lastState of {name} is its state"),
    )?;
    let end = now.terminated.filter(|t| t.container_id.is_some());
    ensure(
        clock_went_back || end.is_none_or(|t| t.finished_at >= t.started_at),
        || format!("27: {name} ended before it began"),
    )
}

fn check_ready(pod: &Pod, status: &PodStatus) -> Result<(), String> {
    let is = |kind: &str| condition(status, kind).is_some_and(|c| c.status == "True");
    let kind = |c: &ContainerStatus| kinds::kind_of(pod, &c.name);
    let runs = |c: &ContainerStatus| state(c).running.is_some();
    ensure(!is("Ready") || is("ContainersReady"), || {
        "25: Ready without ContainersReady".to_owned()
    })?;
    for c in all(Some(status)) {
        let counts = kind(c) != ContainerKind::Init;
        ensure(!counts || !is("ContainersReady") || c.ready, || {
            format!("25: ContainersReady although {} is not", c.name)
        })?;
        ensure(!counts || !c.ready || c.started == Some(true), || {
            format!("25: {} is ready and not started", c.name)
        })?;
        ensure(c.started != Some(true) || runs(c), || {
            format!("25: {} is started and does not run", c.name)
        })?;
        ensure(
            kind(c) != ContainerKind::App || !runs(c) || is("Initialized"),
            || format!("26: {} runs before Initialized", c.name),
        )?;
    }
    Ok(())
}

/// 23 and 24: what a final phase means.
fn check_final(pod: &Pod, status: &PodStatus) -> Result<(), String> {
    let phase = status.phase.as_deref().unwrap_or_default();
    if !matches!(phase, "Succeeded" | "Failed") {
        return Ok(());
    }
    for c in all(Some(status)) {
        ensure(state(c).running.is_none(), || {
            format!("23: {} runs in phase {phase}", c.name)
        })?;
    }
    for kind in ["Ready", "ContainersReady"] {
        let is_true = condition(status, kind).is_some_and(|c| c.status == "True");
        ensure(!is_true, || format!("23: {kind} in phase {phase}"))?;
    }
    let of = |kind| all(Some(status)).filter(move |c| kinds::kind_of(pod, &c.name) == kind);
    let code = |c: &ContainerStatus| state(c).terminated.map(|t| t.exit_code);
    let well = of(ContainerKind::App).all(|c| code(c) == Some(0));
    // After a sandbox died, init containers run again beside what is known of the apps, and may fail (§3.1 rule 1).
    let init_failed = of(ContainerKind::Init).any(|c| code(c).is_some_and(|code| code != 0));
    // Of a Pod without a node nobody knows how it ended (§2.6).
    let was_garbage = condition(status, "DisruptionTarget")
        .is_some_and(|c| c.reason.as_deref() == Some("DeletionByPodGC"));
    let is_overridden = status.reason.is_some() || was_garbage;
    ensure(
        is_overridden || (phase == "Succeeded") == (well && !init_failed),
        || format!("24: {phase} although the apps ended well: {well}"),
    )
}

fn check_change(
    known: &Known,
    old: &PodStatus,
    new: &PodStatus,
    now: Timestamp,
    clock_went_back: bool,
) -> Result<(), String> {
    let phase = |s: &PodStatus| s.phase.clone().unwrap_or_default();
    let (from, to) = (phase(old), phase(new));
    let was_final = matches!(from.as_str(), "Succeeded" | "Failed");
    ensure(!was_final || from == to, || {
        format!("22: {from} became {to}")
    })?;
    let back = (from.as_str(), to.as_str()) == ("Running", "Pending");
    let is_anew = known.restart_all.is_some() || known.has_restarted_all;
    ensure(!back || known.sandbox_deaths > 0 || is_anew, || {
        "22: Running became Pending".to_owned()
    })?;
    let kept = old.start_time.is_none() || old.start_time == new.start_time;
    ensure(kept, || "29: startTime changed".to_owned())?;
    ensure(old.qos_class == new.qos_class, || {
        "29: qosClass changed".to_owned()
    })?;
    let kept = old.host_ips.is_none() || old.host_ips == new.host_ips;
    ensure(kept, || "29: hostIPs changed".to_owned())?;
    let kept = old.pod_ips.is_none() || old.pod_ips == new.pod_ips;
    ensure(kept || known.sandbox_deaths > 0, || {
        "29: podIPs changed".to_owned()
    })?;
    let generations = (old.observed_generation, new.observed_generation);
    ensure(
        generations.1 >= generations.0 && generations.1 <= known.pod.metadata.generation,
        || format!("30: observedGeneration {generations:?}"),
    )?;
    for after in new.conditions.iter().flatten() {
        if let Some(before) = condition(old, &after.type_) {
            check_condition(before, after, now, known.told_at, clock_went_back)?;
        }
    }
    for after in all(Some(new)) {
        let before = all(Some(old)).find(|c| c.name == after.name);
        ensure(
            before.is_none_or(|b| b.restart_count <= after.restart_count),
            || format!("12: restartCount of {} fell", after.name),
        )?;
    }
    Ok(())
}

fn check_condition(
    before: &PodCondition,
    after: &PodCondition,
    now: Timestamp,
    told_at: Timestamp,
    clock_went_back: bool,
) -> Result<(), String> {
    let name = &after.type_;
    let moved = before.last_transition_time != after.last_transition_time;
    let changed = before.status != after.status;
    // A change and its return may lie between two writes; then the time has moved, and forward.
    let at = |c: &PodCondition| c.last_transition_time.as_ref().map(|t| t.0);
    ensure(
        !moved || changed || at(before) <= at(after) || clock_went_back,
        || format!("30: {name} moved back without a change"),
    )?;
    // Two changes within one second have one time: that of the change is no later than the old value was told, or than now.
    let is_of = |told: Timestamp| {
        let at = after.last_transition_time.as_ref();
        at.is_some_and(|t| told.duration_since(t.0).abs() <= SignedDuration::from_secs(2))
    };
    ensure(!changed || moved || is_of(now) || is_of(told_at), || {
        format!("30: {name} changed without a move")
    })?;
    ensure(
        name != "Initialized" || before.status != "True" || after.status == "True",
        || "26: Initialized was lost".to_owned(),
    )
}

fn all(status: Option<&PodStatus>) -> impl Iterator<Item = &ContainerStatus> {
    let lists = status
        .into_iter()
        .flat_map(|s| [&s.init_container_statuses, &s.container_statuses]);
    lists.flatten().flatten()
}

fn state(container: &ContainerStatus) -> ContainerState {
    container.state.clone().unwrap_or_default()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

fn is_final(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Containers that have another image now.
fn edited(old: &Pod, new: &Pod) -> Vec<String> {
    let (old, new) = (kinds::members(old), kinds::members(new));
    let pairs = old.iter().zip(&new);
    let changed = pairs.filter(|(old, new)| old.spec.image != new.spec.image);
    changed.map(|(_, new)| new.name().to_owned()).collect()
}

/// Whether a container's back-off explains that the Pod is Pending: all others are cured by the calm.
fn waits(pod: &Pod) -> bool {
    let mut reasons = all(pod.status.as_ref()).filter_map(|c| state(c).waiting?.reason);
    let members = kinds::members(pod);
    let restarts = |c: &ContainerStatus| {
        let member = members.iter().find(|m| m.name() == c.name);
        let end = state(c).terminated.zip(member);
        end.is_some_and(|(end, member)| restart::restarts_after(pod, member, end.exit_code))
    };
    reasons.any(|r| {
        matches!(
            r.as_str(),
            "CrashLoopBackOff" | "RunContainerError" | "PostStartHookError"
        )
    }) || all(pod.status.as_ref()).any(restarts)
        || all(pod.status.as_ref()).any(|c| state(c).running.is_some())
}

/// Phase and containers in one line.
fn summary(pod: &Pod) -> String {
    let mut text = phase(pod).to_owned();
    if pod.metadata.deletion_timestamp.is_some() {
        text.push_str(" deleted");
    }
    let status = pod.status.as_ref();
    for container in all(status).chain(debug::told(status)) {
        let now = state(container);
        let word = match (now.running, now.waiting, now.terminated) {
            (Some(_), ..) => "running".to_owned(),
            (_, Some(waiting), _) => waiting.reason.unwrap_or_default(),
            (.., Some(end)) => format!("exit {}", end.exit_code),
            _ => String::new(),
        };
        let ready = if container.ready { "+" } else { "" };
        text.push_str(&format!(
            " {}#{}{ready}={word}",
            container.name, container.restart_count
        ));
    }
    text
}
