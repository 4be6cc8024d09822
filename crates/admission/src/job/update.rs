//! What may change of a Job's specification.

use api::field::{Error, ErrorList};
use serde_json::Value;

use super::spec::is_indexed;
use crate::pod::internal::{self, Kind};
use crate::view::{self, At, dig, entry, get, list, object, restore, same};
use crate::workload;

/// What of a template may change while a Job sleeps, and upstream's scheduling gates.
const DIRECTIVES: [&str; 3] = ["nodeSelector", "tolerations", "schedulingGates"];
const IMMUTABLE: &str = "field is immutable";

pub(super) fn validate(spec: &At<'_>, old: &Value) -> ErrorList {
    let before = get(old, "spec");
    let mut errors = completions(spec, before);
    errors.extend(workload::same_selector(
        &spec.get("selector"),
        get(before, "selector"),
    ));
    errors.extend(template(spec, old));
    let mode = "completionMode";
    errors.extend(kept(&spec.get(mode), get(before, mode)));
    errors.extend(kept_structure(
        &spec.get("podFailurePolicy"),
        get(before, "podFailurePolicy"),
        Kind::PodFailurePolicy,
    ));
    for name in ["backoffLimitPerIndex", "managedBy"] {
        errors.extend(kept(&spec.get(name), get(before, name)));
    }
    errors.extend(kept_structure(
        &spec.get("successPolicy"),
        get(before, "successPolicy"),
        Kind::SuccessPolicy,
    ));
    errors
}

fn kept(at: &At<'_>, old: &Value) -> ErrorList {
    let error = (at.value != old).then(|| Error::invalid(&at.path, at.value.clone(), IMMUTABLE));
    error.into_iter().collect()
}

fn kept_structure(at: &At<'_>, old: &Value, kind: Kind) -> ErrorList {
    if at.given() != old.is_null() && same(at.value, old) {
        return ErrorList::new();
    }
    if !at.given() {
        return vec![Error::invalid(&at.path, Value::Null, IMMUTABLE)];
    }
    vec![internal::invalid(&at.path, kind, at.value, IMMUTABLE)]
}

/// Jobs with indexes may be asked for more, and run as many at a time.
fn completions(spec: &At<'_>, old: &Value) -> ErrorList {
    let at = spec.get("completions");
    if !is_indexed(spec) {
        return kept(&at, get(old, "completions"));
    }
    let is_kept = at.value == get(old, "completions") || !at.given();
    if is_kept || at.int() == spec.get("parallelism").int() {
        return ErrorList::new();
    }
    let why = "can only be modified in tandem with spec.parallelism";
    vec![Error::invalid(&at.path, at.value.clone(), why)]
}

/// A Job that sleeps and has nothing running.
fn is_asleep(old: &Value) -> bool {
    let status = get(old, "status");
    let is_stopped =
        get(status, "startTime").is_null() || super::status::is_true(status, "Suspended");
    let is_idle = get(status, "active").as_i64().unwrap_or(0) == 0;
    dig(old, &["spec", "suspend"]).as_bool() == Some(true) && is_stopped && is_idle
}

fn template(spec: &At<'_>, old: &Value) -> ErrorList {
    let at = spec.get("template");
    let mut before = dig(old, &["spec", "template"]).clone();
    if !is_asleep(old) {
        if same(at.value, &before) {
            return ErrorList::new();
        }
        return vec![internal::invalid_template(&at.path, at.value, IMMUTABLE)];
    }
    accept_directives(&mut before, at.value);
    let pod = entry(&mut before, "spec");
    for kind in ["containers", "initContainers"] {
        accept_resources(pod, get(at.value, "spec"), kind);
    }
    if same(get(at.value, "spec"), pod) {
        return ErrorList::new();
    }
    vec![internal::invalid(
        &spec.path.child("template.spec"),
        Kind::PodSpec,
        get(at.value, "spec"),
        IMMUTABLE,
    )]
}

/// Where the Pods will run, and how they are labelled, may still be said.
fn accept_directives(before: &mut Value, now: &Value) {
    let pod = get(now, "spec");
    let old = entry(before, "spec");
    for name in DIRECTIVES {
        restore(old, pod, name);
    }
    let affinity = get(pod, "affinity");
    if affinity.is_null() {
        if let Some(affinity) = old.get_mut("affinity") {
            view::remove(affinity, "nodeAffinity");
            if view::len(affinity) == 0 {
                view::remove(old, "affinity");
            }
        }
    } else {
        restore(entry(old, "affinity"), affinity, "nodeAffinity");
    }
    for name in ["annotations", "labels"] {
        restore(entry(before, "metadata"), get(now, "metadata"), name);
    }
}

fn accept_resources(before: &mut Value, now: &Value, kind: &str) {
    let wanted = list(get(now, kind));
    let old = view::list_mut(before, kind);
    if wanted.len() != old.len() {
        return;
    }
    for (old, new) in old.iter_mut().zip(wanted) {
        if get(old, "name") == get(new, "name") {
            object(old).insert("resources".to_owned(), get(new, "resources").clone());
        }
    }
}
