//! Deployments.

use api::field::{Error, ErrorList};
use serde_json::{Value, json};

use crate::pod::internal;
use crate::view::{At, dig, entry, get, object, restore, same, set_if_absent, set_if_zero, text};
use crate::{Rules, Subresource, generic, meta, workload};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: |deployment| {
        (generic::RULES.prepare_create)(deployment);
        object(deployment).insert("status".to_owned(), json!({}));
    },
    prepare_update,
    validate_create: |deployment| meta::validate_new(deployment, true, "spec", validate_spec),
    validate_update,
};

const COUNTS: [&str; 8] = [
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
];

fn default(deployment: &mut Value) {
    workload::default_replicas(deployment);
    let spec = entry(deployment, "spec");
    set_if_absent(spec, "revisionHistoryLimit", 10);
    set_if_absent(spec, "progressDeadlineSeconds", 600);
    let strategy = entry(spec, "strategy");
    set_if_zero(strategy, "type", "RollingUpdate");
    if text(get(strategy, "type")) == "RollingUpdate" {
        let rolling = entry(strategy, "rollingUpdate");
        set_if_absent(rolling, "maxUnavailable", "25%");
        set_if_absent(rolling, "maxSurge", "25%");
    }
}

/// Annotations are copied to ReplicaSets, so that they count as a change.
fn prepare_update(part: Subresource, new: &mut Value, old: &Value) {
    if part == Subresource::Status {
        restore(new, old, "spec");
        restore(entry(new, "metadata"), get(old, "metadata"), "labels");
        return;
    }
    restore(new, old, "status");
    let is_changed = |path: &[&str]| !same(dig(new, path), dig(old, path));
    let changed = is_changed(&["spec"]) || is_changed(&["metadata", "annotations"]);
    meta::count_generation(new, old, changed);
}

fn validate_update(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    if part == Subresource::Status {
        return validate_status(&At::field(new, "status"), old);
    }
    workload::validate_changed(new, old, validate_spec)
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let mut errors = workload::counts(spec, &["replicas"]);
    errors.extend(workload::selector_and_template(spec));
    errors.extend(validate_strategy(&spec.get("strategy")));
    let counts = [
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ];
    errors.extend(workload::counts(spec, &counts));
    let deadline = spec.get("progressDeadlineSeconds");
    let least = spec.get("minReadySeconds").int().unwrap_or(0);
    if let Some(seconds) = deadline.int().filter(|seconds| *seconds <= least) {
        errors.push(Error::invalid(
            &deadline.path,
            seconds,
            "must be greater than minReadySeconds",
        ));
    }
    errors
}

fn validate_strategy(strategy: &At<'_>) -> ErrorList {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" if rolling.given() => vec![Error::forbidden(
            &rolling.path,
            "may not be specified when strategy `type` is 'Recreate'",
        )],
        "Recreate" => ErrorList::new(),
        "RollingUpdate" => validate_rolling(&rolling),
        _ => vec![internal::not_supported(
            &strategy.path,
            internal::Kind::DeploymentStrategy,
            strategy.value,
            &["Recreate", "RollingUpdate"],
        )],
    }
}

fn validate_rolling(rolling: &At<'_>) -> ErrorList {
    let (fewer, more) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    let mut errors = workload::number_or_percent(&fewer);
    errors.extend(workload::number_or_percent(&more));
    if workload::amount(fewer.value) == 0 && workload::amount(more.value) == 0 {
        errors.push(Error::invalid(
            &fewer.path,
            fewer.value.clone(),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
    errors.extend(workload::at_most_all(&fewer));
    errors
}

fn validate_status(status: &At<'_>, old: &Value) -> ErrorList {
    let mut errors = workload::counts(status, &COUNTS);
    let bounded = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    errors.extend(workload::at_most_replicas(
        status,
        &bounded,
        "readyReplicas",
    ));
    errors.extend(workload::collisions(status, old));
    errors
}
