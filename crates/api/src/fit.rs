//! Whether a node is one for a Pod, by names, labels and taints: what the scheduler, the node agent and controllers ask alike
//! (upstream's plugins NodeName, NodeAffinity and TaintToleration). Nothing here knows whether it has room.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

/// The effect of a taint that Pods have to leave for.
pub const NO_EXECUTE: &str = "NoExecute";

/// What is said of a node with another name than the Pod's spec has.
pub const OTHER_NAME: &str = "node(s) didn't match the requested node name";
/// What is said of a node that is not [affine](is_affine).
pub const NOT_AFFINE: &str = "node(s) didn't match Pod's node affinity/selector";
/// What is said of a node whose ports are taken.
pub const PORTS_TAKEN: &str = "node(s) didn't have free ports for the requested pod ports";

/// Whether the node is the one that the Pod's spec names, if it names one.
pub fn is_named(pod: &Pod, node: &Node) -> bool {
    let named = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    let named = named.filter(|name| !name.is_empty());
    named.is_none_or(|name| node.metadata.name.as_deref() == Some(name))
}

/// Whether the Pod tolerates the node's taints of these effects.
pub fn tolerates_all(pod: &Pod, node: &Node, effects: &[&str]) -> bool {
    let mut taints = taints(node).iter();
    taints.all(|t| !effects.contains(&t.effect.as_str()) || tolerates(tolerations(pod), t))
}

/// How long a Pod may stay on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// As long as it likes.
    Forever,
    /// So many seconds from when the node was tainted.
    For(u64),
}

/// How long the Pod tolerates the node's NoExecute taints: of each taint the first toleration that covers it counts, and the shortest
/// of them all.
pub fn stay(pod: &Pod, node: &Node) -> Stay {
    let mut least = Stay::Forever;
    for taint in taints(node).iter().filter(|t| t.effect == NO_EXECUTE) {
        let mut covering = tolerations(pod).iter().filter(|t| covers(t, taint));
        let Some(toleration) = covering.next() else {
            return Stay::For(0);
        };
        let seconds = toleration.toleration_seconds;
        let seconds = seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0));
        least = match (least, seconds) {
            (least, None) => least,
            (Stay::Forever, Some(seconds)) => Stay::For(seconds),
            (Stay::For(least), Some(seconds)) => Stay::For(least.min(seconds)),
        };
    }
    least
}

/// Whether the node has a taint of this effect.
pub fn has_taint(node: &Node, effect: &str) -> bool {
    taints(node).iter().any(|taint| taint.effect == effect)
}

fn taints(node: &Node) -> &[Taint] {
    let spec = node.spec.as_ref();
    spec.and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// The Pod's tolerations.
pub fn tolerations(pod: &Pod) -> &[Toleration] {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default()
}

/// Whether one of these tolerations covers the taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| covers(t, taint))
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let value_fits = match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            let value = toleration.value.as_deref().unwrap_or_default();
            value == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    };
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && value_fits
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shortest_toleration_ends_a_stay() {
        let until = |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "tolerationSeconds": seconds});
        let a = json!({"key": "a", "effect": "NoExecute"});
        let b = json!({"key": "b", "effect": "NoExecute"});
        let soft = json!({"key": "s", "effect": "NoSchedule"});
        let table = [
            (json!([]), json!([soft]), Stay::Forever),
            (json!([]), json!([soft, a]), Stay::For(0)),
            (json!([until("a", None)]), json!([a]), Stay::Forever),
            (json!([until("a", Some(5))]), json!([a]), Stay::For(5)),
            (json!([until("a", Some(-5))]), json!([a]), Stay::For(0)),
            (json!([until("a", Some(5))]), json!([a, b]), Stay::For(0)),
            (
                json!([until("a", Some(5)), until("b", Some(3))]),
                json!([a, b]),
                Stay::For(3),
            ),
            (
                json!([until("a", Some(5)), until("b", None)]),
                json!([a, b]),
                Stay::For(5),
            ),
            (
                json!([until("a", Some(5)), until("a", Some(3))]),
                json!([a]),
                Stay::For(5),
            ),
        ];
        for (tolerations, taints, want) in table {
            let pod = serde_json::from_value(
                json!({"spec": {"containers": [], "tolerations": tolerations}}),
            );
            let node = serde_json::from_value(json!({"spec": {"taints": taints}}));
            let got = stay(&pod.unwrap(), &node.unwrap());
            assert_eq!(got, want, "{tolerations} {taints}");
        }
    }
}
