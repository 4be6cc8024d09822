//! The restart of a whole Pod in place, by a restart rule (§1.10).
//!
//! It begins when a container has ended with an exit code whose rule says so, and its crash back-off is over. Everything but
//! ephemeral containers is stopped at once and its records removed, that of the container with the rule last: until then the cause
//! can be seen. Without records, initialization begins anew in the same sandbox.

use cri::{ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::{ContainerRestartRule, Pod};

use crate::kinds::{self, Member};
use crate::look::Look;
use crate::observed::ContainerKind;
use crate::plan::{NodePolicy, Plan, Step, Stop};
use crate::restart;
use crate::starting::{self, Attempt};
use crate::stopping::LEAST_STOP_SECONDS;

/// Reason of a removed container's state.
pub(crate) const REASON: &str = "RestartingAllContainers";
/// Its message.
pub(crate) const MESSAGE: &str = "The container is removed because RestartAllContainers in place";
/// The condition of Pods with such a rule.
pub(crate) const CONDITION: &str = "AllContainersRestarting";

const ACTION: &str = "RestartAllContainers";

fn rules<'a>(member: &Member<'a>) -> &'a [ContainerRestartRule] {
    let has_policy = member.spec.restart_policy.is_some();
    let rules = member.spec.restart_policy_rules.as_deref();
    rules.filter(|_| has_policy).unwrap_or_default()
}

/// Whether a container of the Pod has a rule that restarts all of them.
pub(crate) fn has_rule(pod: &Pod) -> bool {
    let members = kinds::members(pod);
    let mut rules = members.iter().flat_map(rules);
    rules.any(|rule| rule.action == ACTION)
}

/// Whether the end of this run is one that restarts all.
fn is_source(member: &Member<'_>, record: &ContainerStatus) -> bool {
    let ContainerState::Exited { exit_code, .. } = record.state else {
        return false;
    };
    let mut rules = rules(member).iter();
    let first = rules.find(|rule| restart::rule_matches(rule, exit_code));
    first.is_some_and(|rule| rule.action == ACTION)
}

/// Plans the restart if one is due; `false` when there is none, and the Pod lives on as ever.
pub(crate) fn plan(look: &Look<'_>, policy: &NodePolicy, sandbox: &str, plan: &mut Plan) -> bool {
    if !has_rule(look.pod) {
        return false;
    }
    let members = kinds::members(look.pod);
    let newest = |m: &Member<'_>| look.newest_in(m.name(), sandbox);
    let mut sources = members
        .iter()
        .filter(|m| newest(m).is_some_and(|record| is_source(m, record)));
    let source = if look.seen.memory.restarting_all {
        sources.next()
    } else {
        sources.find(|source| begin(look, policy, source, plan))
    };
    let Some(source) = source else {
        return false;
    };
    plan.restarting_all = true;
    plan.because(
        None,
        format!(
            "all containers are restarted because of how {} ended",
            source.name()
        ),
    );
    let alive: Vec<_> = members
        .iter()
        .flat_map(|m| look.living(m.name()).map(move |c| (m, c)))
        .filter(|(_, record)| record.sandbox_id == sandbox)
        .collect();
    for (member, record) in &alive {
        if !look.seen.memory.stopping.contains_key(&record.id) {
            plan.steps.push(Step::Stop(at_once(member, record)));
        }
    }
    if alive.is_empty() {
        remove(look, &members, plan);
    }
    true
}

/// Whether the restart may begin: the container that asks for it has a crash back-off like any other (§4.1).
fn begin(look: &Look<'_>, policy: &NodePolicy, source: &Member<'_>, plan: &mut Plan) -> bool {
    let Attempt::Now { back_off } = starting::attempt(look, policy, source) else {
        return false;
    };
    if let Some(entry) = back_off {
        plan.restarts.insert(source.name().to_owned(), entry);
    }
    true
}

/// Without its hook, and with no more than the least grace.
fn at_once(member: &Member<'_>, record: &ContainerStatus) -> Stop {
    Stop {
        id: record.id.clone(),
        container: record.name.clone(),
        kind: member.kind,
        grace_seconds: LEAST_STOP_SECONDS,
        message: Some("killing".to_owned()),
        then_restart: true,
    }
}

/// Removes every record: of apps before init containers, and of those with the rule after the others.
fn remove(look: &Look<'_>, members: &[Member<'_>], plan: &mut Plan) {
    let mut records: Vec<_> = members
        .iter()
        .flat_map(|m| look.records(m.name()).into_iter().map(move |c| (m, c)))
        .collect();
    records.sort_by_key(|(member, record)| {
        let newest = look.newest(member.name());
        let is_newest = newest.is_some_and(|newest| newest.id == record.id);
        let is_source = is_newest && is_source(member, record);
        (is_source, member.kind != ContainerKind::App)
    });
    plan.steps.extend(
        records
            .into_iter()
            .map(|(_, record)| Step::RemoveContainer {
                id: record.id.clone(),
                keep_log: true,
            }),
    );
}
