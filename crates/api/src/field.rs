//! Paths to fields and what can be wrong with their values (spec pod-lifecycle §15.2). Validation returns an [`ErrorList`];
//! [`crate::status::invalid`] turns it into the 422 clients see.

use crate::gotext;
use serde_json::Value;
use std::fmt;

/// Where a field is: `spec.containers[0].env[1].name`. Cheap to build while descending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(String);

impl Path {
    /// A path that starts at this field; dots in `name` are kept as they are.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The object itself; its children print without a leading dot.
    pub fn root() -> Self {
        Self::default()
    }

    /// The named field below.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        Self(format!("{}.{name}", self.0))
    }

    /// The element of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// As it is printed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Absent or empty.
    Required,
    /// Malformed or out of bounds.
    Invalid,
    /// Not of the schema's type.
    TypeInvalid,
    /// Not one of the allowed values.
    NotSupported,
    /// Well-formed, but not allowed here and now.
    Forbidden,
    /// Must be unique and is not.
    Duplicate,
    /// Refers to something that does not exist.
    NotFound,
    /// Too many bytes or characters.
    TooLong,
    /// Too few characters.
    TooShort,
    /// Too many items.
    TooMany,
    /// Too few items.
    TooFew,
    /// Not the user's fault.
    Internal,
}

impl ErrorKind {
    /// The machine-readable word in `details.causes[].reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(
            self,
            Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal
        )
    }
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The printed path.
    pub field: String,
    /// The offending value; `None` leaves it out of the text.
    pub value: Option<Value>,
    /// What would be right; may be empty.
    pub detail: String,
}

/// All wrong fields of one object, in the order found.
pub type ErrorList = Vec<Error>;

impl Error {
    fn new(kind: ErrorKind, path: &Path, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self {
            kind,
            field: path.0.clone(),
            value,
            detail: detail.into(),
        }
    }

    /// `Required value[: detail]`.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Required, path, None, detail)
    }

    /// `Invalid value: <value>: detail`. Strings are quoted, `Null` prints as `null`.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// An update that does not say which version it changes. Upstream prints the zero that is there instead as Go's `%#v` does.
    pub fn no_revision() -> Self {
        let path = Path::new("metadata").child("resourceVersion");
        let detail = "0x0: must be specified for an update";
        Self::new(ErrorKind::Invalid, &path, None, detail)
    }

    /// As [`Error::invalid`], for a value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// `Unsupported value: <value>: supported values: "A", "B"`, in the order given.
    pub fn not_supported<S: AsRef<str>>(
        path: &Path,
        value: impl Into<Value>,
        supported: &[S],
    ) -> Self {
        let quoted: Vec<String> = supported
            .iter()
            .map(|s| gotext::quote(s.as_ref()))
            .collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(ErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// `Forbidden: detail`.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, path, None, detail)
    }

    /// `Duplicate value: <value>`.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// `Not found: <value>`.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(path: &Path, max_bytes: usize) -> Self {
        Self::new(
            ErrorKind::TooLong,
            path,
            None,
            format!("may not be more than {}", counted(max_bytes, "byte")),
        )
    }

    /// `Too long: may not be more than N characters`.
    pub fn too_long_characters(path: &Path, max: usize) -> Self {
        Self::new(
            ErrorKind::TooLong,
            path,
            None,
            format!("may not be more than {}", counted(max, "character")),
        )
    }

    /// `Too short: must be at least N characters`.
    pub fn too_short(path: &Path, min: usize) -> Self {
        Self::new(
            ErrorKind::TooShort,
            path,
            None,
            format!("must be at least {}", counted(min, "character")),
        )
    }

    /// `Too many: 3: must have at most 2 items`.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        Self::new(
            ErrorKind::TooMany,
            path,
            Some(actual.into()),
            format!("must have at most {}", counted(max, "item")),
        )
    }

    /// `Too few: 0: must have at least 1 item`.
    pub fn too_few(path: &Path, actual: usize, min: usize) -> Self {
        Self::new(
            ErrorKind::TooFew,
            path,
            Some(actual.into()),
            format!("must have at least {}", counted(min, "item")),
        )
    }

    /// `Internal error: detail`.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, path, None, detail)
    }

    /// The text without the path: `details.causes[].message`.
    pub fn body(&self) -> String {
        let mut body = self.kind.text().to_owned();
        if let (true, Some(value)) = (self.kind.shows_value(), &self.value) {
            body.push_str(": ");
            match value {
                Value::String(text) => body.push_str(&gotext::quote(text)),
                other => body.push_str(&gotext::json(other)),
            }
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

fn counted(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// All errors in one line: one alone, several as `[a, b]`, repeats dropped.
pub fn aggregate(errors: &[Error]) -> String {
    gotext::aggregate(errors.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_print_as_upstream() {
        let containers = Path::new("spec").child("containers");
        assert_eq!(
            containers
                .index(0)
                .child("env")
                .index(1)
                .child("name")
                .as_str(),
            "spec.containers[0].env[1].name"
        );
        assert_eq!(
            Path::new("metadata").child("labels").key("a/b").to_string(),
            "metadata.labels[a/b]"
        );
        assert_eq!(Path::root().child("spec").as_str(), "spec");
    }

    #[test]
    fn bodies_print_as_upstream() {
        let at = Path::new("f");
        for (error, text) in [
            (Error::required(&at, ""), "f: Required value"),
            (
                Error::required(&at, "name or generateName is required"),
                "f: Required value: name or generateName is required",
            ),
            (
                Error::invalid(&at, -1, "must be greater than or equal to 0"),
                "f: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                Error::invalid(&at, "A\"b", "bad"),
                "f: Invalid value: \"A\\\"b\": bad",
            ),
            (
                Error::invalid(&at, json!({"a": "<"}), "bad"),
                "f: Invalid value: {\"a\":\"\\u003c\"}: bad",
            ),
            (
                Error::invalid(&at, Value::Null, "bad"),
                "f: Invalid value: null: bad",
            ),
            (
                Error::type_invalid(&at, true, "x"),
                "f: Invalid value: true: x",
            ),
            (
                Error::not_supported(&at, "X", &["A", "B"]),
                "f: Unsupported value: \"X\": supported values: \"A\", \"B\"",
            ),
            (Error::forbidden(&at, "no"), "f: Forbidden: no"),
            (Error::duplicate(&at, "web"), "f: Duplicate value: \"web\""),
            (Error::not_found(&at, "v"), "f: Not found: \"v\""),
            (
                Error::too_long(&at, 1),
                "f: Too long: may not be more than 1 byte",
            ),
            (
                Error::too_long(&at, 63),
                "f: Too long: may not be more than 63 bytes",
            ),
            (
                Error::too_many(&at, 3, 2),
                "f: Too many: 3: must have at most 2 items",
            ),
            (
                Error::too_few(&at, 0, 1),
                "f: Too few: 0: must have at least 1 item",
            ),
            (Error::internal(&at, "boom"), "f: Internal error: boom"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
