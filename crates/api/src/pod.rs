//! What Pods say of themselves to whoever looks at them.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Pod, PodCondition, Volume};

/// Marks a Pod that stands for a static one: its value is the hash of the manifest, which is the static Pod's UID unless the manifest
/// says another.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// Where a node agent has a Pod from: `api`, or `file` for a static Pod. Only what an agent notes itself is to be believed.
pub const SOURCE: &str = "kubernetes.io/config.source";

/// Whether it stands for a static Pod, and is run by nobody.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// Whether a node has it from a manifest of its own (upstream's static Pods).
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

/// An annotation.
pub fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    let all = pod.metadata.annotations.as_ref()?;
    all.get(key).map(String::as_str)
}

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

/// The name of the claim behind a volume of the Pod of this name: one it names, or the one that is made with the Pod, for it alone
/// (KEP-1698).
pub fn claim_of<'v>(pod: &str, volume: &'v Volume) -> Option<Cow<'v, str>> {
    match &volume.persistent_volume_claim {
        Some(asked) => Some(Cow::Borrowed(&asked.claim_name)),
        None => made_with(pod, volume).map(Cow::Owned),
    }
}

/// The name of the claim that is made with the Pod of this name for a volume of it, if it is one of that kind.
pub fn made_with(pod: &str, volume: &Volume) -> Option<String> {
    let is_made = volume.ephemeral.is_some();
    is_made.then(|| format!("{pod}-{}", volume.name))
}
