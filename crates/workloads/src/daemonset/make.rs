//! The Pods of a DaemonSet.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::place::{NAME, NO_SCHEDULE};
use super::template;
use crate::history::REVISION_LABEL;
use crate::pod;

/// The annotation that numbers a DaemonSet's templates, and the label of their Pods.
const GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// What the Pods of a DaemonSet tolerate whatever their template says: a node in trouble does not lose them, and gets them.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];
/// What those tolerate besides that need no network but the node's.
const TOLERATED_BY_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);

/// The Pod of the template with this hash for the node of this name, which the scheduler cannot bind to another.
pub(super) fn pod(set: &DaemonSet, reference: &OwnerReference, hash: &str, node: &str) -> Pod {
    let mut pod = pod::from_template(reference, template(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_string());
    }
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    aim(spec, node);
    pod
}

/// The number of its template, where it has one.
fn generation(set: &DaemonSet) -> Option<i64> {
    let annotations = set.metadata.annotations.as_ref()?;
    annotations.get(GENERATION)?.parse().ok()
}

/// Adds what Pods of DaemonSets tolerate. What the template tolerates for a time is tolerated for good.
pub(super) fn tolerate(spec: &mut PodSpec) {
    let by_host = spec.host_network.unwrap_or(false);
    let by_host = by_host.then_some(TOLERATED_BY_HOST);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(by_host) {
        let is_same = |t: &&mut Toleration| {
            t.key.as_deref() == Some(key)
                && t.effect.as_deref() == Some(effect)
                && t.operator.as_deref() == Some("Exists")
                && t.value.as_deref().unwrap_or_default().is_empty()
        };
        if let Some(same) = tolerations.iter_mut().find(is_same) {
            same.toleration_seconds = None;
            continue;
        }
        tolerations.push(Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        });
    }
}

/// Requires the node of this name and no other property of a node: the template's were looked at when the node was chosen.
fn aim(spec: &mut PodSpec, node: &str) {
    let named = NodeSelectorRequirement {
        key: NAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity = spec.affinity.get_or_insert_default();
    let affinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![named]),
        }],
    });
}
