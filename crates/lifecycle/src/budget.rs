//! PodDisruptionBudgets: what a budget allows, from the Pods it selects (upstream's disruption controller), and whether an eviction
//! may proceed (§2.2, §16: 38).
//!
//! The two work on one status at the same time. An eviction takes one of `disruptionsAllowed` and notes the Pod in `disruptedPods`
//! before it deletes it; until the deletion is seen, or was waited for long enough, such a Pod does not count as healthy, however
//! old the Pods are that the other looks at. Both write what they have decided only if nobody has written meanwhile.

mod condition;
mod eviction;

use std::collections::BTreeMap;

use api::amount;
use api::owner::controller_of;
use api::pod::{is_over, is_ready};
use api::selector::Selector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use thiserror::Error;

pub use eviction::{Blocked, Permit, Refusal, evict};

/// How long an eviction is believed that has taken from a budget or marked its Pod, which is still there; upstream's
/// `DeletionTimeout` and `stalePodDisruptionTimeout`.
pub const BELIEVED: SignedDuration = SignedDuration::from_mins(2);

/// Why a budget cannot be worked out; upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyncError {
    /// Its selector is none.
    #[error("{0}")]
    Selector(String),
    /// A bound is neither a number nor a percentage.
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    Percentage,
    /// The Pod has a controller, and none is known that says how many Pods there should be.
    #[error("found no controllers for pod \"{0}\"")]
    NoController(String),
    /// The Pod's controller is of a kind, `jobs.batch`, that does not say it.
    #[error("{0} does not implement the scale subresource")]
    NoScale(String),
}

/// What says how many Pods of a controller there should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scale {
    /// This object, by its UID, says so many: the controller itself, or its own controller.
    Is(String, i32),
    /// Nothing that is known.
    Unknown,
    /// Nothing: objects of this kind, `jobs.batch`, do not say it.
    None(String),
}

/// A budget, looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The status it should have.
    pub status: PodDisruptionBudgetStatus,
    /// How many Pods it selects.
    pub selected: usize,
    /// When it has to be looked at again if nothing happens: an eviction is no longer believed then.
    pub recheck: Option<Timestamp>,
    /// Pods without a controller, which a budget by percentage or by `maxUnavailable` does not count.
    pub unmanaged: Vec<String>,
    /// Pods whose eviction was believed and has not come about.
    pub overdue: Vec<String>,
    /// Why nothing could be counted; nothing is allowed then.
    pub failed: Option<SyncError>,
}

/// Whether a budget is for this Pod. They must be of one namespace; a selector that cannot be read selects nothing.
pub fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    selector(budget).is_ok_and(|s| s.matches(&pod.metadata.labels))
}

/// Looks at a budget with every Pod of its namespace; `scale` tells of the controllers of Pods there.
pub fn look<'a>(
    budget: &PodDisruptionBudget,
    pods: impl IntoIterator<Item = &'a Pod>,
    scale: impl Fn(&OwnerReference) -> Scale,
    now: Timestamp,
) -> Outlook {
    let mut status = budget.status.clone().unwrap_or_default();
    let selected = selector(budget).map(|selector| {
        let all = pods.into_iter();
        all.filter(|pod| selector.matches(&pod.metadata.labels))
            .collect::<Vec<_>>()
    });
    let counted = selected.and_then(|pods| Ok((wanted(budget, &pods, scale)?, pods)));
    let (wanted, pods) = match counted {
        Ok(counted) => counted,
        Err(error) => {
            condition::set_failed(&mut status, error.to_string(), now);
            return Outlook {
                status,
                selected: 0,
                recheck: None,
                unmanaged: Vec::new(),
                overdue: Vec::new(),
                failed: Some(error),
            };
        }
    };
    let (disrupted, overdue) = disrupted(&status, &pods, now);
    let recheck = disrupted.values().map(ends).min();
    let is_counted = |pod: &&&Pod| is_healthy(pod) && !disrupted.contains_key(name(pod));
    let healthy = count(pods.iter().filter(is_counted).count());
    // A budget without Pods allows nothing: its first Pods are safe until they are counted.
    let allowed = match wanted.expected {
        0 => 0,
        _ => healthy.saturating_sub(wanted.healthy).max(0),
    };
    status.current_healthy = Some(healthy);
    status.desired_healthy = Some(wanted.healthy);
    status.expected_pods = Some(wanted.expected);
    status.disruptions_allowed = Some(allowed);
    status.disrupted_pods = Some(disrupted).filter(|d| !d.is_empty());
    status.observed_generation = budget.metadata.generation;
    condition::set(&mut status, now);
    Outlook {
        status,
        selected: pods.len(),
        recheck,
        unmanaged: wanted.unmanaged,
        overdue,
        failed: None,
    }
}

/// Until when a Pod is believed to be about to go because of its condition `DisruptionTarget` (§3.2); `None` if it goes, is over, or
/// does not say so.
pub fn target_until(pod: &Pod) -> Option<Timestamp> {
    if pod.metadata.deletion_timestamp.is_some() || is_over(pod) {
        return None;
    }
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref());
    let mut targets = conditions.into_iter().flatten();
    let target = targets.find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    let since = target.last_transition_time.as_ref().map(|t| t.0);
    let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
    Some(since.checked_add(BELIEVED).unwrap_or(Timestamp::MAX))
}

/// How many Pods a budget is about.
struct Wanted {
    /// All that there should be.
    expected: i32,
    /// That have to be healthy.
    healthy: i32,
    unmanaged: Vec<String>,
}

fn wanted(
    budget: &PodDisruptionBudget,
    pods: &[&Pod],
    scale: impl Fn(&OwnerReference) -> Scale,
) -> Result<Wanted, SyncError> {
    let none = PodDisruptionBudgetSpec::default();
    let spec = budget.spec.as_ref().unwrap_or(&none);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let (expected, unmanaged) = expected(pods, scale)?;
            let healthy = expected.saturating_sub(scaled(most, expected)?).max(0);
            Ok(Wanted {
                expected,
                healthy,
                unmanaged,
            })
        }
        (None, Some(IntOrString::Int(least))) => Ok(Wanted {
            expected: count(pods.len()),
            healthy: *least,
            unmanaged: Vec::new(),
        }),
        (None, Some(least)) => {
            let (expected, unmanaged) = expected(pods, scale)?;
            let healthy = scaled(least, expected)?;
            Ok(Wanted {
                expected,
                healthy,
                unmanaged,
            })
        }
        (None, None) => Ok(Wanted {
            expected: 0,
            healthy: 0,
            unmanaged: Vec::new(),
        }),
    }
}

/// How many Pods the controllers of these want, all together, and the Pods that have none.
fn expected(
    pods: &[&Pod],
    scale: impl Fn(&OwnerReference) -> Scale,
) -> Result<(i32, Vec<String>), SyncError> {
    let mut unmanaged = Vec::new();
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    for pod in pods {
        let Some(controller) = controller_of(&pod.metadata) else {
            unmanaged.push(name(pod).to_owned());
            continue;
        };
        match scale(controller) {
            Scale::Is(uid, replicas) => {
                scales.insert(uid, replicas);
            }
            Scale::Unknown => return Err(SyncError::NoController(name(pod).to_owned())),
            Scale::None(kind) => return Err(SyncError::NoScale(kind)),
        }
    }
    let expected = scales.into_values().fold(0, i32::saturating_add);
    Ok((expected, unmanaged))
}

/// A number, or a percentage of `total`, rounded up.
fn scaled(bound: &IntOrString, total: i32) -> Result<i32, SyncError> {
    amount::scaled(bound, total, true).ok_or(SyncError::Percentage)
}

/// Evictions that are still believed, and Pods whose are not any more.
fn disrupted(
    status: &PodDisruptionBudgetStatus,
    pods: &[&Pod],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Vec<String>) {
    let (mut believed, mut overdue) = (BTreeMap::new(), Vec::new());
    let staying = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    for name in staying.map(|pod| name(pod)) {
        match status.disrupted_pods.as_ref().and_then(|d| d.get(name)) {
            Some(since) if now < ends(since) => {
                believed.insert(name.to_owned(), since.clone());
            }
            Some(_) => overdue.push(name.to_owned()),
            None => {}
        }
    }
    (believed, overdue)
}

fn ends(since: &Time) -> Timestamp {
    since.0.checked_add(BELIEVED).unwrap_or(Timestamp::MAX)
}

fn is_healthy(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && is_ready(pod)
}

fn selector(budget: &PodDisruptionBudget) -> Result<Selector, SyncError> {
    let spec = budget.spec.as_ref();
    Selector::from_object(spec.and_then(|s| s.selector.as_ref()))
        .map_err(|error| SyncError::Selector(error.to_string()))
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
