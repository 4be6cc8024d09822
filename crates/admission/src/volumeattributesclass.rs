//! VolumeAttributesClasses: what of a volume can be changed while it is used (upstream's pkg/apis/storage).

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;

use crate::storageclass::{parameters, provisioner};
use crate::view::{At, get, same};
use crate::{Rules, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate,
    validate_update: |_, new, old| {
        let mut errors = ErrorList::new();
        for name in ["driverName", "parameters"] {
            let at = At::field(new, name);
            if !same(at.value, get(old, name)) {
                let why = format!("updates to {name} are forbidden.");
                errors.push(Error::forbidden(&at.path, why));
            }
        }
        errors.extend(validate(new));
        errors
    },
};

fn validate(class: &Value) -> ErrorList {
    let mut errors = meta::validate(class, false, names::dns1123_subdomain);
    errors.extend(provisioner(&At::field(class, "driverName")));
    let given = At::field(class, "parameters");
    errors.extend(parameters(&given));
    if given.len() == 0 {
        let why = "must contain at least one key/value pair";
        errors.push(Error::required(&given.path, why));
    }
    errors
}
