//! Why a configuration is not applied, in upstream's words (spec kubectl-and-api §8.3).

use super::element::path_text;
use super::managed::{ManagedError, Manager, Owned};
use super::{Element, Set};
use crate::gvk::{GroupVersion, GroupVersionKind};
use crate::status::{self, StatusError};
use serde_json::Value;

/// A field that somebody else owns and that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: Manager,
    /// Which.
    pub path: Vec<Element>,
}

/// Why a configuration is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own what it would change (409), by owner and path.
    #[error("{}", conflict_text(.0))]
    Conflicts(Vec<Conflict>),
    /// It says who owns what (400).
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// It does not fit its type (500, as upstream has it).
    #[error("failed to create typed patch object ({object}): {why}")]
    Typed {
        /// `namespace/name; group/version, Kind=Kind`.
        object: String,
        /// What does not fit.
        why: String,
    },
    /// The object's own entries do not read (500).
    #[error("failed to decode managed fields: {0}")]
    Live(#[from] ManagedError),
}

impl ApplyError {
    pub(super) fn typed(config: &Value, api_version: &str, why: String) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &config["metadata"];
        let version = GroupVersion::parse(api_version).unwrap_or_default();
        let kind: GroupVersionKind = version.kind(text(&config["kind"]));
        let object = format!(
            "{}/{}; {kind}",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        Self::Typed { object, why }
    }
}

impl From<ApplyError> for StatusError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::Conflicts(found) => {
                let refused = status::failure(409, "Conflict", message, None);
                found.iter().fold(refused, |refused, conflict| {
                    let what = format!("conflict with {}", conflict.manager.describe());
                    refused.with_cause("FieldManagerConflict", what, &path_text(&conflict.path))
                })
            }
            ApplyError::ManagedFields => status::bad_request(message),
            ApplyError::Typed { .. } | ApplyError::Live(_) => {
                status::failure(500, "", message, None)
            }
        }
    }
}

/// What of `taken` others own.
pub(super) fn conflicts<'a>(others: impl Iterator<Item = &'a Owned>, taken: &Set) -> Vec<Conflict> {
    let mut found = Vec::new();
    for owned in others {
        for path in owned.set.intersection(taken).paths() {
            found.push(Conflict {
                manager: owned.manager.clone(),
                path,
            });
        }
    }
    found
}

fn conflict_text(found: &[Conflict]) -> String {
    if let [only] = found {
        let (manager, path) = (only.manager.describe(), path_text(&only.path));
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in found {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager.describe()));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", path_text(&conflict.path)));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        found.len(),
        lines.join("\n")
    )
}
