//! Leases.

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;

use crate::view::At;
use crate::{Rules, Subresource, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create,
    validate_update,
};

fn validate_create(object: &Value) -> ErrorList {
    let mut errors = meta::validate(object, true, names::dns1123_subdomain);
    errors.extend(validate_spec(&At::field(object, "spec")));
    errors
}

fn validate_update(_: Subresource, new: &Value, _: &Value) -> ErrorList {
    validate_spec(&At::field(new, "spec"))
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let seconds = spec.get("leaseDurationSeconds");
    if let Some(value) = seconds.int().filter(|value| *value <= 0) {
        errors.push(Error::invalid(
            &seconds.path,
            value,
            "must be greater than 0",
        ));
    }
    errors.extend(crate::pod::non_negative(&spec.get("leaseTransitions")));
    let strategy = spec.get("strategy");
    if strategy.given() {
        // Upstream names the field twice.
        errors.extend(validate_strategy(
            &strategy.reported_at(strategy.path.child("strategy")),
        ));
    }
    let preferred = spec.get("preferredHolder");
    if !preferred.text().is_empty() && strategy.text().is_empty() {
        errors.push(Error::forbidden(
            &preferred.path,
            "may only be specified if `strategy` is defined",
        ));
    }
    errors
}

fn validate_strategy(at: &At<'_>) -> ErrorList {
    let (prefix, _) = at.text().rsplit_once('/').unwrap_or(("", at.text()));
    let ours = ["", "k8s.io", "kubernetes.io"].contains(&prefix)
        || prefix.ends_with(".k8s.io")
        || prefix.ends_with(".kubernetes.io");
    if ours {
        if at.text() == "OldestEmulationVersion" {
            return ErrorList::new();
        }
        return vec![Error::not_supported(
            &at.path,
            at.text(),
            &["OldestEmulationVersion"],
        )];
    }
    meta::invalid_text(at, names::qualified_name(at.text()))
}
