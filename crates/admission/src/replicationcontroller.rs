//! ReplicationControllers.

use api::field::{Error, ErrorList};
use api::selector::Selector;
use serde_json::{Value, json};

use crate::view::{At, dig, entry, get, len, object, set_if_absent};
use crate::{Rules, Subresource, generic, meta, podtemplate, replicaset, workload};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: |controller| {
        (generic::RULES.prepare_create)(controller);
        object(controller).insert("status".to_owned(), json!({"replicas": 0}));
    },
    prepare_update: (generic::RULES).prepare_update,
    validate_create: |controller| meta::validate_new(controller, true, "spec", validate_spec),
    validate_update: |part, new, _| match part {
        Subresource::Status => replicaset::validate_status(&At::field(new, "status")),
        _ => validate_spec(&At::field(new, "spec")),
    },
};

/// What is selected, and labelled, is what the template says, unless something else is said.
fn default(controller: &mut Value) {
    let spec = entry(controller, "spec");
    set_if_absent(spec, "replicas", 1);
    if get(spec, "template").is_object() {
        workload::default_template(spec);
    }
    let labels = dig(spec, &["template", "metadata", "labels"]).clone();
    if labels.is_object() {
        if len(get(spec, "selector")) == 0 {
            object(spec).insert("selector".to_owned(), labels.clone());
        }
        workload::default_labels(controller, &labels);
    }
    set_if_absent(entry(controller, "status"), "replicas", 0);
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let mut errors = workload::counts(spec, &["minReadySeconds"]);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if selector.len() == 0 {
        errors.push(Error::required(&selector.path, ""));
    }
    errors.extend(workload::counts(spec, &["replicas"]));
    if !template.given() {
        errors.push(Error::required(&template.path, ""));
        return errors;
    }
    if let Ok(labels) = Selector::from_labels(selector.value) {
        errors.extend(workload::selected(&template, &labels));
    }
    errors.extend(podtemplate::validate(&template));
    errors.extend(workload::runs_always(&template, "ReplicationController"));
    errors
}
