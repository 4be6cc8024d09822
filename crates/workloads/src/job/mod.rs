//! Jobs: Pods that are to succeed so many times (upstream's job controller), and their end after a while.
//!
//! Every Pod of a Job carries a finalizer until it has been counted. A Pod that has ended is first noted in the status by its UID, then
//! loses the finalizer, and then becomes a number: whatever happens between, it is counted once. A plan takes one of these steps; the next
//! plan takes the next.

mod backoff;
mod count;
mod end;
mod index;
mod make;
mod pods;
mod policy;
mod track;

use api::selector::Selector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde_json::{Value, json};

use crate::owner::{self, Claim, Handover};
use count::Count;

/// The finalizer of Pods that have not been counted.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Who looks after Jobs that name nobody else.
const MANAGER: &str = "kubernetes.io/job-controller";
/// At most so many Pods are made or deleted at a time.
const BURST: usize = 500;

/// What is to be done, in order. When a step fails, those after it are not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Take over a Pod nobody controls, or let one go that is not selected any more.
    HandOver(Handover),
    /// Make these Pods.
    Create(Vec<Pod>),
    /// Delete a Pod.
    Delete {
        /// Its name.
        pod: String,
        /// Its UID: another of its name is left alone.
        uid: String,
        /// It does not count: its finalizer goes first.
        is_free: bool,
    },
    /// Delete the Job, in the foreground: its time is over.
    End,
}

/// An Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What is to be done about a Job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// First.
    pub steps: Vec<Step>,
    /// To be written when the steps have been taken, if it is another than the present one.
    pub status: Option<Box<JobStatus>>,
    /// Told when the status has been written.
    pub news: Vec<News>,
    /// Pods that lose their finalizer then, by name and UID.
    pub counted: Vec<(String, String)>,
    /// When to look again if nothing happens.
    pub wake: Option<Timestamp>,
}

/// Plans for `job`, whose controller reference from its Pods is `reference`. `pods` are all of its namespace; one whose deletion was
/// asked for has a `deletionTimestamp`. With `is_held` no Pods are made or deleted: that has failed just now.
pub fn plan(
    job: &Job,
    reference: &OwnerReference,
    pods: &[&Pod],
    is_held: bool,
    now: Timestamp,
) -> Plan {
    let spec = spec_of(job);
    if spec.managed_by.as_deref().is_some_and(|m| m != MANAGER) {
        return Plan::default();
    }
    if let Some(finished) = finished(job) {
        return retire(job, finished, now);
    }
    let selector = Selector::from_object(spec.selector.as_ref()).ok();
    let Some(selector) = selector.filter(|s| !s.is_everything()) else {
        return Plan::default();
    };
    let mut steps = Vec::new();
    let mut owned = Vec::new();
    for pod in pods {
        let claim = owner::claim(&job.metadata, &selector, &pod.metadata);
        if claim == Claim::Owned {
            owned.push(*pod);
        }
        let handover = owner::hand_over(claim, &job.metadata, reference, &pod.metadata);
        if let Some(mut handover) = handover {
            let change = if handover.is_adoption {
                "finalizers"
            } else {
                "$deleteFromPrimitiveList/finalizers"
            };
            handover.patch["metadata"][change] = json!([TRACKING]);
            steps.push(Step::HandOver(handover));
        }
    }
    // What is taken over is looked at when it is its own.
    if !steps.is_empty() && !is_held {
        return Plan {
            steps,
            ..Plan::default()
        };
    }
    Count::new(job, reference, owned, now).plan(is_held)
}

/// Whether nobody counts a Pod any more that still waits for it: its Job is gone, or finished.
pub fn is_left_behind(pod: &Pod, job: Option<&Job>) -> bool {
    is_tracked(pod) && job.is_none_or(|job| finished(job).is_some())
}

/// Whether a Pod has not been counted.
pub fn is_tracked(pod: &Pod) -> bool {
    let mut finalizers = pod.metadata.finalizers.iter().flatten();
    finalizers.any(|f| f == TRACKING)
}

/// The strategic merge patch that takes the finalizer from a Pod of this UID.
pub fn untrack(uid: &str) -> Value {
    json!({"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [TRACKING]}})
}

fn spec_of(job: &Job) -> &JobSpec {
    static NONE: std::sync::LazyLock<JobSpec> = std::sync::LazyLock::new(JobSpec::default);
    job.spec.as_ref().unwrap_or(&NONE)
}

/// The condition that says that a Job is over.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_end =
        |c: &&JobCondition| matches!(&*c.type_, "Complete" | "Failed") && c.status == "True";
    conditions.iter().find(is_end)
}

/// A Job that is over goes when its time has come.
fn retire(job: &Job, finished: &JobCondition, now: Timestamp) -> Plan {
    let seconds = spec_of(job).ttl_seconds_after_finished;
    let since = finished.last_transition_time.as_ref().map(|t| t.0);
    let due = since.zip(seconds).and_then(|(since, seconds)| {
        let rest = SignedDuration::from_secs(seconds.into());
        since.checked_add(rest).ok()
    });
    match due.filter(|_| job.metadata.deletion_timestamp.is_none()) {
        Some(due) if due <= now => Plan {
            steps: vec![Step::End],
            ..Plan::default()
        },
        wake => Plan {
            wake,
            ..Plan::default()
        },
    }
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

#[cfg(test)]
mod tests;
