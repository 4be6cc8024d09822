//! Which objects a quota is about, by its scopes.

use serde_json::Value;

use crate::pod::aggregate::stored_qos_class;
use crate::view::{dig, get, list, text};

/// Whether a quota is about an object of a kind: all its scopes fit. Only Pods and claims have any.
pub(super) fn fits(quota: &Value, kind: &str, object: &Value) -> bool {
    let spec = get(quota, "spec");
    let scopes = list(get(spec, "scopes")).iter();
    let selectors = list(dig(spec, &["scopeSelector", "matchExpressions"])).iter();
    let mut terms = scopes
        .map(|scope| (text(scope), "Exists", &[][..]))
        .chain(selectors.map(|term| {
            let words = ["scopeName", "operator"].map(|name| text(get(term, name)));
            (words[0], words[1], list(get(term, "values")))
        }));
    terms.all(|(scope, operator, values)| match kind {
        "pods" => pod(object, scope, operator, values),
        "persistentvolumeclaims" if scope == "VolumeAttributesClass" => {
            is_selected(&attributes(object), operator, values)
        }
        _ => false,
    })
}

fn pod(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => stored_qos_class(pod) == "BestEffort",
        "NotBestEffort" => stored_qos_class(pod) != "BestEffort",
        "PriorityClass" => {
            let class = text(dig(pod, &["spec", "priorityClassName"]));
            let classes = Some(class).filter(|class| !class.is_empty());
            is_selected(classes.as_slice(), operator, values)
        }
        "CrossNamespacePodAffinity" => looks_elsewhere(pod),
        _ => false,
    }
}

/// Whether a Pod may be active for a limited time only.
pub(super) fn is_terminating(pod: &Value) -> bool {
    let seconds = dig(pod, &["spec", "activeDeadlineSeconds"]).as_i64();
    seconds.is_some_and(|seconds| seconds >= 0)
}

/// Whether one of the names is selected; no names at all are what is not among any values.
fn is_selected(names: &[&str], operator: &str, values: &[Value]) -> bool {
    let is_listed = |name: &&str| values.iter().any(|value| text(value) == *name);
    match operator {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        "In" => names.iter().any(is_listed),
        "NotIn" => names.is_empty() || !names.iter().all(is_listed),
        _ => false,
    }
}

/// The classes of attributes that a claim has, had or wants.
pub(super) fn attributes(claim: &Value) -> Vec<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &[
            "status",
            "modifyVolumeStatus",
            "targetVolumeAttributesClassName",
        ],
    ];
    let names = paths.iter().map(|path| text(dig(claim, path)));
    names.filter(|name| !name.is_empty()).collect()
}

/// Whether a Pod wants to be near Pods of other namespaces, or far from them.
fn looks_elsewhere(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = dig(pod, &["spec", "affinity", kind]);
        let of = |name| list(get(affinity, name)).iter();
        let preferred = of("preferredDuringSchedulingIgnoredDuringExecution")
            .map(|weighted| get(weighted, "podAffinityTerm"));
        let mut terms = of("requiredDuringSchedulingIgnoredDuringExecution").chain(preferred);
        terms.any(|term| {
            !list(get(term, "namespaces")).is_empty() || !get(term, "namespaceSelector").is_null()
        })
    })
}
