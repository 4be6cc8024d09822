//! How long a Job waits after failures: 10 seconds, twice as long each time, 10 minutes at most.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// When the next Pod may be made after so many failures in a row, the last of them then.
pub(super) fn until(failures: i32, last: Timestamp) -> Option<Timestamp> {
    let doublings = u32::try_from(failures.checked_sub(1)?).ok()?;
    let factor = 1_i32.checked_shl(doublings.min(16)).unwrap_or(i32::MAX);
    last.checked_add((FIRST * factor).min(LONGEST)).ok()
}

/// The same after the failures since the last success, given when Pods succeeded and failed.
pub(super) fn since_success(
    succeeded: impl Iterator<Item = Timestamp>,
    failed: impl Iterator<Item = Timestamp>,
) -> Option<Timestamp> {
    let success = succeeded.max();
    let failed: Vec<Timestamp> = failed
        .filter(|at| success.is_none_or(|s| *at > s))
        .collect();
    until(crate::object::number(&failed), failed.into_iter().max()?)
}

/// When a Pod ended: as its containers say, or its condition `Ready`, or its deletion.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let meta = &pod.metadata;
    let deleted = || {
        let grace = meta.deletion_grace_period_seconds.unwrap_or(0);
        let at = meta.deletion_timestamp.as_ref()?.0;
        at.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    let created = meta.creation_timestamp.as_ref().map(|t| t.0);
    containers_finished(pod)
        .or_else(|| unready_since(pod))
        .or_else(deleted)
        .or(created)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When the last of the containers ended, sidecars among them; `None` while one has not.
fn containers_finished(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    let is_sidecar = |status: &&ContainerStatus| {
        let mut containers = init.into_iter().flatten();
        containers.any(|c| c.name == status.name && c.restart_policy.as_deref() == Some("Always"))
    };
    let sidecars = status.init_container_statuses.iter().flatten();
    let apps = status.container_statuses.iter().flatten();
    let mut last = None;
    for container in apps.chain(sidecars.filter(is_sidecar)) {
        let terminated = container.state.as_ref()?.terminated.as_ref()?;
        last = last.max(Some(terminated.finished_at.as_ref()?.0));
    }
    last
}

fn unready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let is_unready =
        |c: &&k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == "False";
    let since = conditions
        .iter()
        .find(is_unready)?
        .last_transition_time
        .as_ref()?;
    Some(since.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 0).unwrap()
    }

    #[test]
    fn waiting_doubles_up_to_ten_minutes_and_ends_with_success() {
        let waits = [
            (0, None),
            (1, Some(10)),
            (2, Some(20)),
            (4, Some(80)),
            (7, Some(600)),
            (99, Some(600)),
        ];
        for (failures, seconds) in waits {
            assert_eq!(until(failures, at(0)), seconds.map(at), "{failures}");
        }
        let since = |succeeded: &[i64], failed: &[i64]| {
            since_success(
                succeeded.iter().map(|s| at(*s)),
                failed.iter().map(|s| at(*s)),
            )
        };
        assert_eq!(since(&[], &[]), None);
        assert_eq!(since(&[], &[5, 3]), Some(at(25)));
        assert_eq!(since(&[4], &[5, 3]), Some(at(15)));
        assert_eq!(since(&[9], &[5, 3]), None);
    }
}
