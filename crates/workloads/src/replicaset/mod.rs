//! ReplicaSets: so many Pods of a template (upstream's replicaset controller).

mod rank;
mod status;

pub(crate) use rank::compare;
pub(crate) use status::REPLICA_FAILURE;

use api::selector::Selector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::object::{name, number};
use crate::owner::{self, Claim, Handover};
use crate::pod;

/// At most so many Pods are made or deleted at a time.
const BURST: i32 = 500;

/// What is to be done, in order. When a step fails, those after it are not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Take over a Pod nobody controls, or let one go that is not selected any more.
    HandOver(Handover),
    /// Make so many Pods like this.
    Create {
        /// What each of them is.
        pod: Box<Pod>,
        /// How many.
        count: usize,
    },
    /// Delete a Pod.
    Delete {
        /// Its name.
        pod: String,
        /// Its UID: another of its name is left alone.
        uid: String,
    },
}

/// What is to be done about a ReplicaSet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// First.
    pub steps: Vec<Step>,
    /// To be written when the steps have been taken, if it is another than the present one.
    pub status: Option<ReplicaSetStatus>,
    /// When to look again if nothing happens: Pods become available.
    pub wake: Option<Timestamp>,
}

/// What a plan is made of.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Every Pod of the namespace. One whose deletion was asked for has a `deletionTimestamp`.
    pub pods: &'a [&'a Pod],
    /// ReplicaSets of the same controller, this one among them, or this one alone: which of its Pods go first depends on how many of
    /// all their Pods are on a node.
    pub siblings: &'a [&'a ReplicaSet],
    /// Why the last steps failed, while they are not to be tried again.
    pub failure: Option<&'a str>,
}

/// Plans for `set`, whose controller reference from its Pods is `reference`.
pub fn plan(set: &ReplicaSet, reference: &OwnerReference, seen: Seen<'_>, now: Timestamp) -> Plan {
    let Some(selector) = selector(set) else {
        return Plan::default();
    };
    let meta = &set.metadata;
    let mut plan = Plan::default();
    let mut active: Vec<&Pod> = Vec::new();
    let mut terminating = 0;
    for pod in seen.pods.iter().filter(|pod| !pod::is_over(pod)) {
        let claim = owner::claim(meta, &selector, &pod.metadata);
        if !pod::is_active(pod) {
            terminating += i32::from(claim == Claim::Owned);
            continue;
        }
        let handover = owner::hand_over(claim, meta, reference, &pod.metadata);
        plan.steps.extend(handover.map(Step::HandOver));
        if matches!(claim, Claim::Owned | Claim::Adopt) {
            active.push(pod);
        }
    }
    if meta.deletion_timestamp.is_none() {
        plan.steps
            .extend(manage(set, reference, &active, seen, now));
    }
    let status = status::status(set, &active, terminating, seen.failure, now);
    if seen.failure.is_some() {
        plan.steps.clear();
    }
    plan.wake = next_available(set, &active, now);
    plan.status = Some(status).filter(|status| set.status.as_ref() != Some(status));
    plan
}

/// What it selects; `None` where that cannot be read, which validation sees to.
pub fn selector(set: &ReplicaSet) -> Option<Selector> {
    let selector = set.spec.as_ref().map(|spec| &spec.selector)?;
    let selector = Selector::from_object(Some(selector)).ok()?;
    Some(selector).filter(|s| !s.is_everything())
}

/// How many Pods there should be.
pub fn replicas(set: &ReplicaSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|s| s.replicas).unwrap_or(1)
}

fn min_ready(set: &ReplicaSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|s| s.min_ready_seconds).unwrap_or(0)
}

/// Pods to be made or deleted, so that there are as many as there should be.
fn manage(
    set: &ReplicaSet,
    reference: &OwnerReference,
    active: &[&Pod],
    seen: Seen<'_>,
    now: Timestamp,
) -> Vec<Step> {
    let surplus = number(active).saturating_sub(replicas(set));
    let most = usize::try_from(surplus.saturating_abs().min(BURST)).unwrap_or(0);
    if surplus < 0 {
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        let pod = pod::from_template(reference, &template.cloned().unwrap_or_default());
        return vec![Step::Create {
            pod: Box::new(pod),
            count: most,
        }];
    }
    let mut first = active.to_vec();
    if most > 0 && most < first.len() {
        let nodes = rank::nodes(
            seen.siblings.iter().filter_map(|set| selector(set)),
            seen.pods,
        );
        first.sort_by(|a, b| rank::compare(a, b, &nodes, now));
    }
    let doomed = first.into_iter().take(most).map(|pod| Step::Delete {
        pod: name(&pod.metadata).to_owned(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    });
    doomed.collect()
}

/// When the next of the Pods that are ready becomes available.
fn next_available(set: &ReplicaSet, active: &[&Pod], now: Timestamp) -> Option<Timestamp> {
    let least = min_ready(set);
    if least <= 0 {
        return None;
    }
    let times = active
        .iter()
        .filter_map(|pod| pod::available_at(pod, least));
    times.filter(|at| *at > now).min()
}

#[cfg(test)]
mod tests;
