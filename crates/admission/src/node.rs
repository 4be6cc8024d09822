//! Nodes.

use std::collections::BTreeSet;

use api::field::{Error, ErrorList, Path};
use api::gotext;
use api::names;
use serde_json::Value;

use crate::view::{self, At, dig, get, list, same, text};
use crate::{Rules, Subresource, generic, meta, net, resources};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default,
    prepare_create: generic::nothing,
    prepare_update,
    validate_create,
    validate_update,
};

/// What can be allocated is what there is, unless the agent says otherwise.
fn default(object: &mut Value) {
    if let Some(status) = view::object_mut(object, "status")
        && get(status, "allocatable").is_null()
        && !get(status, "capacity").is_null()
    {
        let capacity = get(status, "capacity").clone();
        view::object(status).insert("allocatable".to_owned(), capacity);
    }
}

fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    view::restore(
        new,
        old,
        if subresource == Subresource::Status {
            "spec"
        } else {
            "status"
        },
    );
}

fn validate_create(object: &Value) -> ErrorList {
    let mut errors = meta::validate(object, false, names::dns1123_subdomain);
    errors.extend(taints(&At {
        value: dig(object, &["spec", "taints"]),
        path: Path::new("metadata.taints"),
    }));
    errors.extend(status_resources(object));
    errors.extend(declared_features(object));
    errors.extend(pod_cidrs(object));
    errors
}

fn pod_cidrs(object: &Value) -> ErrorList {
    let cidrs = At {
        value: dig(object, &["spec", "podCIDRs"]),
        path: Path::new("spec.podCIDRs"),
    };
    let mut errors: ErrorList = cidrs
        .items()
        .flat_map(|cidr| net::cidr(&cidr.path, cidr.text(), &[]))
        .collect();
    let texts: Vec<&str> = list(cidrs.value).iter().map(text).collect();
    if texts.len() > 1 && !net::one_per_family(&texts) {
        errors.push(Error::invalid(
            &cidrs.path,
            cidrs.value.clone(),
            "may specify no more than one CIDR for each IP family",
        ));
    }
    errors
}

fn status_resources(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    for name in ["capacity", "allocatable"] {
        let at = At::field(object, "status").get(name);
        for (resource, value) in at.entries() {
            if let Some(quantity) = resources::quantity(value.value) {
                errors.extend(resources::quantity_value(
                    &at.path.child(resource),
                    resource,
                    &quantity,
                ));
            }
        }
    }
    errors
}

fn declared_features(object: &Value) -> ErrorList {
    let features = At::field(object, "status").get("declaredFeatures");
    let mut errors = ErrorList::new();
    let mut previous: Option<&str> = None;
    for feature in features.items() {
        let name = feature.text();
        match previous {
            Some(before) if before == name => errors.push(Error::duplicate(&feature.path, name)),
            Some(before) if before > name => errors.push(Error::invalid(
                &feature.path,
                name,
                "list must be sorted alphabetically",
            )),
            _ => {}
        }
        previous = Some(name);
    }
    errors
}

/// Taints of a node.
fn taints(at: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for taint in at.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        errors.extend(meta::label_name(&key.path, key.text()));
        let wrong = names::label_value(value.text());
        if !wrong.is_empty() {
            errors.push(Error::invalid(&value.path, value.text(), wrong.join(";")));
        }
        errors.extend(crate::pod::taint_effect(&effect, false));
        if !seen.insert((effect.text(), key.text())) {
            let mut error = duplicate(&taint.path, shown_taint(taint.value));
            error
                .detail
                .push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
    }
    errors
}

/// `Duplicate value: <structure>`, in the order of its fields, as upstream prints its own.
fn duplicate(path: &Path, shown: String) -> Error {
    let mut error = Error::duplicate(path, Value::Null);
    (error.value, error.detail) = (None, shown);
    error
}

fn quoted(value: &Value, name: &str) -> String {
    gotext::json(&Value::from(text(get(value, name))))
}

fn shown_taint(taint: &Value) -> String {
    let added = gotext::json(get(taint, "timeAdded"));
    let (key, value, effect) = (
        quoted(taint, "key"),
        quoted(taint, "value"),
        quoted(taint, "effect"),
    );
    format!(r#"{{"Key":{key},"Value":{value},"Effect":{effect},"TimeAdded":{added}}}"#)
}

fn shown_address(address: &Value) -> String {
    format!(
        r#"{{"Type":{},"Address":{}}}"#,
        quoted(address, "type"),
        quoted(address, "address")
    )
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = validate_create(new);
    errors.extend(meta::validate_update(new, old));
    errors.extend(addresses(new));
    let cidrs = dig(old, &["spec", "podCIDRs"]);
    if !list(cidrs).is_empty() && !same(cidrs, dig(new, &["spec", "podCIDRs"])) {
        errors.push(Error::forbidden(
            &Path::new("spec.podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let provider = dig(old, &["spec", "providerID"]);
    if !text(provider).is_empty() && provider != dig(new, &["spec", "providerID"]) {
        errors.push(Error::forbidden(
            &Path::new("spec.providerID"),
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    if text(dig(old, &["spec", "externalID"])) != text(dig(new, &["spec", "externalID"])) {
        errors.push(Error::forbidden(
            &Path::new("spec.externalID"),
            "may not be updated",
        ));
    }
    errors
}

fn addresses(object: &Value) -> ErrorList {
    let mut seen = BTreeSet::new();
    let addresses = At::field(object, "status").get("addresses");
    let repeats = addresses
        .items()
        .filter(|at| !seen.insert((text(get(at.value, "type")), text(get(at.value, "address")))));
    repeats
        .map(|at| duplicate(&at.path, shown_address(at.value)))
        .collect()
}
