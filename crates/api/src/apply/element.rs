//! One step of a path into an object, in the form of managedFields (spec kubectl-and-api §8.2).

use crate::gotext;
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::fmt;

/// A step of a path. The order is that of upstream's field sets: fields, keys, values, indices.
#[derive(Debug, Clone)]
pub enum Element {
    /// `f:NAME`, a field or a key of a map.
    Field(String),
    /// `k:{"name":"a"}`, the element of a list that has these key fields, in order of their names.
    Key(Vec<(String, Value)>),
    /// `v:"a"`, the element of a set.
    Value(Value),
    /// `i:0`, a place in a list.
    Index(i64),
}

/// A path element that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// There is no `f:` or the like in front.
    #[error("missing colon: {0}")]
    NoColon(String),
    /// What stands in front is no kind of step.
    #[error("unknown path element type")]
    UnknownType,
    /// What follows is not what the kind of step wants.
    #[error("invalid path element: {0}")]
    Invalid(String),
}

impl Element {
    /// A field.
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// Reads `f:spec`.
    pub fn parse(text: &str) -> Result<Self, ElementError> {
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| ElementError::NoColon(text.to_owned()))?;
        let invalid = || ElementError::Invalid(text.to_owned());
        match kind {
            "f" => Ok(Self::field(rest)),
            "v" => serde_json::from_str(rest)
                .map(Self::Value)
                .map_err(|_| invalid()),
            "i" => rest.parse().map(Self::Index).map_err(|_| invalid()),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|_| invalid())?;
                Ok(Self::key(keys))
            }
            _ => Err(ElementError::UnknownType),
        }
    }

    /// An element's key from its key fields.
    pub(super) fn key(fields: impl IntoIterator<Item = (String, Value)>) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Key(fields)
    }

    /// Writes what [`Element::parse`] reads.
    pub fn serialize(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => {
                let pairs: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| {
                        format!("{}:{}", Value::from(name.as_str()), gotext::json(value))
                    })
                    .collect();
                format!("k:{{{}}}", pairs.join(","))
            }
            Self::Value(value) => format!("v:{}", gotext::json(value)),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

impl fmt::Display for Element {
    /// As conflicts name it: `.spec`, `[name="a"]`, `[="a"]`, `[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let pairs: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{name}={}", shown(value)))
                    .collect();
                write!(f, "[{}]", pairs.join(","))
            }
            Self::Value(value) => write!(f, "[={}]", shown(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => gotext::quote(text),
        other => other.to_string(),
    }
}

/// A path as conflicts name it.
pub(super) fn path_text(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |e: &Self| match e {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        };
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a
                    .iter()
                    .zip(b)
                    .map(|((n, v), (m, w))| n.cmp(m).then_with(|| compare_values(v, w)));
                let first = pairs.into_iter().find(|o| o.is_ne());
                first.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => compare_values(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

/// Numbers before texts before booleans; numbers by what they are worth.
fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => f64::total_cmp(
                &x.as_f64().unwrap_or_default(),
                &y.as_f64().unwrap_or_default(),
            ),
        },
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        // Keys and set elements are scalars; anything else only needs some order.
        _ => rank(a)
            .cmp(&rank(b))
            .then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_read_and_print() {
        for (text, shown) in [
            ("f:spec", ".spec"),
            ("f:a:b", ".a:b"),
            (
                r#"k:{"containerPort":80,"protocol":"TCP"}"#,
                r#"[containerPort=80,protocol="TCP"]"#,
            ),
            (r#"v:"a""#, r#"[="a"]"#),
            ("v:1", "[=1]"),
            ("i:3", "[3]"),
        ] {
            let element = Element::parse(text).unwrap();
            assert_eq!(
                (element.serialize().as_str(), element.to_string().as_str()),
                (text, shown)
            );
        }
        assert_eq!(
            Element::parse(r#"k:{"b":1,"a":2}"#).unwrap().serialize(),
            r#"k:{"a":2,"b":1}"#
        );
        for text in ["", "spec", "x:y", "v:", "k:[]", "i:a", "k:{"] {
            assert!(Element::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn elements_have_upstreams_order() {
        let texts = [
            "f:a",
            "f:b",
            r#"k:{"a":1}"#,
            r#"k:{"a":1,"b":1}"#,
            r#"k:{"a":2}"#,
            r#"k:{"a":"1"}"#,
            r#"k:{"b":0}"#,
            "v:1",
            "v:1.5",
            "v:2",
            r#"v:"1""#,
            "v:false",
            "v:true",
            "i:0",
            "i:10",
        ];
        let elements: Vec<Element> = texts.iter().map(|t| Element::parse(t).unwrap()).collect();
        assert!(elements.is_sorted(), "{elements:?}");
    }
}
