//! What claims for storage ask for, also in templates of them.

use api::field::{Error, ErrorList};
use api::names;
use serde_json::{Map, Value};

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

/// What is wrong with the specification of a claim.
pub(crate) fn validate(spec: &At<'_>) -> ErrorList {
    let given = spec.get("accessModes");
    let mut errors = ErrorList::new();
    if given.len() == 0 {
        errors.push(Error::required(
            &given.path,
            "at least 1 access mode is required",
        ));
    }
    errors.extend(label_selector(&spec.get("selector")));
    errors.extend(modes(&given));
    errors.extend(size(spec));
    errors.extend(class(&spec.get("storageClassName")));
    errors.extend(volume_mode(&spec.get("volumeMode")));
    errors.extend(sources(spec));
    errors.extend(class(&spec.get("volumeAttributesClassName")));
    errors
}

/// Modes of access that are known, and go together.
pub(crate) fn modes(modes: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
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
    errors
}

/// How what is mounted looks to who uses it.
pub(crate) fn volume_mode(mode: &At<'_>) -> ErrorList {
    optional_word(mode, &["Block", "Filesystem"])
}

/// More than nothing.
pub(crate) fn positive(amount: &At<'_>) -> Option<Error> {
    let quantity = resources::quantity(amount.value).filter(|quantity| quantity.signum() <= 0)?;
    let why = "must be greater than zero";
    Some(Error::invalid(&amount.path, quantity.canonical(), why))
}

fn class(name: &At<'_>) -> ErrorList {
    match name.text() {
        "" => ErrorList::new(),
        text => invalid_text(name, names::dns1123_subdomain(text)),
    }
}

/// Upstream leaves `requests` out.
fn size(spec: &At<'_>) -> Option<Error> {
    let storage = spec.get("resources").get("requests").get("storage");
    let storage = storage.reported_at(spec.path.child("resources").key("storage"));
    match resources::quantity(storage.value) {
        None => Some(Error::required(&storage.path, "")),
        Some(_) => positive(&storage),
    }
}

/// What the volume is filled from, said in one field, in both alike, or in the newer one alone.
fn sources(spec: &At<'_>) -> ErrorList {
    let (old, new) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    let mut errors: ErrorList = [&old, &new]
        .into_iter()
        .filter(|source| source.given())
        .flat_map(source)
        .collect();
    let namespace = new.get("namespace");
    let is_abroad = !namespace.text().is_empty();
    if is_abroad {
        let wrong = names::dns1123_label(namespace.text());
        errors.extend(invalid_text(&namespace, wrong));
    }
    if !old.given() || !new.given() {
        return errors;
    }
    let words = |at: &At<'_>| ["apiGroup", "kind", "name"].map(|name| at.get(name).value.clone());
    let why = match is_abroad {
        true => "may not be specified when dataSourceRef.namespace is specified",
        false if words(&old) != words(&new) => "must match dataSourceRef",
        false => return errors,
    };
    // What upstream prints of a path.
    let nothing = Value::Object(Map::new());
    errors.push(Error::invalid(&spec.path, nothing, why));
    errors
}

fn source(source: &At<'_>) -> ErrorList {
    let (group, kind) = (source.get("apiGroup"), source.get("kind"));
    let required = ["name", "kind"].map(|name| source.get(name));
    let missing = required.iter().filter(|at| at.text().is_empty());
    let mut errors: ErrorList = missing.map(|at| Error::required(&at.path, "")).collect();
    if group.text().is_empty() {
        if kind.text() != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(Error::invalid(&source.path, kind.text(), why));
        }
    } else {
        errors.extend(invalid_text(&group, names::dns1123_subdomain(group.text())));
    }
    errors
}

/// What a client is told of the specification of a claim: parts of bytes.
pub(crate) fn warnings(spec: &At<'_>) -> Vec<String> {
    let given = spec.get("resources");
    let parts = ["requests", "limits"].map(|part| fractions(&given.get(part), &["storage"]));
    parts.concat()
}
