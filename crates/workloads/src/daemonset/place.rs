//! Which nodes are for a DaemonSet's Pods, and which node a Pod is for.

use api::fit;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{make, template};

/// The field of a node that its name is in.
pub(super) const NAME: &str = "metadata.name";

/// The effect of a taint that keeps Pods from coming.
pub(super) const NO_SCHEDULE: &str = "NoSchedule";

/// What a node is to a DaemonSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// There is to be a Pod.
    Runs,
    /// A Pod that is there may stay; none is made.
    Stays,
    /// There is to be none.
    Unfit,
}

/// Whether two states of a node may be different things to a DaemonSet.
pub fn differs(a: &Node, b: &Node) -> bool {
    let taints = |node: &Node| node.spec.as_ref().and_then(|s| s.taints.clone());
    a.metadata.labels != b.metadata.labels || taints(a) != taints(b)
}

/// What is asked of every node: a Pod that no node was chosen for.
pub(super) struct Probe(Pod);

/// The question to ask nodes with.
pub(super) fn probe(set: &DaemonSet) -> Probe {
    let mut spec = template(set).spec.clone().unwrap_or_default();
    make::tolerate(&mut spec);
    Probe(Pod {
        spec: Some(spec),
        ..Pod::default()
    })
}

impl Probe {
    pub(super) fn on(&self, node: &Node) -> Place {
        let Probe(pod) = self;
        if !fit::is_named(pod, node) || !fit::is_affine(pod, node) {
            Place::Unfit
        } else if fit::tolerates_all(pod, node, &[NO_SCHEDULE, fit::NO_EXECUTE]) {
            Place::Runs
        } else if fit::tolerates_all(pod, node, &[fit::NO_EXECUTE]) {
            Place::Stays
        } else {
            Place::Unfit
        }
    }
}

/// The name of the node that a Pod is on, or was made for; `None` where neither can be told.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(bound) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return Some(bound);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let terms = required.node_selector_terms.iter();
    let mut fields = terms.flat_map(|term| term.match_fields.iter().flatten());
    let named = fields.find(|field| field.key == NAME && field.operator == "In")?;
    match named.values.as_deref() {
        Some([name]) => Some(name),
        _ => None,
    }
}
