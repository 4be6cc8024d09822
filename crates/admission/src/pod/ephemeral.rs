//! Ephemeral containers (spec §7): what they may be, and that they only ever come.

use std::collections::BTreeSet;

use api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::containers::{Around, common};
use super::internal::{self, Kind};
use super::{MIRROR, diff, spec};
use crate::meta;
use crate::view::{At, dig, get, is_zero, list, same, text};

const REFUSED: &str = "cannot be set for an Ephemeral Container";
/// In the order of the structure's fields.
const REFUSED_FIELDS: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// `spec.ephemeralContainers`.
pub(super) fn validate(around: &Around<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|name| list(get(around.spec.value, name)))
        .map(|container| text(get(container, "name")))
        .collect();
    let mut all = others.clone();
    for container in around.spec.get("ephemeralContainers").items() {
        errors.extend(common(&container, around));
        errors.extend(spec::image_whitespace(&container));
        let (name, target) = (container.get("name"), container.get("targetContainerName"));
        if !all.insert(name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        }
        if !target.text().is_empty() && !others.contains(target.text()) {
            errors.push(Error::not_found(&target.path, target.text()));
        }
        for field in REFUSED_FIELDS
            .map(|name| container.get(name))
            .into_iter()
            .filter(|field| !is_zero(field.value))
        {
            errors.push(Error::forbidden(&field.path, REFUSED));
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"]
                .map(|name| mount.get(name))
                .into_iter()
                .filter(|field| !field.text().is_empty())
            {
                errors.push(Error::forbidden(&field.path, REFUSED));
            }
        }
    }
    errors
}

/// A write to `pods/…/ephemeralcontainers`.
pub(super) fn validate_update(new: &Value, old: &Value) -> ErrorList {
    if meta::annotation(old, MIRROR).is_some() {
        return vec![Error::forbidden(
            &Path::root(),
            "static pods do not support ephemeral containers",
        )];
    }
    let mut errors = spec::validate_pod(new);
    errors.extend(super::update::annotations(new, old));
    let at = At::field(new, "spec").get("ephemeralContainers");
    for before in list(dig(old, &["spec", "ephemeralContainers"])) {
        let name = text(get(before, "name"));
        let quoted = api::gotext::quote(name);
        match list(at.value)
            .iter()
            .find(|container| text(get(container, "name")) == name)
        {
            None => errors.push(Error::forbidden(
                &at.path,
                format!("existing ephemeral containers {quoted} may not be removed\n"),
            )),
            Some(after) if !same(before, after) => {
                let shown = |value: &Value| internal::pretty(Kind::EphemeralContainer, value);
                let changes = diff::unified(&shown(before), &shown(after));
                errors.push(Error::forbidden(
                    &at.path,
                    format!("existing ephemeral containers {quoted} may not be changed\n{changes}"),
                ));
            }
            Some(_) => {}
        }
    }
    errors
}
