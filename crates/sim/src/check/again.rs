//! Rules of containers that have ended (§1.8), and the restart of all of them in place (§1.10): 1, 7, 9, 11, 13.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::kinds::{self, Member};
use lifecycle::{ContainerKind, restart};
use ports::runtime::{ContainerState, ContainerStatus, Id, SandboxState, SandboxStatus};

use super::{Checks, Known, ensure};
use crate::machine::{Machine, Made};

/// The grace of who is stopped to restart all.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The action of the first rule that is about this exit code.
fn action(spec: &Container, code: i32) -> Option<&str> {
    let rules = spec.restart_policy_rules.as_deref().unwrap_or_default();
    let matches = rules.iter().find(|rule| {
        let codes = rule.exit_codes.as_ref();
        codes.is_some_and(|codes| {
            let values = codes.values.as_deref().unwrap_or_default();
            values.contains(&code) == (codes.operator == "In")
        })
    });
    matches.map(|rule| rule.action.as_str())
}

/// Whether a rule of the container restarts it after this exit code, whatever its policy says.
pub(super) fn has_rule(spec: &Container, code: i32) -> bool {
    spec.restart_policy.is_some() && action(spec, code).is_some()
}

/// Whether this exit code of the container restarts all of them.
pub(super) fn restarts_all_after(spec: &Container, code: i32) -> bool {
    has_rule(spec, code) && action(spec, code) == Some("RestartAllContainers")
}

/// Whether some container of the Pod may have all of them restarted.
pub(super) fn may_restart_all(pod: &Pod) -> bool {
    let members = kinds::members(pod);
    let mut rules = members
        .iter()
        .flat_map(|m| m.spec.restart_policy_rules.iter().flatten());
    rules.any(|rule| rule.action == "RestartAllContainers")
}

/// A restart of all that is under way: the records it takes away.
#[derive(Debug)]
pub(super) struct RestartAll {
    records: BTreeSet<Id>,
    /// The last of their containers.
    newest: BTreeSet<Id>,
}

/// The newest sandbox of a Pod.
fn sandbox<'a>(machine: &'a Machine, uid: &str) -> Option<&'a SandboxStatus> {
    let sandboxes = machine.sandboxes.values();
    let own = sandboxes.filter(|s| s.metadata.uid == uid);
    own.max_by_key(|s| s.metadata.attempt)
}

fn is_sound(machine: &Machine, uid: &str) -> bool {
    sandbox(machine, uid).is_some_and(|s| s.state == SandboxState::Ready)
}

/// The newest record of a container in it.
fn newest<'a>(machine: &'a Machine, uid: &str, name: &str) -> Option<&'a ContainerStatus> {
    let sandbox = sandbox(machine, uid)?;
    let all = machine.containers.values().map(|c| &c.status);
    let here = all.filter(|c| c.sandbox_id == sandbox.id && c.name == name);
    here.max_by_key(|c| c.attempt)
}

/// Whether a container has ended in a way that restarts all.
fn is_source(machine: &Machine, uid: &str, member: &Member<'_>) -> bool {
    let Some(record) = newest(machine, uid, member.name()) else {
        return false;
    };
    let ContainerState::Exited { exit_code, .. } = record.state else {
        return false;
    };
    restarts_all_after(member.spec, exit_code)
}

/// The containers whose ends restart all.
fn sources(known: &Known, machine: &Machine, uid: &str) -> Vec<String> {
    let members = kinds::members(&known.pod);
    let sources = members.iter().filter(|m| is_source(machine, uid, m));
    sources.map(|m| m.name().to_owned()).collect()
}

/// Whether something else may be why a Pod's containers are stopped.
fn is_ambiguous(known: &Known, machine: &Machine, uid: &str) -> bool {
    let failed = |member: &Member<'_>| match newest(machine, uid, member.name()).map(|c| &c.state) {
        Some(ContainerState::Exited { exit_code, .. }) => {
            member.kind == ContainerKind::Init
                && *exit_code != 0
                && !restart::restarts_after(&known.pod, member, *exit_code)
        }
        _ => false,
    };
    known.may_end() || kinds::init(&known.pod).iter().any(failed)
}

impl Known {
    /// The Pod is told to end, or has ended.
    fn ends(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some() || self.is_gone || self.is_over
    }

    /// Or its deadline may end it at any time.
    pub(super) fn is_told_to_end(&self) -> bool {
        let spec = self.pod.spec.as_ref();
        let has_deadline = spec.is_some_and(|s| s.active_deadline_seconds.is_some());
        self.ends() || has_deadline
    }

    /// Or its node.
    pub(super) fn may_end(&self) -> bool {
        self.is_told_to_end() || self.eviction().is_some()
    }
}

impl Checks {
    /// Whether a container of a Pod that goes on is stopped to restart all of them, and rightly so.
    pub(super) fn restarts_all(
        &mut self,
        made: &Made,
        machine: &Machine,
        grace: Duration,
        passed: Duration,
        now: Timestamp,
    ) -> Result<bool, String> {
        let (uid, name) = (&made.status.pod_uid, &made.status.name);
        let is_unheard =
            |known: &Known| known.deleted_at.is_some() && self.deletion_seen(known).is_none();
        let is_unheard = self.pods.get(uid).is_some_and(is_unheard);
        let Some(known) = self.pods.get_mut(uid) else {
            return Ok(false);
        };
        let is_debug = kinds::kind_of(&known.pod, name) == ContainerKind::Ephemeral;
        if is_unheard && grace == AT_ONCE && !sources(known, machine, uid).is_empty() {
            // An agent that has not heard of the deletion yet restarts all of them.
            known.has_restarted_all = true;
            return Ok(true);
        }
        let goes_on = is_sound(machine, uid) && !known.ends();
        if is_debug || !goes_on || known.has_cause(name) {
            return Ok(false);
        }
        let sources = sources(known, machine, uid);
        if sources.is_empty() {
            return Ok(false);
        }
        if is_ambiguous(known, machine, uid) {
            return Ok(true);
        }
        ensure(grace == AT_ONCE, || {
            format!("{name} is stopped within {grace:?} to restart all")
        })?;
        begin(known, &sources, machine, passed, now)?;
        Ok(true)
    }

    /// 13: a record goes only for a later one, or with all others, apps first and whoever caused it last.
    pub(crate) fn removed_record(
        &mut self,
        made: &Made,
        machine: &Machine,
        passed: Duration,
        now: Timestamp,
    ) -> Result<(), String> {
        let (uid, name) = (&made.status.pod_uid, &made.status.name);
        let Some(known) = self.pods.get_mut(uid).filter(|known| !known.ends()) else {
            return Ok(());
        };
        let past = known.containers.entry(name.clone()).or_default();
        past.was_never_run = made.status.state == ContainerState::Created;
        let is_newest = newest(machine, uid, name).is_some_and(|c| c.id == made.status.id);
        let has_ended = matches!(made.status.state, ContainerState::Exited { .. });
        if known.restart_all.is_none() && is_newest && has_ended {
            let sources = sources(known, machine, uid);
            let is_debug = kinds::kind_of(&known.pod, name) == ContainerKind::Ephemeral;
            if sources.is_empty() || is_debug {
                // Records of a sandbox that died go before the next.
                return ensure(!is_sound(machine, uid), || {
                    format!("13: the last record of {name} is removed")
                });
            }
            begin(known, &sources, machine, passed, now)?;
        }
        let pod = known.pod.clone();
        let Some(all) = known.restart_all.as_mut() else {
            return Ok(());
        };
        let place = |made: &Made| {
            let members = kinds::members(&pod);
            let member = members.iter().find(|m| m.name() == made.status.name);
            let is_last = all.newest.contains(&made.status.id);
            let caused = member.is_some_and(|m| is_last && is_source(machine, uid, m));
            let kind = kinds::kind_of(&pod, &made.status.name);
            (caused, kind != ContainerKind::App)
        };
        let own = place(made);
        let left = all
            .records
            .iter()
            .filter_map(|id| machine.containers.get(id));
        let before = left.map(|c| (place(c), &c.status.name)).min();
        all.records.remove(&made.status.id);
        match before {
            Some((first, other)) if first < own => {
                Err(format!("{name} is removed before {other} to restart all"))
            }
            _ => Ok(()),
        }
    }

    /// 7: nobody is asked to prepare for the restart of all.
    pub(super) fn may_prepare(&self, made: &Made, machine: &Machine) -> Result<(), String> {
        let (uid, name) = (&made.status.pod_uid, &made.status.name);
        let Some(known) = self
            .pods
            .get(uid)
            .filter(|k| !k.may_end() && !k.has_cause(name))
        else {
            return Ok(());
        };
        let sources = sources(known, machine, uid);
        ensure(
            sources.is_empty() || is_ambiguous(known, machine, uid),
            || format!("7: preStop of {name} begins although {sources:?} restart all"),
        )
    }
}

/// How often a container was restarted, as its Pod tells.
pub(super) fn told_count(pod: &Pod, name: &str) -> Option<u32> {
    let status = pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    let found = all.find(|container| container.name == name)?;
    u32::try_from(found.restart_count).ok()
}

/// All are restarted from now on, if that is not so yet; one of those who caused it has waited long enough (11).
fn begin(
    known: &mut Known,
    sources: &[String],
    machine: &Machine,
    passed: Duration,
    now: Timestamp,
) -> Result<(), String> {
    if known.restart_all.is_some() {
        return Ok(());
    }
    let uid = known.pod.metadata.uid.clone().unwrap_or_default();
    let all = machine.containers.values().map(|c| &c.status);
    let of_pod = all.filter(|c| c.pod_uid == uid);
    let kept =
        |c: &&ContainerStatus| kinds::kind_of(&known.pod, &c.name) == ContainerKind::Ephemeral;
    let records = of_pod.filter(|c| !kept(c)).map(|c| c.id.clone()).collect();
    let members = kinds::members(&known.pod);
    let newest = members
        .iter()
        .filter_map(|m| newest(machine, &uid, m.name()));
    let newest = newest.map(|c| c.id.clone()).collect();
    known.restart_all = Some(RestartAll { records, newest });
    let mut waits = |source: &String, is_counted: bool| {
        let is_edited = known.edited.contains(source) || known.resized.contains(source);
        let past = known.containers.entry(source.clone()).or_default();
        match is_counted {
            true => past.waits_no_more(is_edited, passed, now),
            false => past.clone().waits_no_more(is_edited, passed, now),
        }
    };
    let waited = sources
        .iter()
        .filter(|source| waits(source, false).is_none());
    let waited: Vec<&String> = waited.collect();
    // Of several nobody sees whose rule it was: when it was decided, the others may not have waited yet, and so need not wait longer now.
    if let [source] = waited[..] {
        waits(source, true);
    }
    ensure(!waited.is_empty(), || {
        format!("11: {sources:?} restart all in their back-off")
    })
}

/// 1: when all were restarted, none of what was there is left when the first of them starts; they begin anew.
pub(super) fn check_anew(known: &mut Known, name: &str, machine: &Machine) -> Result<(), String> {
    let Some(all) = known.restart_all.take() else {
        return Ok(());
    };
    let mut left = all
        .records
        .iter()
        .filter_map(|id| machine.containers.get(id));
    if let Some(left) = left.next() {
        let left = &left.status.name;
        return Err(format!(
            "1: {name} starts while all are restarted and {left} is left"
        ));
    }
    known.has_restarted_all = true;
    for past in known.containers.values_mut() {
        past.is_anew = true;
        past.started_up.clear();
        past.hooked.clear();
    }
    Ok(())
}

/// A sandbox that died meanwhile ends the restart of all; who was removed by then begins anew in the next.
pub(super) fn in_new_sandbox(known: &mut Known, machine: &Machine) {
    if known.restart_all.take().is_none() {
        return;
    }
    known.has_restarted_all = true;
    let uid = known.pod.metadata.uid.clone().unwrap_or_default();
    for (name, past) in &mut known.containers {
        let mut all = machine.containers.values().map(|c| &c.status);
        past.is_anew |= !all.any(|c| c.pod_uid == uid && c.name == *name);
    }
}
