//! What a Pod was allocated: the resources of its containers, and its own.

use std::collections::BTreeMap;

use cri::SandboxStatus;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};

use crate::kinds;
use crate::resources::{List, parsed};

/// Annotation of a sandbox's record: the Pod's [`Allocation`].
pub const ALLOCATED: &str = "io.kubernetes.pod.allocatedResources";
/// Annotation of a container's record: the [`crate::resources::Amounts`] it was started with, or was changed to.
pub const ACTUATED: &str = "io.kubernetes.container.actuatedResources";

/// The resources of a Pod and of its containers by name, as the API has them. Ephemeral containers have none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<ResourceRequirements>,
    #[serde(default)]
    containers: BTreeMap<String, ResourceRequirements>,
}

impl Allocation {
    /// What the Pod's spec says.
    pub fn of(pod: &Pod) -> Self {
        let own = |c: &Container| (c.name.clone(), c.resources.clone().unwrap_or_default());
        Allocation {
            pod: pod.spec.as_ref().and_then(|s| s.resources.clone()),
            containers: kinds::members(pod).iter().map(|m| own(m.spec)).collect(),
        }
    }

    /// What was noted last in the records of a Pod's sandboxes.
    pub fn noted(sandboxes: &[SandboxStatus]) -> Option<Self> {
        let newest = sandboxes.iter().max_by_key(|s| s.metadata.attempt)?;
        // A note that cannot be read is as good as none.
        serde_json::from_str(newest.annotations.get(ALLOCATED)?).ok()
    }

    /// The annotation to note it in.
    pub fn note(&self) -> (String, String) {
        let text = serde_json::to_string(self).unwrap_or_default();
        (ALLOCATED.to_owned(), text)
    }

    /// Makes a Pod's spec say this.
    pub fn apply(&self, pod: &mut Pod) {
        let Some(spec) = pod.spec.as_mut() else {
            return;
        };
        spec.resources.clone_from(&self.pod);
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut spec.containers) {
            if let Some(resources) = self.containers.get(&container.name) {
                container.resources = Some(resources.clone());
            }
        }
    }

    /// Whether the amounts are the same, however they are written.
    pub fn is_same(&self, other: &Self) -> bool {
        let own = |a: &Self| a.pod.clone().unwrap_or_default();
        let names = self.containers.keys().eq(other.containers.keys());
        let pairs = self.containers.values().zip(other.containers.values());
        names && same(&own(self), &own(other)) && pairs.into_iter().all(|(a, b)| same(a, b))
    }
}

fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    let list = |a: &Option<List>, b: &Option<List>| parsed(a.as_ref()) == parsed(b.as_ref());
    list(&a.requests, &b.requests) && list(&a.limits, &b.limits)
}
