//! Claims for storage, as templates of them.

use api::field::{Error, ErrorList};
use api::names;

use super::{label_selector, optional_word, warnings::fractions};
use crate::meta::invalid_text;
use crate::resources;
use crate::view::At;

const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// What is wrong with the specification of a claim. Sources of data are not looked at.
pub(crate) fn validate(spec: &At<'_>) -> ErrorList {
    let modes = spec.get("accessModes");
    let mut errors = ErrorList::new();
    if modes.len() == 0 {
        errors.push(Error::required(
            &modes.path,
            "at least 1 access mode is required",
        ));
    }
    errors.extend(label_selector(&spec.get("selector")));
    let (mut is_alone, mut is_shared) = (false, false);
    for mode in modes.items() {
        match mode.text() {
            "ReadWriteOncePod" => is_alone = true,
            known if MODES.contains(&known) => is_shared = true,
            other => errors.push(Error::not_supported(&modes.path, other, &MODES)),
        }
    }
    if is_alone && is_shared {
        errors.push(Error::forbidden(
            &modes.path,
            "may not use ReadWriteOncePod with other access modes",
        ));
    }
    errors.extend(size(spec));
    for name in ["storageClassName", "volumeAttributesClassName"] {
        let class = spec.get(name);
        if name == "volumeAttributesClassName" {
            errors.extend(optional_word(
                &spec.get("volumeMode"),
                &["Block", "Filesystem"],
            ));
        }
        if !class.text().is_empty() {
            errors.extend(invalid_text(&class, names::dns1123_subdomain(class.text())));
        }
    }
    errors
}

fn size(spec: &At<'_>) -> ErrorList {
    let storage = spec.get("resources").get("requests").get("storage");
    let path = spec.path.child("resources").key("storage");
    match resources::quantity(storage.value) {
        None => vec![Error::required(&path, "")],
        Some(quantity) if quantity.signum() <= 0 => vec![Error::invalid(
            &path,
            quantity.canonical(),
            "must be greater than zero",
        )],
        Some(_) => ErrorList::new(),
    }
}

/// What a client is told of the specification of a claim: parts of bytes.
pub(crate) fn warnings(spec: &At<'_>) -> Vec<String> {
    let given = spec.get("resources");
    let parts = ["requests", "limits"].map(|part| fractions(&given.get(part), &["storage"]));
    parts.concat()
}
