//! Which nodes can take a Pod (upstream's filter plugins NodeUnschedulable, NodeName, TaintToleration and NodeAffinity), as pure
//! functions. The words are upstream's: clients read them in `FailedScheduling` events.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

const UNSCHEDULABLE: &str = "node(s) were unschedulable";
const NODE_NAME: &str = "node(s) didn't match the requested node name";
const TAINT: &str = "node(s) had untolerated taint(s)";
const AFFINITY: &str = "node(s) didn't match Pod's node affinity/selector";

/// The name of a node that can take the Pod.
///
/// # Errors
/// Why none can, in the words of a `FailedScheduling` event.
pub fn choose<'a>(pod: &Pod, nodes: impl Iterator<Item = &'a Node>) -> Result<String, String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = 0;
    for node in nodes {
        count += 1;
        match obstacle(pod, node) {
            None => return Ok(node.metadata.name.clone().unwrap_or_default()),
            Some(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    if count == 0 {
        return Err("no nodes available to schedule pods".into());
    }
    let mut texts: Vec<String> = reasons
        .iter()
        .map(|(reason, n)| format!("{n} {reason}"))
        .collect();
    texts.sort();
    Err(format!(
        "0/{count} nodes are available: {}. no new claims to deallocate, preemption: 0/{count} nodes are available: \
         {count} Preemption is not helpful for scheduling.",
        texts.join(", ")
    ))
}

/// Whether anything that [`choose`] looks at differs between two states of a node.
pub fn differs(a: &Node, b: &Node) -> bool {
    a.spec != b.spec || a.metadata.labels != b.metadata.labels || is_ready(a) != is_ready(b)
}

/// The first filter that keeps the Pod off the node.
fn obstacle(pod: &Pod, node: &Node) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    let cordoned = node
        .spec
        .as_ref()
        .and_then(|s| s.unschedulable)
        .unwrap_or(false);
    if cordoned && !tolerates(tolerations, &taint("node.kubernetes.io/unschedulable")) {
        return Some(UNSCHEDULABLE);
    }
    if spec
        .node_name
        .as_ref()
        .is_some_and(|name| !name.is_empty() && Some(name) != node.metadata.name.as_ref())
    {
        return Some(NODE_NAME);
    }
    let untolerated = taints
        .iter()
        .any(|t| t.effect != "PreferNoSchedule" && !tolerates(tolerations, t));
    let not_ready =
        !is_ready(node) && !tolerates(tolerations, &taint("node.kubernetes.io/not-ready"));
    if untolerated || not_ready {
        return Some(TAINT);
    }
    (!affine(pod, node)).then_some(AFFINITY)
}

fn taint(key: &str) -> Taint {
    Taint {
        key: key.into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
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

fn affine(pod: &Pod, node: &Node) -> bool {
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
