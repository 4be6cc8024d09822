//! Decoding of request bodies by the schema (spec kubectl-and-api §4.4): types are checked, unknown fields dropped and reported,
//! duplicate fields reported, and values with a canonical form (quantities, times) brought into it.
//!
//! Works in one pass over JSON text or over a [`Value`], with upstream's texts. Kind-specific rules belong to admission.

mod decode;
mod scalar;

pub use decode::{Decoded, TypeError, decode_slice, decode_value};

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
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(path) => write!(f, "unknown field {}", quote(path)),
            Self::Duplicate(path) => write!(f, "duplicate field {}", quote(path)),
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
        FieldValidation::Warn => Ok(problems.iter().map(ToString::to_string).collect()),
        _ => Ok(Vec::new()),
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
