//! Runs: who may start when (1–3, 5, 6, 8), how often (9, 11, 12), and how pulls are spaced (15).

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use lifecycle::kinds::Member;
use lifecycle::{ContainerKind, kinds};
use ports::runtime::{ContainerState, SandboxState};

use super::{Checks, DELAYS, FORGOTTEN, Known, Past, Pulls, again, debug, ensure, since};
use crate::machine::{Exit, Machine, Made};

impl Checks {
    /// A container's program is executed now (and may not be found).
    pub(crate) fn started(
        &mut self,
        made: &Made,
        machine: &Machine,
        passed: Duration,
        now: Timestamp,
    ) -> Result<(), String> {
        self.runs += 1;
        let status = &made.status;
        let (uid, name) = (&status.pod_uid, &status.name);
        let Some(known) = self.pods.get(uid) else {
            return Err(format!("6: {name} starts for a pod that was never stored"));
        };
        self.may_start(known, name, passed)?;
        ensure(machine.running(uid).all(|c| c.status.name != *name), || {
            format!("5: {name} runs already")
        })?;
        volumes_are_there(known, made, machine)?;
        check_sandbox(made, machine)?;
        let is_debug = kinds::kind_of(&known.pod, name) == ContainerKind::Ephemeral;
        let Some(known) = self.pods.get_mut(uid) else {
            return Ok(());
        };
        if is_debug {
            debug::check_start(known, made, machine)?;
            known.containers.entry(name.clone()).or_default().runs += 1;
            return Ok(());
        }
        again::check_anew(known, name, machine)?;
        check_order(known, made, machine)?;
        check_restart(known, made, passed, now)
    }

    /// 6: nothing begins for a Pod that ends.
    pub(super) fn may_start(
        &self,
        known: &Known,
        what: &str,
        passed: Duration,
    ) -> Result<(), String> {
        let seen = self.deletion_seen(known);
        ensure(seen.is_none_or(|at| passed <= at), || {
            format!("6: {what} starts although the deletion of the pod was seen at {seen:?}")
        })?;
        ensure(!known.is_over, || {
            format!("6: {what} starts in a final phase")
        })
    }

    /// A run ended.
    pub(crate) fn ended(&mut self, exit: &Exit, now: Timestamp) -> Result<(), String> {
        let judged = !self.stops_fail && !self.clock_jumped;
        let Some(known) = self.pods.get_mut(&exit.uid) else {
            return Ok(());
        };
        let past = known.containers.entry(exit.name.clone()).or_default();
        past.last_end = Some((exit.at, now, exit.code));
        let Some(known) = self
            .pods
            .get(&exit.uid)
            .filter(|k| judged && !k.kill_began_anew)
        else {
            return Ok(());
        };
        let grace = known
            .pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or(0)
            .max(1);
        let most = Duration::from_secs(grace.unsigned_abs() + 3);
        let seen = self.deletion_seen(known).map(|at| at.max(known.graced_at));
        ensure(
            seen.is_none_or(|at| exit.at <= at + most || grace == 0),
            || {
                format!(
                    "18: {} ends at {:?}; the deletion with {grace} s was seen at {seen:?}",
                    exit.name, exit.at
                )
            },
        )
    }

    /// An image is asked for.
    pub(crate) fn pulls(
        &self,
        image: &str,
        passed: Duration,
        now: Timestamp,
    ) -> Result<(), String> {
        let Some(pulls) = self.pulls.get(image) else {
            return Ok(());
        };
        let least = DELAYS[pulls.count.min(DELAYS.len() - 1)];
        ensure(
            since(&pulls.failed_at, passed, now).as_secs() >= least,
            || format!("15: {image} is pulled again within {least} s"),
        )
    }

    /// A pull failed.
    pub(crate) fn pull_failed(&mut self, image: &str, passed: Duration, now: Timestamp) {
        let failed_at = (passed, now);
        let pulls = self.pulls.entry(image.to_owned()).or_insert(Pulls {
            failed_at,
            count: 0,
        });
        if since(&pulls.failed_at, passed, now) > FORGOTTEN {
            pulls.count = 0;
        }
        pulls.count += 1;
        pulls.failed_at = failed_at;
    }

    /// A pull did not fail.
    pub(crate) fn pull_done(&mut self, image: &str) {
        self.pulls.remove(image);
    }
}

/// 8: what a container mounts is there when it starts.
fn volumes_are_there(known: &Known, made: &Made, machine: &Machine) -> Result<(), String> {
    let there = machine.volumes.get(&made.status.pod_uid);
    let members = kinds::members(&known.pod);
    let member = members.iter().find(|m| m.name() == made.status.name);
    for mount in member
        .iter()
        .flat_map(|m| m.spec.volume_mounts.iter().flatten())
    {
        ensure(there.is_some_and(|all| all.contains(&mount.name)), || {
            format!(
                "8: {} starts without volume {}",
                made.status.name, mount.name
            )
        })?;
    }
    Ok(())
}

/// 6: it starts in the newest sandbox, which is sound.
fn check_sandbox(made: &Made, machine: &Machine) -> Result<(), String> {
    let (uid, name) = (&made.status.pod_uid, &made.status.name);
    let sandboxes = machine
        .sandboxes
        .values()
        .filter(|s| s.metadata.uid == *uid);
    let newest = sandboxes.max_by_key(|s| s.metadata.attempt);
    let Some(sandbox) = newest.filter(|s| s.id == made.status.sandbox_id) else {
        return Err(format!("6: {name} starts in an old sandbox"));
    };
    ensure(sandbox.state == SandboxState::Ready, || {
        format!("6: {name} starts in a dead sandbox")
    })
}

/// 1, 2 and 3: who may start, by what ran in its sandbox.
fn check_order(known: &Known, made: &Made, machine: &Machine) -> Result<(), String> {
    let (uid, name) = (&made.status.pod_uid, &made.status.name);
    let sandbox = &made.status.sandbox_id;
    let here = |other: &str| {
        let all = machine.containers.values().map(|c| &c.status);
        all.filter(|c| c.name == other && c.sandbox_id == *sandbox && c.pod_uid == *uid)
            .map(|c| c.state.clone())
            .collect::<Vec<_>>()
    };
    let init = kinds::init(&known.pod);
    let index = init
        .iter()
        .position(|m| m.name() == name)
        .unwrap_or(init.len());
    for member in &init[..index] {
        let is_fine = here(member.name())
            .iter()
            .any(|state| match (state, member.kind) {
                (ContainerState::Exited { exit_code, .. }, ContainerKind::Init) => *exit_code == 0,
                (ContainerState::Created, _) => false,
                _ => member.is_sidecar(),
            });
        // A sidecar's records are thinned out as it restarts; later containers with records prove that it ran.
        let members = kinds::members(&known.pod);
        let mut later = members
            .iter()
            .skip_while(|m| m.name() != member.name())
            .skip(1);
        let proven = later.any(|m| {
            let others = here(m.name());
            others.iter().any(|state| *state != ContainerState::Created)
        });
        ensure(is_fine || proven, || {
            format!("1-3: {name} starts before {}", member.name())
        })?;
        if member.is_sidecar() {
            is_up(known, member, sandbox)?;
        }
    }
    let is_init = index < init.len() && init[index].kind == ContainerKind::Init;
    let mut others = init
        .iter()
        .filter(|m| m.kind == ContainerKind::Init && m.name() != name);
    let beside = others.find(|m| {
        let states = here(m.name());
        states
            .iter()
            .any(|s| matches!(s, ContainerState::Running { .. }))
    });
    match beside.filter(|_| is_init) {
        Some(other) => Err(format!("2: {name} starts beside {}", other.name())),
        None => Ok(()),
    }
}

/// 1: what a sidecar has to have done before anything after it starts.
fn is_up(known: &Known, member: &Member<'_>, sandbox: &str) -> Result<(), String> {
    let past = known.containers.get(member.name());
    let in_here = |which: fn(&Past) -> &BTreeSet<String>| {
        past.is_some_and(|past| which(past).contains(sandbox))
    };
    let has_probe = member.spec.startup_probe.is_some();
    ensure(!has_probe || in_here(|past| &past.started_up), || {
        format!("1: {} has not passed its startup probe", member.name())
    })?;
    let hooks = member.spec.lifecycle.as_ref();
    let hook = hooks.and_then(|hooks| hooks.post_start.as_ref()?.exec.as_ref());
    // An agent that takes a run over does not know of its hook.
    let is_known = hook.is_none() || known.is_adopted || in_here(|past| &past.hooked);
    ensure(is_known, || {
        format!("1: postStart of {} is not over", member.name())
    })
}

/// 9, 11 and 12: whether and when a container may run again, and under which number.
fn check_restart(
    known: &mut Known,
    made: &Made,
    passed: Duration,
    now: Timestamp,
) -> Result<(), String> {
    let (name, attempt) = (&made.status.name, made.status.attempt);
    let members = kinds::members(&known.pod);
    let Some(member) = members.iter().find(|m| m.name() == name) else {
        return Err(format!("{name} starts and is not in the spec"));
    };
    let pods = known
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref());
    let policy = member.spec.restart_policy.as_deref().or(pods);
    let is_edited = known.edited.contains(name);
    let is_resized = known.resized.contains(name);
    let is_unheard = known.deleted_at.is_some() && again::may_restart_all(&known.pod);
    // A new sandbox runs init containers again (39), and others that had not ended well.
    let is_replaced = known.sandbox_deaths > 0;
    let is_init = member.kind == ContainerKind::Init;
    let is_told = again::told_count(&known.pod, name) == Some(attempt);
    let past = known.containers.entry(name.clone()).or_default();
    ensure(past.attempts.insert(attempt), || {
        format!("12: {name} runs as #{attempt} again")
    })?;
    // What was to run and did not when all were restarted is counted (§1.10), which was told then.
    let was_never_run = std::mem::take(&mut past.was_never_run);
    past.runs += u32::from(past.is_anew && was_never_run && is_told);
    ensure(attempt == past.runs, || {
        format!("12: {name} runs as #{attempt} after {} runs", past.runs)
    })?;
    past.runs += 1;
    // Who is stopped for a probe is started again, whatever it returns (§1.7).
    let was_sick = std::mem::take(&mut past.is_sick);
    past.has_failed_hook = false;
    // An agent that has not heard of the deletion yet may have restarted all of them.
    let is_anew = std::mem::take(&mut past.is_anew) || is_unheard;
    let Some((.., code)) = past.last_end.filter(|_| !is_anew) else {
        return Ok(());
    };
    let has_rule = again::has_rule(member.spec, code);
    let is_alone = again::restarts_all_after(member.spec, code);
    ensure(!is_alone || was_sick || is_edited || is_replaced, || {
        format!("9: {name} restarts alone although its rule says all")
    })?;
    ensure(
        policy != Some("Never") || has_rule || is_edited || (is_init && is_replaced),
        || format!("9: {name} runs twice"),
    )?;
    let is_other = was_sick || has_rule || is_edited || is_replaced;
    ensure(policy != Some("OnFailure") || code != 0 || is_other, || {
        format!("9: {name} runs again after success")
    })?;
    // Back-off is forgotten with the size, too (§4.1).
    match past.waits_no_more(is_edited || is_resized, passed, now) {
        Some((waited, least)) => Err(format!(
            "11: {name} restarts after {waited:?} and not {least} s"
        )),
        None => Ok(()),
    }
}

impl Past {
    /// Counts a restart, if its back-off is over; else how long it has waited, and for how many seconds it should have.
    pub(super) fn waits_no_more(
        &mut self,
        is_edited: bool,
        passed: Duration,
        now: Timestamp,
    ) -> Option<(Duration, u64)> {
        let (ended, shown, _) = self.last_end?;
        let ran_long = |at: (Duration, Timestamp)| since(&at, ended, shown) > FORGOTTEN;
        if is_edited || self.restarted_at.is_some_and(ran_long) {
            self.restarts = 0;
        }
        let least = DELAYS[self.restarts.min(DELAYS.len() - 1)];
        let waited = since(&(ended, shown), passed, now);
        if waited < Duration::from_secs(least) {
            return Some((waited, least));
        }
        self.restarts += 1;
        // It was decided between that end and now; a clock that jumped meanwhile shows the one or the other.
        self.restarted_at = Some((passed, shown));
        None
    }
}
