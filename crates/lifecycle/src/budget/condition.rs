//! The condition `DisruptionAllowed`: whether `disruptionsAllowed` is more than none, and why not.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Its type.
pub(super) const TYPE: &str = "DisruptionAllowed";
/// Its reason when nothing could be counted.
pub(super) const FAILED: &str = "SyncFailed";

/// Says what `disruptionsAllowed` says.
pub(super) fn set(status: &mut PodDisruptionBudgetStatus, now: Timestamp) {
    let (holds, reason) = match status.disruptions_allowed.unwrap_or(0) {
        ..=0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    put(status, holds, reason, String::new(), now);
}

/// Allows nothing, because of this. What was counted before stays.
pub(super) fn set_failed(status: &mut PodDisruptionBudgetStatus, why: String, now: Timestamp) {
    for count in [
        &mut status.current_healthy,
        &mut status.desired_healthy,
        &mut status.expected_pods,
    ] {
        count.get_or_insert(0);
    }
    status.disruptions_allowed = Some(0);
    put(status, "False", FAILED, why, now);
}

/// The condition, if it does not hold and says why.
pub(super) fn why_not(status: &PodDisruptionBudgetStatus) -> Option<&Condition> {
    let mut all = status.conditions.iter().flatten();
    all.find(|c| c.type_ == TYPE)
        .filter(|c| c.status == "False" && !c.message.is_empty())
}

fn put(
    status: &mut PodDisruptionBudgetStatus,
    holds: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let observed_generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter_mut().find(|c| c.type_ == TYPE);
    // Its time tells when it last changed from true to false or back.
    let since = match &before {
        Some(before) if before.status == holds => before.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        type_: TYPE.to_owned(),
        status: holds.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation,
    };
    match before {
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
}
