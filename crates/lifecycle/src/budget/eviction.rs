//! Whether an eviction may proceed, and at what price.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use thiserror::Error;

use super::condition;
use super::{name, selects};
use api::pod::{is_over, is_ready};

/// So many evictions may be noted that nobody has seen come about; upstream's `MaxDisruptedPodSize`.
const MOST_DISRUPTED: usize = 2000;
const ALWAYS: &str = "AlwaysAllow";

/// An eviction that may proceed.
#[derive(Debug, Clone, PartialEq)]
pub enum Permit {
    /// Nothing runs in the Pod that could be disrupted. If it does not run *yet*, it has to be deleted as it was judged.
    Unasked {
        /// Whether it must not have changed since.
        unchanged: bool,
    },
    /// No budget is for it.
    Free,
    /// The Pod is not ready, and this budget lets such go. It has to be deleted as it was judged: it could have become ready.
    Unhealthy(String),
    /// This budget has to have this status first, and must not have changed since it was judged.
    Spends(String, Box<PodDisruptionBudgetStatus>),
}

/// An eviction that must not proceed (§2.2); upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Several budgets are for the Pod.
    #[error(
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    )]
    Several,
    /// The budget's status is wrong in itself.
    #[error("{1}")]
    Forbidden(String, &'static str),
    /// It may be tried again.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    Blocked(Blocked),
}

/// Why a budget lets nobody go now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Blocked {
    /// Nobody has looked at the budget since it was changed, or at the Pod.
    #[error("The disruption budget {0} is still being processed by the server.")]
    Behind(String),
    /// What it allows could not be worked out.
    #[error(
        "The disruption budget {0} does not allow evicting pods currently because it failed sync: {1}"
    )]
    Failed(String, String),
    /// There are no more healthy Pods than there have to be: needed, present.
    #[error("The disruption budget {0} needs {1} healthy pods and has {2} currently")]
    Exhausted(String, i32, i32),
    /// For the reason, and with the message, of its condition.
    #[error("The disruption budget {0} does not allow evicting pods currently ({1}): {2}")]
    Reason(String, String, String),
    /// For no reason given.
    #[error("The disruption budget {0} does not allow evicting pods currently")]
    Unknown(String),
}

/// Whether a Pod may be evicted, given the budgets of its namespace.
///
/// # Errors
/// It must not.
pub fn evict<'a>(
    pod: &Pod,
    budgets: impl IntoIterator<Item = &'a PodDisruptionBudget>,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let phase = phase.unwrap_or_default();
    let goes = pod.metadata.deletion_timestamp.is_some() || is_over(pod);
    if goes || phase == "Pending" {
        let unchanged = !goes;
        return Ok(Permit::Unasked { unchanged });
    }
    let mut own = budgets.into_iter().filter(|budget| selects(budget, pod));
    let Some(budget) = own.next() else {
        return Ok(Permit::Free);
    };
    if own.next().is_some() {
        return Err(Refusal::Several);
    }
    let title = budget.metadata.name.clone().unwrap_or_default();
    let status = budget.status.clone().unwrap_or_default();
    if !is_ready(pod) && lets_unhealthy_go(budget, &status) {
        return Ok(Permit::Unhealthy(title));
    }
    spend(title, budget, status, name(pod), now)
}

fn lets_unhealthy_go(budget: &PodDisruptionBudget, status: &PodDisruptionBudgetStatus) -> bool {
    let spec = budget.spec.as_ref();
    let policy = spec.and_then(|s| s.unhealthy_pod_eviction_policy.as_deref());
    let (has, needs) = healthy(status);
    policy == Some(ALWAYS) || (has >= needs && needs > 0)
}

/// Healthy Pods: how many there are, how many there have to be.
fn healthy(status: &PodDisruptionBudgetStatus) -> (i32, i32) {
    (
        status.current_healthy.unwrap_or(0),
        status.desired_healthy.unwrap_or(0),
    )
}

/// Takes one disruption from a budget.
fn spend(
    title: String,
    budget: &PodDisruptionBudget,
    mut status: PodDisruptionBudgetStatus,
    pod: &str,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    let noted = status.disrupted_pods.as_ref().map_or(0, |d| d.len());
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        return Err(Refusal::Blocked(Blocked::Behind(title)));
    }
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(Refusal::Forbidden(title, why));
    }
    if noted > MOST_DISRUPTED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Refusal::Forbidden(title, why));
    }
    if allowed == 0 {
        return Err(Refusal::Blocked(blocked(title, &status)));
    }
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        condition::set(&mut status, now);
    }
    let disrupted = status.disrupted_pods.get_or_insert_default();
    disrupted.insert(pod.to_owned(), Time(now));
    Ok(Permit::Spends(title, Box::new(status)))
}

fn blocked(title: String, status: &PodDisruptionBudgetStatus) -> Blocked {
    let (has, needs) = healthy(status);
    match condition::why_not(status) {
        // What was counted is from another time.
        Some(c) if c.reason == condition::FAILED => Blocked::Failed(title, c.message.clone()),
        _ if has <= needs => Blocked::Exhausted(title, needs, has),
        Some(c) => Blocked::Reason(title, c.reason.clone(), c.message.clone()),
        None => Blocked::Unknown(title),
    }
}
