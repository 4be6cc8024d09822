//! Patches (spec kubectl-and-api §7): JSON patch, JSON merge patch, strategic merge patch. Server-side apply is another matter and reads
//! the list types of [`crate::schema`].

mod strategic;

pub use strategic::strategic_merge;

use crate::schema::TypeId;
use crate::status::{self, StatusError};
use serde_json::Value;

/// Most operations of a JSON patch.
const MOST_OPERATIONS: usize = 10_000;

/// What a patch's `Content-Type` says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Merges lists by the keys of the schema.
    StrategicMerge,
    /// Server-side apply, YAML or JSON.
    Apply,
}

impl PatchKind {
    /// From the media type, without parameters.
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" => Self::StrategicMerge,
            "application/apply-patch+yaml" => Self::Apply,
            _ => return None,
        })
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::StrategicMerge => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What is wrong with a patch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is malformed (400).
    #[error("{0}")]
    Malformed(String),
    /// It does not apply to the object, such as a failed `test` (422).
    #[error("{0}")]
    DoesNotApply(String),
    /// It has too many operations (413).
    #[error("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {0}")]
    TooMany(usize),
}

impl From<PatchError> for StatusError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(message) => status::bad_request(message),
            PatchError::DoesNotApply(_) => status::unprocessable_patch(),
            PatchError::TooMany(_) => status::request_entity_too_large(error),
        }
    }
}

fn parse(body: &[u8]) -> Result<Value, PatchError> {
    serde_json::from_slice(body)
        .map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))
}

/// Applies a JSON patch.
pub fn json(object: &mut Value, body: &[u8]) -> Result<(), PatchError> {
    let patch: json_patch::Patch = serde_json::from_slice(body)
        .map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?;
    if patch.0.len() > MOST_OPERATIONS {
        return Err(PatchError::TooMany(patch.0.len()));
    }
    json_patch::patch(object, &patch).map_err(|e| PatchError::DoesNotApply(e.to_string()))
}

/// Applies a JSON merge patch.
pub fn merge(object: &mut Value, body: &[u8]) -> Result<(), PatchError> {
    let patch = parse(body)?;
    if !patch.is_object() {
        return Err(PatchError::Malformed(
            "invalid JSON merge patch: not an object".to_owned(),
        ));
    }
    json_patch::merge(object, &patch);
    Ok(())
}

/// Applies a patch of any kind but [`PatchKind::Apply`], which [`PatchError::Malformed`] refuses. The result is not yet validated.
pub fn apply(
    kind: PatchKind,
    object: &Value,
    body: &[u8],
    ty: TypeId,
) -> Result<Value, PatchError> {
    let mut patched = object.clone();
    match kind {
        PatchKind::Json => json(&mut patched, body)?,
        PatchKind::Merge => merge(&mut patched, body)?,
        PatchKind::StrategicMerge => strategic_merge(&mut patched, parse(body)?, ty)?,
        PatchKind::Apply => {
            return Err(PatchError::Malformed(
                "an apply patch has no effect by itself".to_owned(),
            ));
        }
    }
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use serde_json::json;

    fn patched(kind: PatchKind, body: &str) -> Result<Value, StatusError> {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        let ty = Schema::get().of("", "v1", "ConfigMap").unwrap();
        Ok(apply(kind, &object, body.as_bytes(), ty)?)
    }

    #[test]
    fn three_kinds() {
        let removed = json!({"metadata": {"labels": {"b": "2"}}});
        for (kind, body) in [
            (
                PatchKind::Json,
                r#"[{"op":"test","path":"/metadata/labels/a","value":"1"},{"op":"remove","path":"/metadata/labels/a"}]"#,
            ),
            (PatchKind::Merge, r#"{"metadata":{"labels":{"a":null}}}"#),
            (
                PatchKind::StrategicMerge,
                r#"{"metadata":{"labels":{"a":null}}}"#,
            ),
        ] {
            assert_eq!(patched(kind, body).unwrap(), removed, "{kind:?}");
            assert_eq!(PatchKind::from_media_type(kind.media_type()), Some(kind));
        }
        assert_eq!(
            patched(PatchKind::Merge, "{}").unwrap()["metadata"]["labels"]["a"],
            "1"
        );
    }

    #[test]
    fn refusals() {
        for (kind, body, code) in [
            (PatchKind::Json, "{}", 400),
            (PatchKind::Json, "[", 400),
            (
                PatchKind::Json,
                r#"[{"op":"test","path":"/metadata/labels/a","value":"2"}]"#,
                422,
            ),
            (
                PatchKind::Json,
                r#"[{"op":"remove","path":"/metadata/nothing"}]"#,
                422,
            ),
            (PatchKind::Merge, "[]", 400),
            (PatchKind::StrategicMerge, "1", 400),
            (PatchKind::Apply, "{}", 400),
        ] {
            assert_eq!(
                patched(kind, body).unwrap_err().code,
                code,
                "{kind:?} {body}"
            );
        }
        let many = format!(
            "[{}]",
            vec![r#"{"op":"test","path":"","value":1}"#; 10_001].join(",")
        );
        let error = patched(PatchKind::Json, &many).unwrap_err();
        assert_eq!(
            (error.code, error.message.contains("got 10001")),
            (413, true)
        );
    }
}
