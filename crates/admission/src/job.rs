//! Jobs (upstream's pkg/apis/batch/validation and the strategy of Jobs). What upstream lets stand in Jobs that are older than a rule has
//! no place here: none is.

mod indexes;
mod policy;
mod spec;
mod status;
mod update;

use api::field::{Error, ErrorList};
use api::names;
use api::selector::Selector;
use serde_json::{Map, Value, json};

pub(crate) use spec::validate as validate_spec;

use crate::pod::{internal, label_selector};
use crate::view::{At, dig, entry, get, list_mut, object, set_if_absent, set_if_zero, text};
use crate::{Rules, Subresource, generic, meta, workload};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create,
    prepare_update: (generic::RULES).prepare_update,
    validate_create,
    validate_update: |part, new, old| match part {
        Subresource::Status => status::validate(new, old),
        _ => {
            let mut errors = validate_create(new);
            errors.extend(update::validate(&At::field(new, "spec"), old));
            errors
        }
    },
};

/// The labels of a Job's Pods: in its own domain, and as they were called before there was one.
const NAMES: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UIDS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

fn default(job: &mut Value) {
    let spec = entry(job, "spec");
    let is_given = |spec: &Value, name: &str| !get(spec, name).is_null();
    if !is_given(spec, "parallelism") && !is_given(spec, "completions") {
        set_if_absent(spec, "completions", 1);
    }
    set_if_absent(spec, "parallelism", 1);
    let by_index = is_given(spec, "backoffLimitPerIndex");
    let limit = if by_index { i64::from(i32::MAX) } else { 6 };
    set_if_absent(spec, "backoffLimit", limit);
    set_if_absent(spec, "completionMode", "NonIndexed");
    set_if_absent(spec, "suspend", false);
    let when = match is_given(spec, "podFailurePolicy") {
        true => "Failed",
        false => "TerminatingOrFailed",
    };
    set_if_absent(spec, "podReplacementPolicy", when);
    set_if_absent(spec, "manualSelector", false);
    default_template(spec);
    let labels = dig(spec, &["template", "metadata", "labels"]).clone();
    if labels.is_object() {
        workload::default_labels(job, &labels);
    }
}

/// What the specification of a Job, or of a template of one, leaves open below itself.
pub(crate) fn default_template(spec: &mut Value) {
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in list_mut(policy, "rules") {
            for pattern in list_mut(rule, "onPodConditions") {
                set_if_zero(pattern, "status", "True");
            }
        }
    }
    workload::default_template(spec);
}

/// Gives the Job's Pods labels that no other Job's have, and selects them by these, unless the user does.
fn prepare_create(job: &mut Value) {
    (generic::RULES.prepare_create)(job);
    object(job).insert("status".to_owned(), json!({}));
    if dig(job, &["spec", "manualSelector"]).as_bool() == Some(true) {
        return;
    }
    let own = |field: &str| text(dig(job, &["metadata", field])).to_owned();
    let (name, uid) = (own("name"), own("uid"));
    let before = dig(job, &["spec", "template", "metadata", "labels"]).clone();
    let spec = entry(job, "spec");
    let labels = entry(entry(entry(spec, "template"), "metadata"), "labels");
    for (keys, value) in [(NAMES, &name), (UIDS, &uid)] {
        for key in keys {
            set_if_absent(labels, key, value.as_str());
        }
    }
    let labels = labels.clone();
    let selected = entry(entry(spec, "selector"), "matchLabels");
    set_if_absent(selected, UIDS[1], uid);
    let metadata = entry(job, "metadata");
    if *get(metadata, "labels") == before {
        object(metadata).insert("labels".to_owned(), labels);
    }
}

fn validate_create(job: &Value) -> ErrorList {
    let mut errors = meta::validate(job, true, names::dns1123_subdomain);
    let spec = At::field(job, "spec");
    let own = dig(job, &["metadata", "labels"]);
    if own == dig(spec.value, &["template", "metadata", "labels"]) {
        // Those of the template, where they are told of.
        errors.retain(|error| error.field != "metadata.labels");
    }
    errors.extend(generated_selector(job, &spec));
    errors.extend(spec::validate(&spec));
    errors.extend(selector(&spec));
    let completions = spec.get("completions").int().filter(|count| *count > 0);
    if let Some(count) = completions.filter(|_| spec::is_indexed(&spec)) {
        let name = At::field(job, "metadata").get("name");
        let host = format!("{}-{}", name.text(), count - 1);
        if !names::dns1123_label(&host).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(Error::invalid(&name.path, name.text(), why));
        }
    }
    errors
}

fn selector(spec: &At<'_>) -> ErrorList {
    let selector = spec.get("selector");
    let mut errors = match selector.given() {
        true => label_selector(&selector),
        false => vec![Error::required(&selector.path, "")],
    };
    if let Ok(selector) = Selector::from_value(selector.value) {
        errors.extend(workload::selected(&spec.get("template"), &selector));
    }
    errors
}

/// What was generated is still there.
fn generated_selector(job: &Value, spec: &At<'_>) -> ErrorList {
    let selector = spec.get("selector");
    if spec.get("manualSelector").is_true() || !selector.given() {
        return ErrorList::new();
    }
    let mut errors = ErrorList::new();
    let metadata = At::field(job, "metadata");
    let (name, uid) = (metadata.get("name"), metadata.get("uid"));
    if uid.text().is_empty() {
        errors.push(Error::required(&uid.path, ""));
    }
    let mut wanted = Map::new();
    let labels = spec.get("template").get("metadata").get("labels");
    for (uid_key, name_key) in UIDS.into_iter().zip(NAMES) {
        for (key, value) in [(uid_key, uid.text()), (name_key, name.text())] {
            errors.extend(has_label(&labels, key, value));
            wanted.insert(key.to_owned(), value.into());
        }
    }
    let parsed = Selector::from_value(selector.value);
    if parsed.is_ok_and(|parsed| !parsed.matches(&wanted)) {
        errors.push(internal::invalid_selector(
            &selector.path,
            selector.value,
            "`selector` not auto-generated",
        ));
    }
    errors
}

fn has_label(labels: &At<'_>, key: &str, value: &str) -> ErrorList {
    let path = labels.path.key(key);
    let why = format!("must be '{value}'");
    match get(labels.value, key).as_str() {
        None => vec![Error::required(&path, why)],
        Some(found) if found != value => vec![Error::invalid(&path, labels.value.clone(), why)],
        Some(_) => ErrorList::new(),
    }
}
