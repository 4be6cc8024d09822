//! What the schema table says of a place in an object, as server-side apply sees it (spec kubectl-and-api §8.4).

use super::element::Element;
use crate::schema::{Field, ListType, Schema, Shape, Type};
use serde_json::{Map, Value};

/// A place: what it holds, and how what it holds is merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) shape: &'a Shape,
    list: Option<&'a ListType>,
    atomic: bool,
}

/// How a place is walked.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// One value: a scalar, or what is owned as a whole.
    Leaf,
    /// A struct, field by field.
    Struct(&'static Type),
    /// A map, key by key.
    Map(Place<'a>),
    /// A list whose elements are told apart by keys, or by themselves when there are none.
    List(Place<'a>, &'a [&'static str]),
}

impl<'a> Place<'a> {
    /// An object, or the element of a list or map, whose own merging nothing is said about.
    pub(super) fn of(shape: &'a Shape) -> Self {
        Self {
            shape,
            list: None,
            atomic: false,
        }
    }

    pub(super) fn field(field: &'a Field) -> Self {
        Self {
            shape: &field.shape,
            list: field.list.as_ref(),
            atomic: field.map_atomic,
        }
    }

    pub(super) fn kind(self) -> Kind<'a> {
        match self.shape {
            Shape::Object(id) => {
                let ty = Schema::get().ty(*id);
                if ty.atomic || self.atomic {
                    Kind::Leaf
                } else {
                    Kind::Struct(ty)
                }
            }
            Shape::Map(values) if !self.atomic => Kind::Map(Self::of(values)),
            Shape::List(element) => match self.list {
                Some(ListType::Set) => Kind::List(Self::of(element), &[]),
                Some(ListType::Map(keys)) => Kind::List(Self::of(element), keys),
                Some(ListType::Atomic) | None => Kind::Leaf,
            },
            _ => Kind::Leaf,
        }
    }
}

/// What an element of a list is called; why it cannot be called anything.
pub(super) fn element_of(
    element: Place<'_>,
    keys: &[&'static str],
    item: &Value,
) -> Result<Element, String> {
    if keys.is_empty() {
        let what = match item {
            Value::Object(_) => "associative list without keys has an element that's a map type",
            Value::Array(_) => "not supported: associative list with lists as elements",
            Value::Null => "associative list without keys has an element that's an explicit null",
            scalar => return Ok(Element::Value(scalar.clone())),
        };
        return Err(what.to_owned());
    }
    let item = match item {
        Value::Object(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let found = keys.iter().filter_map(|key| {
        let value = item.get(*key).cloned().or_else(|| default(element, key))?;
        Some(((*key).to_owned(), value))
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|k| crate::gotext::quote(k)).collect();
        let names = names.join(" ");
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{names}] (and doesn't have default values for any key fields)"
        ));
    }
    Ok(Element::key(found))
}

/// The default of a key field, such as a port's protocol; of fields that every object must have it is zero.
fn default(element: Place<'_>, key: &str) -> Option<Value> {
    let Kind::Struct(ty) = element.kind() else {
        return None;
    };
    let field = ty.field(key)?;
    match field.default {
        Some(text) => serde_json::from_str(text).ok(),
        None => zero(field),
    }
}

/// What a field that a Go struct always has says when nobody has set it; `None` for fields that are left out then.
pub(super) fn zero(field: &Field) -> Option<Value> {
    if field.pointer {
        return None;
    }
    match &field.shape {
        Shape::Object(id) => {
            let mut map = Map::new();
            for inner in &Schema::get().ty(*id).fields {
                if let Some(value) = zero(inner) {
                    map.insert(inner.name.to_owned(), value);
                }
            }
            Some(Value::Object(map))
        }
        Shape::Time | Shape::MicroTime => Some(Value::Null),
        // Structs in Go.
        Shape::IntOrString => Some(Value::from(0)),
        Shape::Quantity => Some(Value::from("0")),
        _ if !field.required => None,
        Shape::String | Shape::Bytes => Some(Value::from("")),
        Shape::Int32 | Shape::Int64 | Shape::Double => Some(Value::from(0)),
        Shape::Bool => Some(Value::Bool(false)),
        Shape::List(_) | Shape::Map(_) | Shape::Any | Shape::Fields => Some(Value::Null),
    }
}
