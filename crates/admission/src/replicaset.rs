//! ReplicaSets.

use api::field::ErrorList;
use serde_json::{Value, json};

use crate::view::{At, entry, object, set_if_absent};
use crate::{Rules, Subresource, generic, meta, workload};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: |set| {
        workload::default_replicas(set);
        // Upstream writes it whatever it is.
        set_if_absent(entry(set, "status"), "replicas", 0);
    },
    prepare_create: |set| {
        (generic::RULES.prepare_create)(set);
        object(set).insert("status".to_owned(), json!({"replicas": 0}));
    },
    prepare_update: (generic::RULES).prepare_update,
    validate_create: |set| meta::validate_new(set, true, "spec", validate_spec),
    validate_update,
};

const COUNTS: [&str; 6] = [
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
    "terminatingReplicas",
];

fn validate_update(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    if part == Subresource::Status {
        return validate_status(&At::field(new, "status"));
    }
    workload::validate_changed(new, old, validate_spec)
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let mut errors = workload::counts(spec, &["replicas", "minReadySeconds"]);
    errors.extend(workload::selector_and_template(spec));
    errors
}

/// Of a ReplicaSet and of a ReplicationController.
pub(crate) fn validate_status(status: &At<'_>) -> ErrorList {
    let mut errors = workload::counts(status, &COUNTS);
    let bounded = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    errors.extend(workload::at_most_replicas(
        status,
        &bounded,
        "readyReplicas",
    ));
    errors
}
