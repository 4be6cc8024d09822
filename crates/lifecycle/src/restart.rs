//! Whether an exited container starts again (§1.8), and when at the earliest (§4.1).

use cri::{ContainerState, ContainerStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::kinds::Member;
use crate::look::Look;
use crate::observed::{BackOff, ContainerKind};
use crate::plan::NodePolicy;
use crate::resources::Amounts;
use crate::text;

/// An entry that was not advanced for this long before an exit counts as absent: the instance ran well.
const FORGET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// Whether policy and rules restart a container that ended with `exit_code`, deletion apart (§1.8 rules 2 to 4).
///
/// The action `RestartAllContainers` counts as a restart of the container itself.
pub fn restarts_after(pod: &Pod, member: &Member<'_>, exit_code: i32) -> bool {
    let rules = member
        .spec
        .restart_policy_rules
        .as_deref()
        .unwrap_or_default();
    let own = member.spec.restart_policy.as_deref();
    if own.is_some() && rules.iter().any(|rule| rule_matches(rule, exit_code)) {
        return true;
    }
    let pods = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    match own.or(pods).unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => member.kind != ContainerKind::Init || exit_code != 0,
    }
}

pub(crate) fn rule_matches(
    rule: &k8s_openapi::api::core::v1::ContainerRestartRule,
    exit_code: i32,
) -> bool {
    rule.exit_codes.as_ref().is_some_and(|codes| {
        let listed = codes
            .values
            .as_deref()
            .unwrap_or_default()
            .contains(&exit_code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

/// The exit code that decides about a restart: an init container the kernel killed for memory failed whatever it returned
/// (§1.6).
pub fn deciding_code(kind: ContainerKind, exit_code: i32, reason: &str) -> i32 {
    if kind == ContainerKind::Init && exit_code == 0 && reason == "OOMKilled" {
        137
    } else {
        exit_code
    }
}

/// Whether a container is due to be started or restarted (§1.8), back-off apart.
pub(crate) fn due(look: &Look<'_>, member: &Member<'_>, newest: Option<&ContainerStatus>) -> bool {
    if look.deleted() {
        return false;
    }
    if member.kind == ContainerKind::Ephemeral {
        // Once, and never again (§7).
        return newest.is_none_or(|c| c.state == ContainerState::Created);
    }
    match newest.map(|c| (c, &c.state)) {
        None | Some((_, ContainerState::Created | ContainerState::Unknown)) => true,
        Some((_, ContainerState::Running { .. })) => false,
        Some((
            record,
            ContainerState::Exited {
                exit_code, reason, ..
            },
        )) => {
            replaced(look, record)
                || restarts_after(
                    look.pod,
                    member,
                    deciding_code(member.kind, *exit_code, reason),
                )
        }
    }
}

/// Whether a record was stopped to be started again, whatever its exit code (§1.7), or had begun to be.
pub(crate) fn replaced(look: &Look<'_>, record: &ContainerStatus) -> bool {
    let stop = look.seen.memory.stop_of(&record.id);
    stop.is_some_and(|stop| stop.then_restart) || look.seen.memory.owed.contains(&record.id)
}

/// Whether the policy alone, before there is an exit code, starts a container again that the agent stops (§1.7).
pub(crate) fn restarts_after_stop(pod: &Pod, member: &Member<'_>) -> bool {
    let pods = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    member.spec.restart_policy.as_deref().or(pods) != Some("Never")
}

/// Whether a start may happen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Now; this becomes the back-off entry. `None` for a first start, which leaves it alone.
    Open(Option<BackOff>),
    /// Not before `until`.
    Held {
        /// The delay in force.
        delay: SignedDuration,
        /// When the container may start.
        until: Timestamp,
    },
}

/// The crash back-off at a start attempt (§4.1): `finished_at` is the end of the newest run that has ended, `amounts` is what the
/// container is allocated.
pub fn gate(
    entry: Option<&BackOff>,
    finished_at: Option<Timestamp>,
    amounts: Amounts,
    now: Timestamp,
    policy: &NodePolicy,
) -> Gate {
    let Some(finished_at) = finished_at else {
        return Gate::Open(None);
    };
    let entry = entry.filter(|e| e.amounts == amounts);
    let entry = entry.filter(|e| finished_at.duration_since(e.updated_at) <= FORGET_AFTER);
    let delay = match entry {
        Some(entry) => {
            let until = text::after(finished_at, entry.delay);
            if now < until {
                return Gate::Held {
                    delay: entry.delay,
                    until,
                };
            }
            next_delay(entry.delay, policy.crash_back_off_max)
        }
        None => policy.back_off_initial.min(policy.crash_back_off_max),
    };
    Gate::Open(Some(BackOff {
        delay,
        updated_at: now,
        amounts,
    }))
}

/// Twice as long, up to the most.
pub(crate) fn next_delay(delay: SignedDuration, most: SignedDuration) -> SignedDuration {
    delay.checked_mul(2).unwrap_or(most).min(most)
}

/// Waiting message of a container in back-off.
pub fn back_off_message(pod: &Pod, name: &str, delay: SignedDuration) -> String {
    format!(
        "back-off {} restarting failed container={name} pod={}",
        text::go_duration(delay),
        text::pod_format(pod)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_may_cap_crash_delays() {
        let delays = |most: i64| {
            let policy = NodePolicy {
                crash_back_off_max: SignedDuration::from_secs(most),
                ..NodePolicy::default()
            };
            let (mut entry, mut now): (Option<BackOff>, _) = (None, Timestamp::UNIX_EPOCH);
            let mut delays = Vec::new();
            for _ in 0..7 {
                let ended = now;
                now = text::after(
                    ended,
                    entry.as_ref().map_or(SignedDuration::ZERO, |e| e.delay),
                );
                let held = entry.as_ref();
                let Gate::Open(next) = gate(held, Some(ended), Amounts::default(), now, &policy)
                else {
                    unreachable!("the delay has passed");
                };
                delays.extend(next.as_ref().map(|next| next.delay.as_secs()));
                entry = next;
            }
            delays
        };
        assert_eq!(delays(300), [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(delays(30), [10, 20, 30, 30, 30, 30, 30]);
        assert_eq!(delays(3), [3, 3, 3, 3, 3, 3, 3]);
    }
}
