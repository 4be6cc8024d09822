//! PersistentVolumeClaims: claims for storage (upstream's pkg/registry/core/persistentvolumeclaim).

use api::field::{Error, ErrorList, Path};
use api::names;
use api::storage::{CLAIM_PROTECTION, CLASS_ANNOTATION};
use serde_json::{Value, json};

use crate::meta::{self, annotation, immutable};
use crate::pod::internal::{Kind, changes};
use crate::pod::{claim, round_up, round_up_lists};
use crate::view::{
    At, dig, entry, get, object, object_mut, remove, restore, same, set_if_absent, set_if_zero,
    text,
};
use crate::{Rules, Subresource, resources, storageclass};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: |claim| {
        object(claim).insert("status".to_owned(), json!({"phase": "Pending"}));
        sources(entry(claim, "spec"), None);
    },
    prepare_update: |part, new, old| match part {
        Subresource::Status => restore(new, old, "spec"),
        _ => {
            restore(new, old, "status");
            sources(entry(new, "spec"), Some(get(old, "spec")));
        }
    },
    validate_create: validate,
    validate_update,
};

const RESIZE_PHASES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// Protects a new claim, and gives it the default one of `classes` when it names none (the plugins StorageObjectInUseProtection and
/// DefaultStorageClass).
pub fn admit(claim: &mut Value, classes: &[Value]) {
    meta::protect(claim, CLAIM_PROTECTION);
    let is_named = dig(claim, &["spec", "storageClassName"]).is_string()
        || annotation(claim, CLASS_ANNOTATION).is_some();
    if !is_named && let Some(name) = storageclass::default_of(classes) {
        object(entry(claim, "spec")).insert("storageClassName".to_owned(), name.into());
    }
}

/// Whether a change asks for more storage.
pub fn grows(new: &Value, old: &Value) -> bool {
    let asked = |claim: &Value| {
        let amount = dig(claim, &["spec", "resources", "requests", "storage"]);
        resources::quantity(amount)
    };
    match (asked(new), asked(old)) {
        (Some(new), Some(old)) => new > old,
        (new, old) => new.is_some() && old.is_none(),
    }
}

/// Why a claim may not grow, of all `classes` (the plugin PersistentVolumeClaimResize).
pub fn must_not_grow(new: &Value, old: &Value, classes: &[Value]) -> Option<&'static str> {
    if text(dig(old, &["status", "phase"])) != "Bound" {
        return Some("Only bound persistent volume claims can be expanded");
    }
    let class = |claim| match annotation(claim, CLASS_ANNOTATION) {
        Some(class) => class.to_owned(),
        None => text(dig(claim, &["spec", "storageClassName"])).to_owned(),
    };
    let named = class(new);
    let is_same = !named.is_empty() && named == class(old);
    let mut classes = classes.iter();
    let found = classes.find(|class| text(dig(class, &["metadata", "name"])) == named);
    let expands = found.is_some_and(|class| get(class, "allowVolumeExpansion") == true);
    (!is_same || !expands).then_some("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

/// What a client is told about a claim, new or changed, besides the answer.
pub(crate) fn warnings(claim: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if annotation(claim, CLASS_ANNOTATION).is_some() {
        let path = Path::new("metadata").child("annotations");
        found.push(format!(
            "{}: deprecated since v1.8; use \"storageClassName\" attribute instead",
            path.key(CLASS_ANNOTATION)
        ));
    }
    found.extend(claim::warnings(&At::field(claim, "spec")));
    found
}

fn default(claim: &mut Value) {
    let spec = entry(claim, "spec");
    set_if_absent(spec, "volumeMode", "Filesystem");
    if let Some(resources) = object_mut(spec, "resources") {
        round_up_lists(resources);
    }
    let status = entry(claim, "status");
    set_if_zero(status, "phase", "Pending");
    for name in ["capacity", "allocatedResources"] {
        object_mut(status, name).into_iter().for_each(round_up);
    }
}

/// Says what a claim is filled from in both fields for it. What the older one cannot name is dropped from it, and so is a source in
/// another namespace, as upstream's gate for those is closed.
fn sources(spec: &mut Value, old: Option<&Value>) {
    let had = |name: &str| old.is_some_and(|old| !get(old, name).is_null());
    let abroad = !text(dig(spec, &["dataSourceRef", "namespace"])).is_empty();
    if abroad && !had("dataSourceRef") {
        remove(spec, "dataSourceRef");
    }
    let is_new = !had("dataSource") && !had("dataSourceRef");
    if is_new && get(spec, "dataSourceRef").is_null() && !is_old_source(get(spec, "dataSource")) {
        remove(spec, "dataSource");
    }
    let (source, reference) = (get(spec, "dataSource"), get(spec, "dataSourceRef"));
    let (name, value) = match (source.is_null(), reference.is_null()) {
        (false, true) => ("dataSourceRef", source.clone()),
        (true, false) if text(get(reference, "namespace")).is_empty() => {
            ("dataSource", reference.clone())
        }
        _ => return,
    };
    object(spec).insert(name.to_owned(), value);
}

/// A claim, or a snapshot.
fn is_old_source(source: &Value) -> bool {
    let words = (text(get(source, "apiGroup")), text(get(source, "kind")));
    matches!(
        words,
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

fn validate(claim: &Value) -> ErrorList {
    let mut errors = meta::validate(claim, true, names::dns1123_subdomain);
    errors.extend(claim::validate(&At::field(claim, "spec")));
    errors
}

fn validate_update(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    if part == Subresource::Status {
        return validate_status(&At::field(new, "status"));
    }
    let mut errors = validate(new);
    let (spec, before) = (At::field(new, "spec"), get(old, "spec"));
    let (mut now, mut then) = (spec.value.clone(), before.clone());
    if text(get(&then, "volumeName")).is_empty() {
        restore(&mut then, &now, "volumeName");
    }
    errors.extend(class(new, old, &mut now));
    if text(dig(new, &["status", "phase"])) == "Bound" {
        forgive_growth(&mut now, &then);
        restore(&mut now, &then, "volumeAttributesClassName");
    }
    if !same(&now, &then) {
        let changes = changes(Kind::ClaimSpec, &then, &now);
        errors.push(Error::forbidden(&spec.path, format!("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{changes}")));
    }
    errors.extend(shrinks(&spec, old));
    let mode = spec.get("volumeMode").reported_at(Path::new("volumeMode"));
    errors.extend(immutable(&mode, get(before, "volumeMode")));
    errors.extend(attributes(&spec, old));
    errors
}

/// The class may be moved from the annotation to the field, and given to a claim that had none.
fn class(new: &Value, old: &Value, now: &mut Value) -> ErrorList {
    let name = "storageClassName";
    let (before, after) = (dig(old, &["spec", name]), dig(new, &["spec", name]));
    let annotations = [new, old].map(|object| annotation(object, CLASS_ANNOTATION));
    let [annotated, was_annotated] = annotations;
    let is_given = before.is_null() && after.is_string();
    let is_moved = is_given
        && was_annotated.is_some_and(|was| text(after) == was)
        && annotated.is_none_or(|is| Some(is) == was_annotated);
    if is_moved {
        remove(now, name);
        return ErrorList::new();
    }
    if is_given && was_annotated.is_none_or(|was| text(after) == was) {
        remove(now, name);
    }
    if annotated.unwrap_or("") == was_annotated.unwrap_or("") {
        return ErrorList::new();
    }
    // Upstream puts no brackets around this key.
    let path = Path::new("metadata")
        .child("annotations")
        .child(CLASS_ANNOTATION);
    vec![Error::invalid(
        &path,
        annotated.unwrap_or(""),
        "field is immutable",
    )]
}

/// What a bound claim asks for may change.
fn forgive_growth(now: &mut Value, then: &Value) {
    let wanted = dig(then, &["resources", "requests", "storage"]).clone();
    let requests = now.get_mut("resources").and_then(|r| r.get_mut("requests"));
    if let Some(requests) = requests.filter(|requests| requests.is_object()) {
        object(requests).insert("storage".to_owned(), wanted);
    }
}

/// What is asked for may become less, but stays more than what there is: a growth that failed can be taken back.
fn shrinks(spec: &At<'_>, old: &Value) -> Option<Error> {
    let storage = spec.get("resources").get("requests").get("storage");
    let amount = |value: &Value| resources::quantity(value);
    let now = amount(storage.value)?;
    let before = amount(dig(old, &["spec", "resources", "requests", "storage"]))?;
    let there = amount(dig(old, &["status", "capacity", "storage"]));
    let is_less = now < before && there.is_some_and(|there| now <= there);
    let why = "field can not be less than status.capacity";
    is_less.then(|| Error::forbidden(&storage.path, why))
}

/// A class of attributes that has been applied is followed by another one only.
fn attributes(spec: &At<'_>, old: &Value) -> Option<Error> {
    let name = spec.get("volumeAttributesClassName");
    let applied = dig(old, &["status", "currentVolumeAttributesClassName"]);
    let is_same = same(name.value, dig(old, &["spec", "volumeAttributesClassName"]));
    if is_same || !applied.is_string() || !name.text().is_empty() {
        return None;
    }
    let to = if name.given() { "empty string" } else { "nil" };
    let why = format!(
        "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
    );
    Some(Error::forbidden(&name.path, why))
}

fn validate_status(status: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for (_, amount) in status.get("capacity").entries() {
        errors.extend(resources::not_negative(&amount));
    }
    let phases = status.get("allocatedResourceStatuses");
    for (name, phase) in phases.entries() {
        errors.extend(resource_key(name, &phases.path));
        if !RESIZE_PHASES.contains(&phase.text()) {
            errors.push(Error::not_supported(&phases.path, name, &RESIZE_PHASES));
        }
    }
    let allocated = status.get("allocatedResources");
    for (name, amount) in allocated.entries() {
        let mut wrong = resource_key(name, &allocated.path);
        if wrong.is_empty() {
            wrong = resources::not_negative(&amount);
        }
        errors.extend(wrong);
    }
    errors
}

fn resource_key(name: &str, path: &Path) -> ErrorList {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        let wrong = wrong.into_iter();
        return wrong.map(|why| Error::invalid(path, name, why)).collect();
    }
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    if is_native && name != "storage" {
        return vec![Error::not_supported(path, name, &["storage"])];
    }
    ErrorList::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_grow_where_their_class_lets_them() {
        let claim = |size: &str, class: &str, phase: &str| {
            let requests = json!({"storage": size});
            json!({"spec": {"storageClassName": class, "resources": {"requests": requests}}, "status": {"phase": phase}})
        };
        let class = |name: &str, expands: Value| json!({"metadata": {"name": name}, "allowVolumeExpansion": expands});
        let classes = [
            class("yes", json!(true)),
            class("no", json!(false)),
            class("unsaid", Value::Null),
        ];
        let old = claim("1Gi", "yes", "Bound");
        assert!(grows(&claim("1025Mi", "yes", "Bound"), &old));
        for size in ["1024Mi", "1Gi", "1"] {
            assert!(!grows(&claim(size, "yes", "Bound"), &old), "{size}");
        }
        let refused = |class: &str, phase: &str| {
            let old = claim("1Gi", class, phase);
            let why = must_not_grow(&claim("2Gi", class, phase), &old, &classes);
            why.map(|why| why.split(' ').next().unwrap_or_default())
        };
        assert_eq!(refused("yes", "Bound"), None);
        assert_eq!(refused("yes", "Pending"), Some("Only"));
        for class in ["no", "unsaid", "none", ""] {
            assert_eq!(refused(class, "Bound"), Some("only"), "{class:?}");
        }
    }
}
