//! Decoding of request bodies by the schema (spec kubectl-and-api §4.4): types are checked, unknown fields dropped and reported,
//! duplicate fields reported, and values with a canonical form (quantities, times) brought into it.
//!
//! Works in one pass over JSON text or over a [`Value`](serde_json::Value), with upstream's texts. Kind-specific rules belong to admission.

mod decode;
mod scalar;

pub(crate) use decode::syntax_error;
pub use decode::{Decoded, TypeError, decode_slice, decode_value, decode_yaml};

use crate::gotext::quote;
use crate::gvk::GroupVersionKind;
use crate::status::{self, StatusError};

/// `?fieldValidation=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Unknown and duplicate fields are dropped silently.
    Ignore,
    /// They are dropped with a warning each. The server's default.
    #[default]
    Warn,
    /// They fail the request.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter; empty means Warn, anything unknown is `None` (422).
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "Ignore" => Self::Ignore,
            "" | "Warn" => Self::Warn,
            "Strict" => Self::Strict,
            _ => return None,
        })
    }
}

/// What strictness is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A field the type does not have; its path.
    Unknown(String),
    /// A field given twice, of which the last counts; its path.
    Duplicate(String),
    /// The same in YAML, where it is noticed before paths are known: upstream's words, with the line.
    Yaml(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(path) => write!(f, "unknown field {}", quote(path)),
            Self::Duplicate(path) => write!(f, "duplicate field {}", quote(path)),
            Self::Yaml(text) => write!(f, "yaml: unmarshal errors:\n  {text}"),
        }
    }
}

/// `strict decoding error: unknown field "spec.foo", duplicate field "spec.x"`
pub fn strict_error(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("strict decoding error: {}", texts.join(", "))
}

/// Decides what problems mean in a mode: warnings to send, or the text of the failure.
pub fn judge(problems: &[Problem], mode: FieldValidation) -> Result<Vec<String>, String> {
    match mode {
        FieldValidation::Strict if !problems.is_empty() => Err(strict_error(problems)),
        FieldValidation::Warn => Ok(problems.iter().map(warning).collect()),
        _ => Ok(Vec::new()),
    }
}

/// A header has one line.
fn warning(problem: &Problem) -> String {
    match problem {
        Problem::Yaml(text) => text.clone(),
        other => other.to_string(),
    }
}

/// 400 `Deployment in version "v1" cannot be handled as a Deployment: <why>`. `sent` is what the body says it is.
pub fn cannot_be_handled(
    sent: &GroupVersionKind,
    expected_kind: &str,
    why: impl std::fmt::Display,
) -> StatusError {
    let version = quote(&sent.version);
    status::bad_request(format!(
        "{} in version {version} cannot be handled as a {expected_kind}: {why}",
        sent.kind
    ))
}

/// 400 for a body that does not even say what it is: not JSON, or not an object.
pub fn unrecognized(expected_kind: &str, why: impl std::fmt::Display, body: &[u8]) -> StatusError {
    let summary = summarize(body);
    status::bad_request(format!(
        "the object provided is unrecognized (must be of type {expected_kind}): couldn't get version/kind; json parse error: {why} ({summary})"
    ))
}

/// The first 30 bytes: of an object as they are, of anything else in hexadecimal.
fn summarize(body: &[u8]) -> String {
    let (shown, rest) = body.split_at(body.len().min(30));
    let text = match shown.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|b| format!("{b:02x}")).collect(),
    };
    if rest.is_empty() {
        text
    } else {
        format!("{text} ...")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_upstreams() {
        let sent = GroupVersionKind::new("apps", "v1", "Deployment");
        let error = cannot_be_handled(
            &sent,
            "Deployment",
            strict_error(&[Problem::Unknown("spec.foo".to_owned())]),
        );
        assert_eq!(
            error.message,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\""
        );
        for (body, summary) in [("", "<empty>"), ("{", "{"), ("[]", "5b5d")] {
            let error = unrecognized("Pod", "unexpected end of JSON input", body.as_bytes());
            assert_eq!(
                error.message,
                format!(
                    "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: \
                     unexpected end of JSON input ({summary})"
                )
            );
        }
    }

    #[test]
    fn modes() {
        let problems = [
            Problem::Unknown("a".to_owned()),
            Problem::Duplicate("b".to_owned()),
        ];
        assert_eq!(judge(&problems, FieldValidation::Ignore), Ok(Vec::new()));
        assert_eq!(
            judge(&problems, FieldValidation::Warn),
            Ok(vec![
                "unknown field \"a\"".to_owned(),
                "duplicate field \"b\"".to_owned()
            ])
        );
        assert!(judge(&problems, FieldValidation::Strict).is_err());
        assert_eq!(judge(&[], FieldValidation::Strict), Ok(Vec::new()));
        assert_eq!(FieldValidation::parse(""), Some(FieldValidation::Warn));
        assert_eq!(FieldValidation::parse("strict"), None);
    }
}
