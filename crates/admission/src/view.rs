//! Reading JSON objects with their field path at hand, with Go's idea of zero values: an absent field, `null` and the empty value
//! of its type are the same.

use api::field::Path;
use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// A value and where it is.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) value: &'a Value,
    pub(crate) path: Path,
}

impl<'a> At<'a> {
    /// A top-level field of `object`.
    pub(crate) fn field(object: &'a Value, name: &str) -> Self {
        Self {
            value: get(object, name),
            path: Path::new(name),
        }
    }

    /// The named field below; reads as `null` when absent.
    pub(crate) fn get(&self, name: &str) -> Self {
        Self {
            value: get(self.value, name),
            path: self.path.child(name),
        }
    }

    /// The same value, reported elsewhere.
    pub(crate) fn reported_at(&self, path: Path) -> Self {
        Self {
            value: self.value,
            path,
        }
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> impl Iterator<Item = At<'a>> + use<'a> {
        let path = self.path.clone();
        list(self.value)
            .iter()
            .enumerate()
            .map(move |(i, value)| At {
                value,
                path: path.index(i),
            })
    }

    /// The entries of a map, by key.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let path = self.path.clone();
        entries(self.value).map(move |(key, value)| {
            (
                key,
                At {
                    value,
                    path: path.key(key),
                },
            )
        })
    }

    /// Whether the field was given at all.
    pub(crate) fn given(&self) -> bool {
        !self.value.is_null()
    }

    /// Number of elements or entries.
    pub(crate) fn len(&self) -> usize {
        len(self.value)
    }

    /// The text; empty when absent.
    pub(crate) fn text(&self) -> &'a str {
        text(self.value)
    }

    /// The number, when given.
    pub(crate) fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether it is `true`.
    pub(crate) fn is_true(&self) -> bool {
        *self.value == Value::Bool(true)
    }

    /// Whether it is `false`, given as such.
    pub(crate) fn is_false(&self) -> bool {
        *self.value == Value::Bool(false)
    }
}

/// The field `name` of `value`, or `null`.
pub(crate) fn get<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&NULL)
}

/// The value at the end of a chain of fields, or `null`.
pub(crate) fn dig<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, name| get(value, name))
}

/// A list's elements; none when it is not a list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A map's entries in key order; none when it is not a map.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let mut entries: Vec<(&str, &Value)> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v))
        .collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries.into_iter()
}

/// Number of elements or entries.
pub(crate) fn len(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    }
}

/// A string; empty when it is not one.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// The object behind `value`, made if there is none.
pub(crate) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// The field `name` of the object behind `value`, both made if absent.
pub(crate) fn entry<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    object(value).entry(name).or_insert(Value::Null)
}

/// The list in the field `name`; empty when there is none.
pub(crate) fn list_mut<'a>(value: &'a mut Value, name: &str) -> &'a mut [Value] {
    value
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .map_or(&mut [], Vec::as_mut_slice)
}

/// The object in the field `name`, if it is one.
pub(crate) fn object_mut<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    value.get_mut(name).filter(|value| value.is_object())
}

/// Sets `name` unless it holds something other than Go's zero value.
pub(crate) fn set_if_zero(value: &mut Value, name: &str, default: impl Into<Value>) {
    if is_zero(get(value, name)) {
        object(value).insert(name.to_owned(), default.into());
    }
}

/// Sets `name` unless it is given.
pub(crate) fn set_if_absent(value: &mut Value, name: &str, default: impl Into<Value>) {
    if get(value, name).is_null() {
        object(value).insert(name.to_owned(), default.into());
    }
}

/// Makes `name` of `new` what it is in `old`.
pub(crate) fn restore(new: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        Some(value) => {
            object(new).insert(name.to_owned(), value.clone());
        }
        None => remove(new, name),
    }
}

/// Removes a field, keeping the order of the others.
pub(crate) fn remove(value: &mut Value, name: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(name);
    }
}

/// Whether a value is its type's zero in Go's encoding.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Whether two values mean the same to the API: absent, `null`, empty lists and empty maps are equal, and so are quantities
/// written differently where both sides parse as quantities of the same resource list.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter()
                .all(|(key, value)| same_field(key, value, get(b, key)))
                && y.iter()
                    .all(|(key, value)| x.contains_key(key) || is_nothing(value))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b))
        }
        _ => a == b || (is_nothing(a) && is_nothing(b)),
    }
}

/// Absent, or encoded by Go's `omitempty` as absent.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

const QUANTITY_MAPS: [&str; 5] = ["limits", "requests", "overhead", "capacity", "allocatable"];

fn same_field(key: &str, a: &Value, b: &Value) -> bool {
    if QUANTITY_MAPS.contains(&key) && a.is_object() && b.is_object() {
        return len(a) == len(b)
            && entries(a).all(|(name, value)| same_quantity(value, get(b, name)));
    }
    if key == "sizeLimit" || key == "divisor" {
        return same_quantity(a, b);
    }
    same(a, b)
}

fn same_quantity(a: &Value, b: &Value) -> bool {
    match (crate::resources::quantity(a), crate::resources::quantity(b)) {
        (Some(a), Some(b)) => a == b,
        _ => same(a, b),
    }
}
