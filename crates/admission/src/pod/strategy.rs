//! What the server owns of a Pod: its status at creation, its generation, and what each subresource may not touch.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::aggregate::qos_class;
use crate::view::{self, dig, entry, get, list, object, restore, same, text};
use crate::{Subresource, meta};

/// Status as it is at creation, whatever the client sent; what the selectors of affinity terms take from the Pod's own labels.
pub(super) fn prepare_create(pod: &mut Value) {
    object(entry(pod, "metadata")).insert("generation".to_owned(), 1.into());
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if !list(dig(pod, &["spec", "schedulingGates"])).is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null, "lastTransitionTime": null,
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    object(pod).insert("status".to_owned(), status);
    let labels = dig(pod, &["metadata", "labels"]).clone();
    let spec = entry(pod, "spec");
    expand_label_keys(spec, &labels);
    app_armor_annotations(pod);
}

/// `matchLabelKeys` and `mismatchLabelKeys` become requirements with the Pod's own values.
fn expand_label_keys(spec: &mut Value, labels: &Value) {
    if let Some(affinity) = spec.get_mut("affinity") {
        for kind in ["podAffinity", "podAntiAffinity"] {
            let Some(kind) = affinity.get_mut(kind) else {
                continue;
            };
            for term in view::list_mut(kind, "requiredDuringSchedulingIgnoredDuringExecution") {
                expand_term(term, labels);
            }
            for weighted in view::list_mut(kind, "preferredDuringSchedulingIgnoredDuringExecution")
            {
                if let Some(term) = weighted.get_mut("podAffinityTerm") {
                    expand_term(term, labels);
                }
            }
        }
    }
    for constraint in view::list_mut(spec, "topologySpreadConstraints") {
        expand_term(constraint, labels);
    }
}

fn expand_term(term: &mut Value, labels: &Value) {
    if !get(term, "labelSelector").is_object() {
        return;
    }
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in list(get(term, keys)).to_vec() {
            if let Some(value) = get(labels, text(&key)).as_str() {
                let requirement = json!({"key": key, "operator": operator, "values": [value]});
                let expressions = entry(entry(term, "labelSelector"), "matchExpressions");
                let mut all = list(expressions).to_vec();
                all.push(requirement);
                *expressions = all.into();
            }
        }
    }
}

/// The annotation of older agents says what the field says.
fn app_armor_annotations(pod: &mut Value) {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let spec = get(pod, "spec");
    let of_pod = dig(spec, &["securityContext", "appArmorProfile"]);
    let mut found = BTreeMap::new();
    for containers in ["initContainers", "containers"] {
        for container in list(get(spec, containers)) {
            let own = dig(container, &["securityContext", "appArmorProfile"]);
            let profile = if own.is_null() { of_pod } else { own };
            let value = match text(get(profile, "type")) {
                "Unconfined" => "unconfined".to_owned(),
                "RuntimeDefault" => "runtime/default".to_owned(),
                "Localhost" => format!("localhost/{}", text(get(profile, "localhostProfile"))),
                _ => continue,
            };
            found.insert(format!("{PREFIX}{}", text(get(container, "name"))), value);
        }
    }
    for (key, value) in found {
        view::set_if_absent(entry(entry(pod, "metadata"), "annotations"), &key, value);
    }
}

/// What a write may not touch goes back to what it was.
pub(super) fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    match subresource {
        Subresource::Main | Subresource::Finalize | Subresource::Scale | Subresource::Approval => {
            // Its plugin is the one that sees updates as well.
            super::admit::tolerations(new);
            restore(new, old, "status");
        }
        Subresource::Status => return prepare_status(new, old),
        Subresource::EphemeralContainers => {
            let added = dig(new, &["spec", "ephemeralContainers"]).clone();
            restore(new, old, "spec");
            restore(new, old, "status");
            object(entry(new, "spec")).insert("ephemeralContainers".to_owned(), added);
        }
        Subresource::Resize => keep_only_resize(new, old),
    }
    let changed = !same(get(new, "spec"), get(old, "spec"));
    meta::count_generation(new, old, changed);
}

fn prepare_status(new: &mut Value, old: &Value) {
    restore(new, old, "spec");
    restore(
        entry(new, "metadata"),
        get(old, "metadata"),
        "deletionTimestamp",
    );
    restore(
        entry(new, "metadata"),
        get(old, "metadata"),
        "ownerReferences",
    );
    let status = entry(new, "status");
    let before = get(old, "status");
    if text(get(status, "qosClass")).is_empty() {
        restore(status, before, "qosClass");
    }
    if view::is_zero(get(status, "observedGeneration")) {
        restore(status, before, "observedGeneration");
    }
    for condition in view::list_mut(status, "conditions") {
        let kind = text(get(condition, "type")).to_owned();
        let same_kind = list(get(before, "conditions"))
            .iter()
            .find(|old| text(get(old, "type")) == kind);
        if let Some(old) = same_kind.filter(|_| view::is_zero(get(condition, "observedGeneration")))
        {
            restore(condition, old, "observedGeneration");
        }
    }
}

/// A resize changes containers' `resources` and `resizePolicy` and the Pod's `resources`; validation refuses added, removed and
/// renamed containers, so those are left for it to see.
fn keep_only_resize(new: &mut Value, old: &Value) {
    let names = |pod: &Value, field: &str| -> Vec<String> {
        list(dig(pod, &["spec", field]))
            .iter()
            .map(|c| text(get(c, "name")).to_owned())
            .collect()
    };
    let counts_differ = ["containers", "initContainers"]
        .iter()
        .any(|field| names(new, field).len() != names(old, field).len());
    if counts_differ {
        return;
    }
    let mut spec = get(old, "spec").clone();
    restore(&mut spec, get(new, "spec"), "resources");
    for field in ["containers", "initContainers"] {
        if names(new, field) != names(old, field) {
            restore(&mut spec, get(new, "spec"), field);
            continue;
        }
        for (container, wanted) in view::list_mut(&mut spec, field)
            .iter_mut()
            .zip(list(dig(new, &["spec", field])))
        {
            restore(container, wanted, "resources");
            restore(container, wanted, "resizePolicy");
        }
    }
    object(new).insert("spec".to_owned(), spec);
    restore(new, old, "status");
}
