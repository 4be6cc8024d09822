//! DaemonSets: a Pod on every node that is for it (upstream's daemonset controller). Pods of another template take the places of the old
//! ones, some nodes at a time.

mod backoff;
mod fleet;
mod make;
mod manage;
mod place;
mod revision;
mod rollout;
mod status;

pub use backoff::Memory;
pub use place::differs;

use std::sync::LazyLock;

use api::selector::Selector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet,
};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use crate::job::News;
use crate::object::name;
use crate::owner::{self, Claim, Handover};
use fleet::Fleet;
use manage::Changes;
use place::Place;
use revision::History;

/// At most so many Pods are made and so many deleted at a time.
const BURST: usize = 250;

/// What is to be done, in order. When a step fails, those after it are not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Take over a Pod nobody controls, or let one go that is not selected any more.
    HandOver(Handover),
    /// The same with a revision.
    HandOverRevision(Handover),
    /// Make the revision of a new template. If there is one of its name, that is [`Failure::Collision`], unless
    /// [they are the same](crate::history::is_same).
    CreateRevision(Box<ControllerRevision>),
    /// Change a revision to this, if it is still as it was seen.
    UpdateRevision(Box<ControllerRevision>),
    /// Have a Pod say another revision: the one it says keeps the same template, and goes.
    Relabel {
        /// Its name.
        pod: String,
        /// The strategic merge patch.
        patch: Value,
    },
    /// Delete a Pod.
    Delete {
        /// Its name.
        pod: String,
        /// Its UID: another of its name is left alone.
        uid: String,
    },
    /// Make these Pods.
    Create(Vec<Pod>),
    /// Delete a revision.
    DeleteRevision {
        /// Its name.
        revision: String,
        /// Its UID: another of its name is left alone.
        uid: String,
    },
}

/// What has failed, while it is not to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A step, for whatever reason.
    Held,
    /// Another revision has the name of the new one, after so many collisions.
    Collision(i32),
}

/// What is to be done about a DaemonSet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// First.
    pub steps: Vec<Step>,
    /// To be written when the steps have been taken, if it is another than the present one.
    pub status: Option<Box<DaemonSetStatus>>,
    /// Told when the steps have been taken.
    pub news: Vec<News>,
    /// For the next plan, whatever becomes of the steps.
    pub memory: Memory,
    /// When to look again if nothing happens: Pods become available, or a failed one has been kept for long enough.
    pub wake: Option<Timestamp>,
}

/// What a plan is made of.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Every Pod of the namespace. One whose deletion was asked for has a `deletionTimestamp`.
    pub pods: &'a [&'a Pod],
    /// Every node.
    pub nodes: &'a [&'a Node],
    /// Every ControllerRevision of the namespace. One whose deletion was asked for has a `deletionTimestamp`, or is none.
    pub revisions: &'a [&'a ControllerRevision],
    /// What the last plan gave.
    pub memory: &'a Memory,
    /// What has failed, while it is not to be tried again.
    pub failure: Option<&'a Failure>,
}

/// Plans for `set`, whose controller reference from its Pods and revisions is `reference`.
pub fn plan(set: &DaemonSet, reference: &OwnerReference, seen: Seen<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan {
        memory: seen.memory.at(set.metadata.generation, now),
        ..Plan::default()
    };
    let selector = Selector::from_object(Some(&spec(set).selector)).ok();
    let Some(selector) = selector.filter(|s| !s.is_everything()) else {
        return plan;
    };
    // Its revisions may be gone before it, and without them nothing can be said of its Pods.
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    if let Some(Failure::Collision(before)) = seen.failure {
        plan.status = status::collided(set, *before).map(Box::new);
        return plan;
    }
    let is_held = seen.failure.is_some();
    let claim = |meta: &ObjectMeta| {
        let claim = owner::claim(&set.metadata, &selector, meta);
        let handover = owner::hand_over(claim, &set.metadata, reference, meta);
        (claim == Claim::Owned, handover)
    };
    let (mut pods, mut revisions) = (Vec::new(), Vec::new());
    for pod in seen.pods {
        let (is_owned, handover) = claim(&pod.metadata);
        pods.extend(Some(*pod).filter(|_| is_owned));
        plan.steps.extend(handover.map(Step::HandOver));
    }
    for revision in seen.revisions {
        let (is_owned, handover) = claim(&revision.metadata);
        let is_kept = is_owned && revision.metadata.deletion_timestamp.is_none();
        revisions.extend(Some(*revision).filter(|_| is_kept));
        plan.steps.extend(handover.map(Step::HandOverRevision));
    }
    // What is taken over is looked at when it is its own.
    if !plan.steps.is_empty() && !is_held {
        return plan;
    }
    let history = History::new(set, reference, revisions, &pods);
    if !history.steps.is_empty() && !is_held {
        plan.steps = history.steps;
        return plan;
    }
    let Some(hash) = history.current.and_then(revision::hash) else {
        plan.steps.clear();
        return plan;
    };
    let fleet = Fleet::new(set, &pods, seen.nodes, hash, now);
    if is_held {
        plan.steps.clear();
    } else {
        let mut changes = Changes::new(plan.memory);
        changes.manage(&fleet);
        if changes.is_none() && is_rolling(set) {
            changes.roll(&fleet);
        }
        plan.steps = changes.steps(&fleet, reference);
        plan.steps.extend(history.truncate(set, &pods));
        (plan.memory, plan.news, plan.wake) = (changes.memory, changes.news, changes.wake);
    }
    let times = [plan.wake, fleet.next_available()];
    plan.wake = times.into_iter().flatten().min();
    let status = status::status(&fleet);
    let is_new = set.status.as_ref() != Some(&status);
    plan.status = is_new.then(|| Box::new(status));
    plan
}

fn spec(set: &DaemonSet) -> &DaemonSetSpec {
    static NONE: LazyLock<DaemonSetSpec> = LazyLock::new(DaemonSetSpec::default);
    set.spec.as_ref().unwrap_or(&NONE)
}

fn template(set: &DaemonSet) -> &PodTemplateSpec {
    &spec(set).template
}

fn min_ready(set: &DaemonSet) -> i32 {
    spec(set).min_ready_seconds.unwrap_or(0)
}

/// Whether Pods of old templates are replaced without being deleted by somebody.
fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = spec(set).update_strategy.as_ref();
    let kind = strategy.and_then(|s| s.type_.as_deref());
    kind.is_none_or(|kind| kind == "RollingUpdate")
}

/// How far that may go at a time, if it is done and said.
fn bounds(set: &DaemonSet) -> Option<&RollingUpdateDaemonSet> {
    let strategy = spec(set).update_strategy.as_ref();
    let bounds = strategy.and_then(|s| s.rolling_update.as_ref());
    bounds.filter(|_| is_rolling(set))
}

fn delete(pod: &Pod) -> Step {
    Step::Delete {
        pod: name(&pod.metadata).to_owned(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
