//! Whether a node is one for a Pod, by names, labels and taints: what the scheduler and the node agent ask alike (upstream's plugins
//! NodeName, NodeAffinity and TaintToleration). Whether it has room is for [`crate::room`] to say.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

/// What is said of a node with another name than the Pod's spec has.
pub const OTHER_NAME: &str = "node(s) didn't match the requested node name";
/// What is said of a node that is not [affine](is_affine).
pub const NOT_AFFINE: &str = "node(s) didn't match Pod's node affinity/selector";
/// What is said of a node whose ports are taken ([`crate::room::Room::is_port_taken`]).
pub const PORTS_TAKEN: &str = "node(s) didn't have free ports for the requested pod ports";

/// Whether the node is the one that the Pod's spec names, if it names one.
pub fn is_named(pod: &Pod, node: &Node) -> bool {
    let named = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    let named = named.filter(|name| !name.is_empty());
    named.is_none_or(|name| node.metadata.name.as_deref() == Some(name))
}

/// Whether the Pod tolerates the node's taints of these effects.
pub fn tolerates_all(pod: &Pod, node: &Node, effects: &[&str]) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref());
    let mut taints = taints.unwrap_or_default().iter();
    taints.all(|t| !effects.contains(&t.effect.as_str()) || tolerates(tolerations(pod), t))
}

/// The Pod's tolerations.
pub fn tolerations(pod: &Pod) -> &[Toleration] {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default()
}

/// Whether one of these tolerations covers the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let effect = t.effect.as_deref().unwrap_or_default();
        let key = t.key.as_deref().unwrap_or_default();
        let value_fits = match t.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => {
                t.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
            }
            "Exists" => true,
            _ => false,
        };
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && value_fits
    })
}

/// Whether the node is one that `nodeSelector` and the required node affinity of the Pod select.
pub fn is_affine(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let name = node.metadata.name.as_deref().unwrap_or_default();
    selected
        && required.is_none_or(|r| {
            r.node_selector_terms
                .iter()
                .any(|term| term_matches(term, &labels, name))
        })
}

/// Terms are alternatives; inside one, everything must hold. An empty term selects nothing.
fn term_matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    (!expressions.is_empty() || !fields.is_empty())
        && expressions
            .iter()
            .all(|r| requirement_holds(r, labels.get(&r.key).map(String::as_str)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && requirement_holds(r, Some(name)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|x| x == v)),
        "NotIn" => value.is_none_or(|v| values.iter().all(|x| x != v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value)
            .zip(number(values.first().map(String::as_str)))
            .is_some_and(|(a, b)| a > b),
        "Lt" => number(value)
            .zip(number(values.first().map(String::as_str)))
            .is_some_and(|(a, b)| a < b),
        _ => false,
    }
}
