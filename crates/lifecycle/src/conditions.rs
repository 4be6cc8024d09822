//! The Pod's conditions (§3.2).

use api::pod::is_final;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kinds;
use crate::look::Look;
use crate::observed::WorkerPhase;
use crate::resize;
use crate::restart_all;
use crate::text;

/// Conditions the agent owns, in the order they are written.
const OWN: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// That a Pod is ended for the sake of others; whoever ends it writes it.
const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Status, reason and message of one condition.
#[derive(Debug, Clone, PartialEq)]
struct Finding {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn yes() -> Self {
        Finding {
            holds: true,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Finding {
            holds: false,
            reason: Some(reason),
            message,
        }
    }
}

/// The conditions to report: foreign ones as they are, then the agent's own. `phase` is the computed phase, not held back.
pub(crate) fn build(
    look: &Look<'_>,
    phase: &str,
    init: &[core::ContainerStatus],
    apps: &[core::ContainerStatus],
) -> Vec<core::PodCondition> {
    let previous = look
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let ready = containers_ready(look, phase, init, apps);
    let findings = [
        Finding {
            holds: look.usable_sandbox().is_some(),
            reason: None,
            message: None,
        },
        initialized(look, phase, init, apps, previous),
        with_gates(look, &ready, previous),
        ready,
        Finding::yes(),
    ];
    let mut all: Vec<_> = previous
        .iter()
        .filter(|c| !is_own(&c.type_))
        .cloned()
        .collect();
    if !is_final(phase) {
        all.extend(resize::conditions(look, previous));
    }
    all.extend(
        OWN.iter()
            .zip(findings)
            .map(|(kind, finding)| condition(look, kind, finding, previous)),
    );
    if restart_all::has_rule(look.pod) {
        let finding = restarting_all(look, phase);
        all.push(condition(look, restart_all::CONDITION, finding, previous));
    }
    if let Some(message) = disruption(look).filter(|_| is_final(phase)) {
        all.retain(|c| c.type_ != DISRUPTION_TARGET);
        let finding = Finding {
            holds: true,
            reason: Some("TerminationByKubelet"),
            message: Some(message.clone()),
        };
        all.push(condition(look, DISRUPTION_TARGET, finding, previous));
    }
    all
}

/// Why the node has ended the Pod for the sake of others, once nothing of it runs any more.
fn disruption<'a>(look: &Look<'a>) -> Option<&'a String> {
    let memory = &look.seen.memory;
    let ended = memory.termination.as_ref();
    let ended = ended.filter(|_| memory.phase >= WorkerPhase::Terminated);
    ended?.verdict.as_ref()?.disruption.as_ref()
}

fn is_own(kind: &str) -> bool {
    OWN.contains(&kind) || resize::CONDITIONS.contains(&kind) || kind == restart_all::CONDITION
}

/// Whether all containers are being restarted in place (§1.10).
fn restarting_all(look: &Look<'_>, phase: &str) -> Finding {
    let no = |reason| Finding {
        holds: false,
        reason,
        message: None,
    };
    match phase {
        "Succeeded" => no(Some("PodCompleted")),
        "Failed" => no(Some("PodFailed")),
        _ if look.seen.memory.restarting_all => Finding {
            holds: true,
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
        },
        _ => no(None),
    }
}

fn condition(
    look: &Look<'_>,
    kind: &str,
    finding: Finding,
    previous: &[core::PodCondition],
) -> core::PodCondition {
    let status = if finding.holds { "True" } else { "False" };
    let same = previous
        .iter()
        .find(|c| c.type_ == kind && c.status == status);
    let kept = same.and_then(|c| c.last_transition_time.clone());
    core::PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message,
        last_probe_time: None,
        last_transition_time: kept.or_else(|| Some(Time(text::second(look.now)))),
        observed_generation: look.pod.metadata.generation,
    }
}

fn initialized(
    look: &Look<'_>,
    phase: &str,
    init: &[core::ContainerStatus],
    apps: &[core::ContainerStatus],
    previous: &[core::PodCondition],
) -> Finding {
    let mut unknown = Vec::new();
    let mut incomplete = Vec::new();
    for member in kinds::init(look.pod) {
        match init.iter().find(|s| s.name == member.name()) {
            None => unknown.push(member.name()),
            Some(s) if member.is_sidecar() && s.started != Some(true) => {
                incomplete.push(member.name())
            }
            Some(s) if !member.is_sidecar() && !s.ready => incomplete.push(member.name()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Finding {
            reason: Some("PodCompleted"),
            ..Finding::yes()
        };
    }
    let began = |s: &core::ContainerStatus| {
        s.state
            .as_ref()
            .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    };
    let before = previous
        .iter()
        .any(|c| c.type_ == "Initialized" && c.status == "True");
    if apps.iter().any(began) || before {
        return Finding::yes();
    }
    listed(
        "ContainersNotInitialized",
        &unknown,
        "incomplete",
        &incomplete,
    )
}

fn containers_ready(
    look: &Look<'_>,
    phase: &str,
    init: &[core::ContainerStatus],
    apps: &[core::ContainerStatus],
) -> Finding {
    let sidecars = kinds::init(look.pod).into_iter().filter(|m| m.is_sidecar());
    let mut unknown = Vec::new();
    let mut unready = Vec::new();
    for member in sidecars.chain(kinds::apps(look.pod)) {
        match init.iter().chain(apps).find(|s| s.name == member.name()) {
            None => unknown.push(member.name()),
            Some(s) if !s.ready => unready.push(member.name()),
            Some(_) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => Finding::no("PodCompleted", None),
        "Failed" => Finding::no("PodFailed", None),
        _ => listed("ContainersNotReady", &unknown, "unready", &unready),
    }
}

/// True when both lists are empty.
fn listed(reason: &'static str, unknown: &[&str], what: &str, others: &[&str]) -> Finding {
    let part = |what: &str, names: &[&str]| {
        (!names.is_empty()).then(|| format!("containers with {what} status: [{}]", names.join(" ")))
    };
    let parts: Vec<_> = [part("unknown", unknown), part(what, others)]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() {
        Finding::yes()
    } else {
        Finding::no(reason, Some(parts.join(", ")))
    }
}

/// `Ready`: the containers are, and every readiness gate is open.
fn with_gates(look: &Look<'_>, ready: &Finding, previous: &[core::PodCondition]) -> Finding {
    if !ready.holds {
        return ready.clone();
    }
    let gates = look
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.readiness_gates.as_deref())
        .unwrap_or_default();
    let closed: Vec<String> = gates
        .iter()
        .filter_map(
            |gate| match previous.iter().find(|c| c.type_ == gate.condition_type) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{}\" does not exist.",
                    gate.condition_type
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                    gate.condition_type, c.status
                )),
                Some(_) => None,
            },
        )
        .collect();
    if closed.is_empty() {
        Finding::yes()
    } else {
        Finding::no("ReadinessGatesNotReady", Some(closed.join(", ")))
    }
}
