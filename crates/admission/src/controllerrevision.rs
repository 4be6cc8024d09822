//! ControllerRevisions: what StatefulSets and DaemonSets were.

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;

use crate::pod::non_negative;
use crate::view::{At, get, same};
use crate::{Rules, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: |revision| {
        let mut errors = validate(revision);
        let data = At::field(revision, "data");
        match data.value {
            Value::Null => errors.push(Error::required(&data.path, "data is mandatory")),
            Value::Object(_) => {}
            _ => {
                let why = "data must be a valid JSON object";
                errors.push(Error::required(&data.path, why));
            }
        }
        errors
    },
    validate_update: |_, new, old| {
        let mut errors = validate(new);
        let data = At::field(new, "data");
        if !same(data.value, get(old, "data")) {
            let why = "field is immutable";
            errors.push(Error::invalid(&data.path, data.value.clone(), why));
        }
        errors
    },
};

fn validate(revision: &Value) -> ErrorList {
    let mut errors = meta::validate(revision, true, names::dns1123_subdomain);
    errors.extend(non_negative(&At::field(revision, "revision")));
    errors
}
