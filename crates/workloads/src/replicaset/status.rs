//! What a ReplicaSet reports.

use api::selector::Selector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{min_ready, replicas};
use crate::object::{count, number};
use crate::pod;

/// The condition that says that Pods could not be made or deleted.
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) fn status(
    set: &ReplicaSet,
    active: &[&Pod],
    terminating: i32,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
    let labels = template
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.as_ref());
    let labels = Selector::from_map(labels.into_iter().flatten());
    let has_labels = |pod: &&&Pod| labels.matches(&pod.metadata.labels);
    let is_available = |pod: &&&Pod| pod::is_available(pod, min_ready(set), now);
    let all = || active.iter();
    ReplicaSetStatus {
        replicas: number(all()),
        fully_labeled_replicas: count(number(all().filter(has_labels))),
        ready_replicas: count(number(all().filter(|pod| pod::is_ready(pod)))),
        available_replicas: count(number(all().filter(is_available))),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, number(all()), failure, now),
    }
}

/// The condition of a failure is as it was when it began.
fn conditions(
    set: &ReplicaSet,
    active: i32,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let old = set.status.as_ref().and_then(|s| s.conditions.clone());
    let mut conditions = old.unwrap_or_default();
    let has_failed = conditions.iter().any(|c| c.type_ == REPLICA_FAILURE);
    match failure {
        Some(message) if !has_failed => {
            let reason = match active.cmp(&replicas(set)) {
                std::cmp::Ordering::Less => Some("FailedCreate"),
                std::cmp::Ordering::Greater => Some("FailedDelete"),
                std::cmp::Ordering::Equal => None,
            };
            conditions.push(ReplicaSetCondition {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: reason.map(str::to_owned),
                message: Some(message.to_owned()),
                last_transition_time: Some(Time(now)),
            });
        }
        None => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
        Some(_) => {}
    }
    Some(conditions).filter(|c| !c.is_empty())
}
