//! What a set reports.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::order::Order;
use super::revision::{Pair, collisions};
use super::{is_rolling, pods, replicas};
use crate::object::{count, name, number};
use crate::pod;

/// The set's status. Pods that are being deleted count, but not as those of a revision. When all Pods are of the newest revision, and
/// ready, that is the current one.
pub(super) fn status(order: &Order<'_>) -> StatefulSetStatus {
    let (set, now) = (order.set, order.now);
    let all = || order.pods.values().copied();
    let is_ready = |pod: &&Pod| pod::phase(pod) == "Running" && pod::is_ready(pod);
    let is_available = |pod: &&Pod| pod::is_available(pod, order.min_ready(), now);
    let of = |revision: &ControllerRevision| {
        let is_leaving = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        let is_updated = |pod: &Pod| order.updated.is_some_and(|u| std::ptr::eq(u, pod));
        let stay = all().filter(|pod| !is_leaving(pod) && !is_updated(pod));
        number(stay.filter(|pod| pods::revision(pod) == name(&revision.metadata)))
    };
    let ready = number(all().filter(is_ready));
    let Pair { current, newest } = order.revisions;
    let (mut of_current, updated) = (of(current), of(newest));
    let mut revision = current;
    let wanted = replicas(set);
    if is_rolling(order.spec) && [updated, ready, number(all())] == [wanted; 3] {
        of_current = updated;
        revision = newest;
    }
    let old = set.status.as_ref();
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: number(all()),
        ready_replicas: count(ready),
        available_replicas: Some(number(all().filter(is_ready).filter(is_available))),
        current_replicas: count(of_current),
        updated_replicas: count(updated),
        current_revision: revision.metadata.name.clone(),
        update_revision: newest.metadata.name.clone(),
        collision_count: Some(collisions(set)),
        conditions: old.and_then(|s| s.conditions.clone()),
    }
}
