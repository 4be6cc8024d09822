//! Namespaces.

use api::status::{self, StatusError};
use serde::Deserialize;

use crate::rest::Rest;

#[derive(Deserialize)]
struct Phased {
    #[serde(default)]
    status: Phase,
}

#[derive(Deserialize, Default)]
struct Phase {
    #[serde(default)]
    phase: String,
}

/// Whether a stored Namespace is going away, so that nothing may be made in it.
pub(crate) fn is_terminating(namespace: &[u8]) -> bool {
    serde_json::from_slice::<Phased>(namespace).is_ok_and(|n| n.status.phase == "Terminating")
}

/// The first namespaces cannot be deleted.
pub(super) fn check_delete(rest: &Rest, name: &str) -> Result<(), StatusError> {
    if !admission::namespace::UNDELETABLE.contains(&name) {
        return Ok(());
    }
    Err(status::forbidden(
        &rest.group_resource(),
        name,
        "this namespace may not be deleted",
    ))
}
