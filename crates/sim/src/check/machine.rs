//! Sandboxes, stops and teardowns: nothing is taken away from what runs (8, 16, 17, 39).

use std::time::Duration;

use jiff::Timestamp;
use lifecycle::{ContainerKind, kinds};
use ports::runtime::{SandboxState, SandboxStatus};

use super::{Checks, Known, again, ensure, sizes};
use crate::machine::{Machine, Made};

impl Checks {
    /// A sandbox is made.
    pub(crate) fn sandbox(
        &mut self,
        made: &SandboxStatus,
        machine: &Machine,
        passed: Duration,
    ) -> Result<(), String> {
        let uid = &made.metadata.uid;
        let Some(known) = self.pods.get(uid) else {
            return Err("6: a sandbox for a pod that was never stored".to_owned());
        };
        self.may_start(known, "a sandbox", passed)?;
        sizes::check_limits(&known.pod, made)?;
        ensure(machine.running(uid).next().is_none(), || {
            "39: a sandbox is replaced while something runs".to_owned()
        })?;
        let mut others = machine
            .sandboxes
            .values()
            .filter(|s| s.metadata.uid == *uid);
        let clash = others.find(|s| {
            s.state == SandboxState::Ready || s.metadata.attempt >= made.metadata.attempt
        });
        ensure(clash.is_none(), || {
            format!("39: sandbox #{} beside {clash:?}", made.metadata.attempt)
        })?;
        if let Some(known) = self.pods.get_mut(uid) {
            again::in_new_sandbox(known, machine);
        }
        Ok(())
    }

    /// A sandbox is stopped by the agent.
    pub(crate) fn sandbox_stops(
        &self,
        stopped: &SandboxStatus,
        machine: &Machine,
    ) -> Result<(), String> {
        let mut inside = machine.running(&stopped.metadata.uid);
        let inside = inside.find(|c| c.status.sandbox_id == stopped.id);
        match inside {
            Some(made) => Err(format!(
                "its sandbox is stopped while {} runs",
                made.status.name
            )),
            None => Ok(()),
        }
    }

    /// A running container gets its stop signal.
    pub(crate) fn stopped(
        &mut self,
        made: &Made,
        machine: &Machine,
        grace: Duration,
        passed: Duration,
        now: Timestamp,
    ) -> Result<(), String> {
        let (uid, name) = (&made.status.pod_uid, &made.status.name);
        ensure(grace.as_secs() >= 2, || {
            format!("16: {name} is stopped with {grace:?}, which is less than 2 s")
        })?;
        if self.restarts_all(made, machine, grace, passed, now)? {
            return Ok(());
        }
        let Some(known) = self.pods.get(uid) else {
            return Ok(());
        };
        self.has_reason(known, made, machine, grace)?;
        if known.pod.metadata.deletion_timestamp.is_none() {
            return check_completed(known, made, machine, passed);
        }
        let seen = self.deletion_seen(known);
        if seen.is_none() && known.has_cause(name) {
            // It goes for a fault of its own, as nobody has heard of the deletion yet.
            return Ok(());
        }
        // Before the first signal there may have been hooks.
        let seen = seen.unwrap_or(passed);
        let Some(known) = self.pods.get_mut(uid).filter(|known| !known.is_gone) else {
            // Who has left the API has a second, which may be over.
            return Ok(());
        };
        let began = *known.kill.get_or_insert(seen.min(passed));
        check_sidecar(known, made, machine, passed.saturating_sub(began), now)
    }

    /// A Pod's volumes go.
    pub(crate) fn torn_down(&self, uid: &str, machine: &Machine) -> Result<(), String> {
        match machine.running(uid).next() {
            Some(made) => Err(format!("8: volumes go while {} runs", made.status.name)),
            None => Ok(()),
        }
    }
}

/// 17: a sidecar is stopped after the containers it serves, or when the grace is over.
fn check_sidecar(
    known: &Known,
    made: &Made,
    machine: &Machine,
    since_kill: Duration,
    now: Timestamp,
) -> Result<(), String> {
    let (uid, name) = (&made.status.pod_uid, &made.status.name);
    // One that has had its signal, for a fault of its own, is only given less time.
    let is_told = made.signalled_by.is_some();
    if is_told || kinds::kind_of(&known.pod, name) != ContainerKind::Sidecar {
        return Ok(());
    }
    let meta = &known.pod.metadata;
    let grace = meta
        .deletion_grace_period_seconds
        .unwrap_or(0)
        .unsigned_abs();
    let over = meta
        .deletion_timestamp
        .as_ref()
        .is_some_and(|at| now >= at.0);
    if over || since_kill.as_secs() >= grace {
        return Ok(());
    }
    all_later_ended(known, uid, name, machine)
}

/// 17, where nobody deletes: a sidecar without a cause of its own is stopped with its Pod, whose other containers are done. Its
/// grace is counted from the last of their ends at the earliest.
fn check_completed(
    known: &Known,
    made: &Made,
    machine: &Machine,
    passed: Duration,
) -> Result<(), String> {
    let (uid, name) = (&made.status.pod_uid, &made.status.name);
    let spec = known.pod.spec.clone().unwrap_or_default();
    let own_sandbox = machine.sandboxes.get(&made.status.sandbox_id);
    let is_sound = own_sandbox.is_some_and(|s| s.state == SandboxState::Ready);
    // A deadline ends a Pod at any time, and its grace begins then.
    let is_other = known.may_end() || !is_sound;
    let is_sidecar = kinds::kind_of(&known.pod, name) == ContainerKind::Sidecar;
    if !is_sidecar || is_other || known.has_cause(name) {
        return Ok(());
    }
    let served = |of: &&String| kinds::kind_of(&known.pod, of) != ContainerKind::Sidecar;
    let others = known.containers.iter().filter(|(of, _)| served(of));
    let ends = others.filter_map(|(_, past)| past.last_end.map(|(at, ..)| at));
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    let over = ends.max().unwrap_or_default() + Duration::from_secs(grace.unsigned_abs());
    if passed >= over {
        return Ok(());
    }
    all_later_ended(known, uid, name, machine)
}

/// The containers after a sidecar do not run any more.
fn all_later_ended(known: &Known, uid: &str, name: &str, machine: &Machine) -> Result<(), String> {
    let members = kinds::members(&known.pod);
    let later = members.iter().skip_while(|m| m.name() != name).skip(1);
    for other in later.filter(|m| m.kind != ContainerKind::Init) {
        ensure(
            machine.running(uid).all(|c| c.status.name != other.name()),
            || format!("17: {name} is stopped before {}", other.name()),
        )?;
    }
    Ok(())
}
