//! ConfigMaps.

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use crate::view::{At, get, is_zero};
use crate::{Rules, Subresource, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate,
    validate_update,
};

/// Most bytes the values of a ConfigMap or Secret may have together.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

fn validate(object: &Value) -> ErrorList {
    let mut errors = meta::validate(object, true, names::dns1123_subdomain);
    let mut size = 0;
    for (key, value) in At::field(object, "data").entries() {
        errors.extend(key_errors(&value.path, key));
        if get(get(object, "binaryData"), key).is_string() {
            errors.push(Error::invalid(
                &value.path,
                key,
                "duplicate of key present in binaryData",
            ));
        }
        size += value.text().len();
    }
    for (key, value) in At::field(object, "binaryData").entries() {
        errors.extend(key_errors(&value.path, key));
        size += decoded_len(value.text());
    }
    if size > MAX_BYTES {
        errors.push(Error::too_long(&Path::root(), MAX_BYTES));
    }
    errors
}

/// A key that becomes a file name.
pub(crate) fn key_errors(path: &Path, key: &str) -> ErrorList {
    names::config_map_key(key)
        .into_iter()
        .map(|message| Error::invalid(path, key, message))
        .collect()
}

/// How many bytes a base64 text stands for.
pub(crate) fn decoded_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = meta::validate_update(new, old);
    errors.extend(frozen(new, old, &["data", "binaryData"]));
    errors.extend(validate(new));
    errors
}

/// What `immutable: true` forbids to change.
pub(crate) fn frozen(new: &Value, old: &Value, fields: &[&str]) -> ErrorList {
    const FROZEN: &str = "field is immutable when `immutable` is set";
    let mut errors = ErrorList::new();
    if *get(old, "immutable") != Value::Bool(true) {
        return errors;
    }
    if *get(new, "immutable") != Value::Bool(true) {
        errors.push(Error::forbidden(&Path::new("immutable"), FROZEN));
    }
    for name in fields {
        let (new, old) = (get(new, name), get(old, name));
        if new != old && !(is_zero(new) && is_zero(old)) {
            errors.push(Error::forbidden(&Path::new(*name), FROZEN));
        }
    }
    errors
}
