//! ServiceAccounts.

use api::field::ErrorList;
use api::names;
use serde_json::Value;

use crate::{Rules, Subresource, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate,
    validate_update,
};

fn validate(object: &Value) -> ErrorList {
    meta::validate(object, true, names::dns1123_subdomain)
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate(new));
    errors
}
