//! StatefulSets: Pods that have names, and claims to storage, of their own (upstream's statefulset controller). Whatever Pod has a name
//! of the set's is the one of that name; where one is missing it is made again, with the claims of the one before it.
//!
//! What a Pod is made of is a revision of the set's template ([`crate::history`]): the one it has been updated to wholly, or the newest.
//! A plan takes the next step of one thing after another: who owns what, which revision is the newest, which Pods there are to be, from
//! the first to the last, which are too many, from the last to the first, and then which are to be updated, again from the last.

mod claim;
mod event;
mod order;
mod pods;
mod revision;
mod status;

use std::collections::BTreeMap;

use api::selector::Selector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::object::name;
use crate::owner::{self, Claim, Handover};
use crate::pod;
pub use claim::is_of as is_claim_of;
use order::Order;
use revision::{Newest, Pair};

/// The label that says a Pod's name.
pub const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The label that says a Pod's ordinal.
pub const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
/// At most so many Pods are made at a time.
const BURST: usize = 500;

/// What is to be done, in order. When a step fails, those after it are not taken. [`Step::news`] and [`Step::bad_news`] word the Events.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Take over a Pod nobody controls, or let one go that is not the set's any more.
    HandOverPod(Handover),
    /// Take over a ControllerRevision nobody controls.
    AdoptRevision(Handover),
    /// Write a new template down. If there is a revision of its name, that is [`Failure::Collision`], unless they are
    /// [`crate::history::is_same`].
    CreateRevision(Box<ControllerRevision>),
    /// Change the number of a revision that is the newest again, if it is still as it was seen.
    UpdateRevision(Box<ControllerRevision>),
    /// Delete a revision of the past.
    DeleteRevision {
        /// Its name.
        revision: String,
        /// Its UID: another of its name is left alone.
        uid: String,
    },
    /// Make a claim.
    CreateClaim {
        /// It.
        claim: Box<PersistentVolumeClaim>,
        /// The Pod it is for.
        pod: String,
    },
    /// Change the owners of a claim, if it is still as it was seen.
    UpdateClaim {
        /// As it is to be.
        claim: Box<PersistentVolumeClaim>,
        /// The Pod it is for.
        pod: String,
        /// Something else controls it, so that the set's policy is not for it.
        is_contested: bool,
    },
    /// Make a Pod. That there is one of its name, which is not the set's, is told by no Event; it is tried again after a rest.
    CreatePod(Box<Pod>),
    /// Change a Pod that has lost what makes it the set's, if it is still as it was seen.
    UpdatePod(Box<Pod>),
    /// Delete a Pod.
    DeletePod {
        /// Its name.
        pod: String,
        /// Its UID: another of its name is left alone.
        uid: String,
    },
}

/// What has failed, while it is not to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another revision has the name of the new one, after so many collisions. The plan counts it; the next one uses another name.
    Collision(i32),
    /// A step, for whatever reason.
    Step,
}

/// What a plan is made of. Each of the lists may tell of the whole namespace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// Pods. One whose deletion was asked for has a `deletionTimestamp`.
    pub pods: &'a [&'a Pod],
    /// ControllerRevisions.
    pub revisions: &'a [&'a ControllerRevision],
    /// Claims; none are needed where the set has no templates for any.
    pub claims: &'a [&'a PersistentVolumeClaim],
    /// What the last steps came to, while they are not to be tried again.
    pub failure: Option<Failure>,
}

/// What is to be done about a StatefulSet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// First.
    pub steps: Vec<Step>,
    /// To be written when the steps have been taken, if it is another than the present one.
    pub status: Option<Box<StatefulSetStatus>>,
    /// When to look again if nothing happens: Pods become available.
    pub wake: Option<Timestamp>,
}

/// Plans for `set`, whose controller reference from what it owns is `reference`.
pub fn plan(set: &StatefulSet, reference: &OwnerReference, seen: Seen<'_>, now: Timestamp) -> Plan {
    let (Some(spec), Some(selector)) = (set.spec.as_ref(), selector(set)) else {
        return Plan::default();
    };
    let meta = &set.metadata;
    let mut steps = Vec::new();
    let mut revisions = Vec::new();
    for revision in seen.revisions {
        match owner::claim(meta, &selector, &revision.metadata) {
            Claim::Owned => revisions.push(*revision),
            // As long as it is the set's it is of no use to anybody else.
            Claim::Release | Claim::Ignore => {}
            claim @ Claim::Adopt => {
                let handover = owner::hand_over(claim, meta, reference, &revision.metadata);
                steps.extend(handover.map(Step::AdoptRevision));
            }
        }
    }
    let mut pods = BTreeMap::new();
    for pod in seen.pods {
        let ordinal = pods::ordinal(name(meta), name(&pod.metadata));
        let is_selected = ordinal.is_some() && selector.matches(&pod.metadata.labels);
        let claim = owner::claim_selected(meta, is_selected, &pod.metadata);
        let handover = owner::hand_over(claim, meta, reference, &pod.metadata);
        steps.extend(handover.map(Step::HandOverPod));
        let own = ordinal.filter(|_| claim == Claim::Owned);
        pods.extend(own.map(|ordinal| (ordinal, *pod)));
    }
    // What is taken over is looked at when it is its own.
    if !steps.is_empty() && seen.failure.is_none() {
        return Plan {
            steps,
            ..Plan::default()
        };
    }
    let newest = match revision::newest(set, spec, reference, &mut revisions) {
        Newest::Is(newest) => newest,
        Newest::Becomes(step) => return turn_over(set, *step, seen.failure),
    };
    let current = revision::current(set, &revisions).unwrap_or(newest);
    let pair = Pair { current, newest };
    let mut order = Order::new(set, spec, reference, seen, pods, pair, now);
    if seen.failure.is_none() {
        if meta.deletion_timestamp.is_none() {
            order.act();
        }
        order.forget(&revisions);
    }
    let wake = order.next_available();
    let status = status::status(&order);
    Plan {
        steps: order.steps,
        status: Some(Box::new(status)).filter(|status| set.status.as_ref() != Some(status)),
        wake,
    }
}

/// Has a revision become the newest, before anything else.
fn turn_over(set: &StatefulSet, step: Step, failure: Option<Failure>) -> Plan {
    let mut status = set.status.clone().unwrap_or_default();
    match failure {
        Some(Failure::Step) => return Plan::default(),
        None if set.metadata.deletion_timestamp.is_some() => return Plan::default(),
        None => {
            return Plan {
                steps: vec![step],
                ..Plan::default()
            };
        }
        Some(Failure::Collision(before)) => {
            status.collision_count = Some(before.saturating_add(1));
        }
    }
    Plan {
        status: Some(Box::new(status)).filter(|status| set.status.as_ref() != Some(status)),
        ..Plan::default()
    }
}

/// What it selects; `None` where that cannot be read, which validation sees to.
pub fn selector(set: &StatefulSet) -> Option<Selector> {
    let selector = set.spec.as_ref().map(|spec| &spec.selector)?;
    let selector = Selector::from_object(Some(selector)).ok()?;
    Some(selector).filter(|s| !s.is_everything())
}

/// Whether its Pods have claims to storage of their own.
pub fn has_claims(set: &StatefulSet) -> bool {
    let templates = set.spec.as_ref().map(|s| &s.volume_claim_templates);
    templates.is_some_and(|t| t.as_ref().is_some_and(|t| !t.is_empty()))
}

/// How many Pods there should be.
pub fn replicas(set: &StatefulSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|s| s.replicas).unwrap_or(1)
}

/// Whether its Pods are updated by the controller, and not by whoever deletes them.
fn is_rolling(spec: &StatefulSetSpec) -> bool {
    let strategy = spec.update_strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete")
}

/// Whether Pods are made and deleted one after the other.
fn is_ordered(spec: &StatefulSetSpec) -> bool {
    spec.pod_management_policy.as_deref() != Some("Parallel")
}

/// Whether a Pod is on its way to become ready, or has not begun it.
fn is_pending(pod: &Pod) -> bool {
    matches!(pod::phase(pod), "" | "Pending")
}

#[cfg(test)]
mod tests;
