//! What a DaemonSet reports.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

use super::Place;
use super::fleet::Fleet;
use crate::object::count;
use crate::pod;

/// Of every node the oldest Pod counts.
pub(super) fn status(fleet: &Fleet<'_>) -> DaemonSetStatus {
    let old = fleet.set.status.as_ref();
    let mut status = DaemonSetStatus {
        collision_count: old.and_then(|s| s.collision_count),
        conditions: old.and_then(|s| s.conditions.clone()),
        observed_generation: fleet.set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    for (node, place) in &fleet.places {
        let pod = fleet.on(node).first();
        if *place != Place::Runs {
            status.number_misscheduled += i32::from(pod.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = pod else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod::is_ready(pod));
        available += i32::from(fleet.is_available(pod));
        updated += i32::from(fleet.is_new(pod));
    }
    status.updated_number_scheduled = count(updated);
    status.number_available = count(available);
    status.number_unavailable = count(status.desired_number_scheduled - available);
    status
}

/// With one collision more than there were `before`; `None` if that has been noted.
pub(super) fn collided(set: &DaemonSet, before: i32) -> Option<DaemonSetStatus> {
    let mut status = set.status.clone().unwrap_or_default();
    if status.collision_count.unwrap_or(0) != before {
        return None;
    }
    status.collision_count = Some(before.saturating_add(1));
    Some(status)
}
