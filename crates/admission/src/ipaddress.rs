//! IPAddresses: which address belongs to what (KEP-1880, upstream's pkg/apis/networking/validation).

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use crate::ingressclass::required_segment;
use crate::meta::{self, invalid_text};
use crate::pod::internal;
use crate::view::{At, dig, same};
use crate::{Rules, Subresource, generic, net};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate,
    validate_update,
};

/// An object is named by its address.
fn address(name: &str) -> Vec<String> {
    let errors = net::canonical_ip(&Path::root(), name).into_iter();
    errors.map(|error| error.detail).collect()
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = meta::validate(object, false, address);
    errors.extend(validate_parent(&At::field(object, "spec").get("parentRef")));
    errors
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(new);
    let parent = At::field(new, "spec").get("parentRef");
    if !same(parent.value, dig(old, &["spec", "parentRef"])) {
        let (kind, why) = (internal::Kind::ParentReference, "field is immutable");
        errors.push(match parent.given() {
            true => internal::invalid(&parent.path, kind, parent.value, why),
            false => Error::invalid(&parent.path, Value::Null, why),
        });
    }
    errors
}

fn validate_parent(parent: &At<'_>) -> ErrorList {
    if !parent.given() {
        return vec![Error::required(&parent.path, "")];
    }
    let mut errors = ErrorList::new();
    let group = parent.get("group");
    if !group.text().is_empty() {
        errors.extend(invalid_text(&group, names::dns1123_subdomain(group.text())));
    }
    for name in ["resource", "name"] {
        errors.extend(required_segment(&parent.get(name)));
    }
    let namespace = parent.get("namespace");
    errors.extend(invalid_text(
        &namespace,
        names::path_segment(namespace.text()),
    ));
    errors
}
