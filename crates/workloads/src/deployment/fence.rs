//! Between which numbers of Pods a rollout stays.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};

use crate::object::scaled;

/// The bounds of a Deployment, in Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    /// How many there should be.
    pub(super) replicas: i32,
    /// How many there may be beyond that.
    pub(super) surge: i32,
    /// How many of them may be unavailable.
    pub(super) unavailable: i32,
}

impl Fence {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|s| s.replicas).unwrap_or(1);
        let strategy = spec.and_then(|s| s.strategy.as_ref());
        if !is_rolling(strategy) {
            return Fence {
                replicas,
                surge: 0,
                unavailable: 0,
            };
        }
        let bounds = strategy.and_then(|s| s.rolling_update.as_ref());
        let surge = scaled(bounds.and_then(|b| b.max_surge.as_ref()), replicas, true);
        let bound = bounds.and_then(|b| b.max_unavailable.as_ref());
        let unavailable = match (surge, scaled(bound, replicas, false)) {
            // Nothing would ever move.
            (0, 0) => 1,
            (_, unavailable) => unavailable,
        };
        Fence {
            replicas,
            surge,
            unavailable: unavailable.min(replicas),
        }
    }

    /// So many at most.
    pub(super) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// So many have to be available.
    pub(super) fn least(&self) -> i32 {
        self.replicas.saturating_sub(self.unavailable)
    }
}

pub(super) fn is_rolling(strategy: Option<&DeploymentStrategy>) -> bool {
    strategy.and_then(|s| s.type_.as_deref()) != Some("Recreate")
}
