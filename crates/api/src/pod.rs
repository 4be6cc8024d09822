//! What a Pod's status says to whoever looks at Pods.

use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// Its phase; empty as long as nobody has said any.
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether a phase is final (spec pod-lifecycle `§3.1`).
pub fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Whether all its containers have ended for good: its phase is final.
pub fn is_over(pod: &Pod) -> bool {
    is_final(phase(pod))
}

/// Whether its condition `Ready` is True (spec pod-lifecycle `§3.2`).
pub fn is_ready(pod: &Pod) -> bool {
    ready(pod).is_some()
}

/// The condition `Ready`, if it is True.
pub fn ready(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let is_ready = |c: &&PodCondition| c.type_ == "Ready" && c.status == "True";
    conditions.iter().find(is_ready)
}
