//! Kinds that have no rules of their own yet: metadata only.

use api::field::ErrorList;
use api::names;
use serde_json::Value;

use crate::view::{get, same};
use crate::{Rules, Subresource, meta, view};

pub(crate) const RULES: Rules = Rules {
    namespaced: None,
    default: nothing,
    prepare_create,
    prepare_update,
    validate_create,
    validate_update: no_more,
};

/// No defaults.
pub(crate) fn nothing(_: &mut Value) {}

/// Nothing to put back.
pub(crate) fn keep(_: Subresource, _: &mut Value, _: &Value) {}

/// Nothing beyond the common metadata checks.
pub(crate) fn no_more(_: Subresource, _: &Value, _: &Value) -> ErrorList {
    ErrorList::new()
}

fn prepare_create(object: &mut Value) {
    if !get(object, "spec").is_null() {
        view::object(view::entry(object, "metadata")).insert("generation".to_owned(), 1.into());
    }
}

fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    match subresource {
        Subresource::Status => view::restore(new, old, "spec"),
        _ => {
            view::restore(new, old, "status");
            let changed = !same(get(new, "spec"), get(old, "spec"));
            meta::count_generation(new, old, changed);
        }
    }
}

fn validate_create(object: &Value) -> ErrorList {
    // Scope is the route's business here: an object of an unknown kind is namespaced when it names a namespace.
    meta::validate(object, meta::is_in_namespace(object), names::path_segment)
}
