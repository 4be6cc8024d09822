//! Patches (spec kubectl-and-api §7): JSON patch, JSON merge patch, strategic merge patch. Server-side apply is another matter and reads
//! the list types of [`crate::schema`].

mod json;
mod strategic;

pub use json::json;
pub use strategic::{Level, Meta, strategic_merge};

use crate::schema::TypeId;
use crate::status::{self, StatusError};
use crate::validate::syntax_error;
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
    serde_json::from_slice(body).map_err(|e| {
        PatchError::Malformed(format!("error decoding patch: {}", syntax_error(&e, body)))
    })
}

/// What Go says when a body has another type than a patch of this kind.
fn wrong_type<T>(body: &[u8], wanted: &str) -> Result<T, PatchError> {
    let found = match body.trim_ascii_start().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') => return Err(PatchError::Malformed("Invalid JSON Patch".to_owned())),
        _ => "number",
    };
    let message = format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}"
    );
    Err(PatchError::Malformed(message))
}

/// Applies a JSON merge patch.
pub fn merge(object: &mut Value, body: &[u8]) -> Result<(), PatchError> {
    let Value::Object(patch) = parse(body)? else {
        return wrong_type(body, "map[string]interface {}");
    };
    merge_value(object, Value::Object(patch));
    Ok(())
}

/// RFC 7386: objects merge, null removes, anything else replaces.
fn merge_value(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(&key);
            } else {
                merge_value(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }
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
            (PatchKind::Json, "[1]", 400),
            (PatchKind::Merge, "", 400),
            (PatchKind::Merge, "null", 400),
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
