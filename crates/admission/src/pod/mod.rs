//! Pods: defaults, strategy, validation and mutating admission.
//!
//! `defaults` fills in, `admit` is the admission that changes Pods, `spec` and its siblings validate, `update`, `resize` and
//! `status` say what may change afterwards.

mod admit;
pub(crate) mod aggregate;
pub(crate) mod claim;
mod condition;
mod containers;
mod defaults;
mod diff;
mod env;
mod ephemeral;
pub(crate) mod internal;
mod mirror;
mod mounts;
mod probes;
mod references;
mod resize;
mod scheduling;
mod security;
mod spec;
mod status;
mod strategy;
mod update;
pub(crate) mod volumes;
mod volumes_projected;
mod warnings;

pub use admit::{AdmitContext, Denied, admit};
pub use aggregate::qos_class;
pub(crate) use condition::{Condition, set as set_condition};
pub use condition::{evict, is_evicted};
pub use defaults::pod_spec as default_spec;
pub(crate) use defaults::{round_up, round_up_lists, source as default_source};
pub use mirror::{Owner, is_mirror, may_be_made};
pub use references::api_reference;
pub use resize::{TooLarge, fits};
pub(crate) use scheduling::{label_selector, node_selector, tolerations};
pub use spec::SpecContext;
pub(crate) use spec::annotations as validate_annotations;
pub use spec::validate_value as validate_spec;
pub use warnings::of_pod as warnings;
pub(crate) use warnings::{
    deprecated_label, deprecated_requirements, deprecated_terms, of_template as template_warnings,
};

use api::field::{Error, ErrorList};
use api::names;
use api::pod::MIRROR;
use serde_json::Value;

use crate::view::{At, get, text};
use crate::{Rules, Subresource};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: defaults::pod,
    prepare_create: strategy::prepare_create,
    prepare_update: strategy::prepare_update,
    validate_create: spec::validate_create,
    validate_update,
};

fn validate_update(subresource: Subresource, new: &Value, old: &Value) -> ErrorList {
    match subresource {
        Subresource::Main | Subresource::Finalize | Subresource::Scale | Subresource::Approval => {
            update::validate(new, old)
        }
        Subresource::Status => status::validate(new, old),
        Subresource::EphemeralContainers => ephemeral::validate_update(new, old),
        Subresource::Resize => resize::validate(new, old),
    }
}

/// Whether an init container runs beside the app containers.
fn is_sidecar(container: &Value) -> bool {
    text(get(container, "restartPolicy")) == "Always"
}

/// At least zero.
pub(crate) fn non_negative(at: &At<'_>) -> ErrorList {
    match at.int() {
        Some(value) if value < 0 => vec![Error::invalid(
            &at.path,
            value,
            "must be greater than or equal to 0",
        )],
        _ => ErrorList::new(),
    }
}

/// A port number.
pub(crate) fn port_number(at: &At<'_>) -> ErrorList {
    let number = at.int().unwrap_or(0);
    names::port_number(number)
        .into_iter()
        .map(|message| Error::invalid(&at.path, number, message))
        .collect()
}

/// A port number, or the name of a container port.
pub(crate) fn port_number_or_name(at: &At<'_>) -> ErrorList {
    if !at.value.is_string() {
        return port_number(at);
    }
    names::port_name(at.text())
        .into_iter()
        .map(|message| Error::invalid(&at.path, at.text(), message))
        .collect()
}

/// The effect of a taint or toleration.
pub(crate) fn taint_effect(at: &At<'_>, may_be_empty: bool) -> ErrorList {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    match at.text() {
        "" if !may_be_empty => vec![Error::required(&at.path, "")],
        effect if EFFECTS.contains(&effect) => ErrorList::new(),
        other => vec![Error::not_supported(&at.path, other, &EFFECTS)],
    }
}

/// One of a set of words; empty is missing.
pub(crate) fn word(at: &At<'_>, supported: &[&str]) -> ErrorList {
    match at.text() {
        "" => vec![Error::required(&at.path, "")],
        known if supported.contains(&known) => ErrorList::new(),
        other => vec![Error::not_supported(&at.path, other, supported)],
    }
}

/// One of a set of words, when given.
fn optional_word(at: &At<'_>, supported: &[&str]) -> ErrorList {
    if !at.given() || supported.contains(&at.text()) {
        return ErrorList::new();
    }
    vec![Error::not_supported(&at.path, at.text(), supported)]
}

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
