//! The pass over a body: a serde seed that knows the shape it expects.

use super::{Problem, scalar};
use crate::schema::{Field, Schema, Shape, TypeId};
use crate::yaml;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// Upstream reports no more.
const MOST_PROBLEMS: usize = 100;

/// A body that fits its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Without unknown and null fields, and without those whose zero Go's encoder leaves out.
    pub value: Value,
    /// What was dropped, in the order met; at most 100, without repeats.
    pub problems: Vec<Problem>,
}

/// Why a body does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type or form; the first one met.
    #[error("{0}")]
    Value(String),
}

/// Decodes JSON text as an object of a type.
pub fn decode_slice(body: &[u8], ty: TypeId) -> Result<Decoded, TypeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let syntax = |e: serde_json::Error| TypeError::Syntax(syntax_error(&e, body));
    let decoded = decode(&mut deserializer, ty, syntax)?;
    deserializer.end().map_err(syntax)?;
    Ok(decoded)
}

/// Decodes a value, such as one from YAML or the result of a patch, as an object of a type.
pub fn decode_value(value: &Value, ty: TypeId) -> Result<Decoded, TypeError> {
    decode(value, ty, |e| TypeError::Syntax(e.to_string()))
}

/// Decodes YAML text, which JSON is too, as an object of a type.
pub fn decode_yaml(body: &[u8], ty: TypeId) -> Result<Decoded, TypeError> {
    if body.trim_ascii_start().first() == Some(&b'{')
        && let Ok(decoded) = decode_slice(body, ty)
    {
        return Ok(decoded);
    }
    let document = yaml::read(body).map_err(|e| TypeError::Syntax(e.to_string()))?;
    let mut decoded = decode_value(&document.value, ty)?;
    let duplicate = document.duplicate.map(Problem::Yaml);
    decoded.problems.splice(..0, duplicate);
    Ok(decoded)
}

/// Go's words for text that is not JSON.
pub(crate) fn syntax_error(error: &serde_json::Error, body: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let line = body
        .split(|b| *b == b'\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let at = String::from_utf8_lossy(
        line.get(error.column().saturating_sub(1)..)
            .unwrap_or_default(),
    );
    let character = at.chars().next().unwrap_or('\n');
    let place = match error.to_string().starts_with("trailing characters") {
        true => "after top-level value",
        false => "looking for beginning of value",
    };
    format!("invalid character {character:?} {place}")
}

fn decode<'de, D: Deserializer<'de>>(
    deserializer: D,
    ty: TypeId,
    syntax: impl Fn(D::Error) -> TypeError,
) -> Result<Decoded, TypeError> {
    let context = Context::default();
    let place = Place {
        struct_name: None,
        fields: String::new(),
        path: String::new(),
        go: None,
    };
    let shape = Shape::Object(ty);
    let value = Seed {
        shape: &shape,
        place: &place,
        context: &context,
    }
    .deserialize(deserializer)
    .map_err(syntax)?;
    let state = context.0.into_inner();
    match state.error {
        Some(error) => Err(TypeError::Value(error)),
        None => Ok(Decoded {
            // Null leaves Go's object empty.
            value: or_zero(value, &shape),
            problems: state.problems,
        }),
    }
}

#[derive(Default)]
struct State {
    problems: Vec<Problem>,
    error: Option<String>,
}

#[derive(Default)]
pub(super) struct Context(RefCell<State>);

impl Context {
    fn report(&self, problem: Problem) {
        let mut state = self.0.borrow_mut();
        if state.problems.len() < MOST_PROBLEMS && !state.problems.contains(&problem) {
            state.problems.push(problem);
        }
    }

    /// The first error stands, as Go's decoder keeps it.
    pub(super) fn fail(&self, error: impl FnOnce() -> String) {
        self.0.borrow_mut().error.get_or_insert_with(error);
    }
}

/// Where in the body we are, as the two kinds of message name it.
pub(super) struct Place {
    /// The innermost struct.
    struct_name: Option<&'static str>,
    /// Field names without indices and keys, for type errors.
    fields: String,
    /// The full path, for unknown fields.
    path: String,
    /// The Go name of the field's type where it is not that of its shape.
    go: Option<&'static str>,
}

impl Place {
    fn field(&self, owner: &'static str, field: &Field) -> Self {
        let fields = match field.inlined {
            Some(inlined) => join(&join(&self.fields, inlined), field.name),
            None => join(&self.fields, field.name),
        };
        Self {
            struct_name: Some(owner),
            fields,
            path: join(&self.path, field.name),
            go: field.go,
        }
    }

    fn element(&self, path: String) -> Self {
        let go = self.go.and_then(|name| name.strip_prefix("[]"));
        Self {
            struct_name: self.struct_name,
            fields: self.fields.clone(),
            path,
            go,
        }
    }

    /// `json: cannot unmarshal bool into Go struct field Container.spec.containers.image of type string`
    pub(super) fn mismatch(&self, found: &str, shape: &Shape) -> String {
        let wanted = self.go.map_or_else(|| go_name(shape), str::to_owned);
        match self.struct_name {
            Some(name) => format!(
                "json: cannot unmarshal {found} into Go struct field {name}.{} of type {wanted}",
                self.fields
            ),
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

fn go_name(shape: &Shape) -> String {
    match shape {
        Shape::String => "string".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Double => "float64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        // What their own decoders hand on to.
        Shape::Time | Shape::MicroTime => "string".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::IntOrString => "int32".to_owned(),
        Shape::Any => "runtime.RawExtension".to_owned(),
        Shape::Fields => "v1.FieldsV1".to_owned(),
        Shape::Object(id) => format!("v1.{}", Schema::get().ty(*id).local_name()),
        Shape::List(element) => format!("[]{}", go_name(element)),
        Shape::Map(value) => format!("map[string]{}", go_name(value)),
    }
}

struct Seed<'a> {
    shape: &'a Shape,
    place: &'a Place,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.shape {
            Shape::Any | Shape::Fields => serde::Deserialize::deserialize(deserializer),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Seed<'_> {
    fn mismatch<E>(&self, found: &str) -> Result<Value, E> {
        self.context.fail(|| self.place.mismatch(found, self.shape));
        Ok(Value::Null)
    }

    fn scalar<E>(&self, value: Value) -> Result<Value, E> {
        match scalar::read(self.shape, value, self.place) {
            Ok(value) => Ok(value),
            Err(error) => {
                self.context.fail(|| error);
                Ok(Value::Null)
            }
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        self.scalar(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        self.scalar(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        self.scalar(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        self.scalar(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        self.scalar(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Shape::List(element) = self.shape else {
            while access.next_element::<IgnoredAny>()?.is_some() {}
            return match scalar::composite(self.shape) {
                Some(error) => {
                    self.context.fail(|| error.to_owned());
                    Ok(Value::Null)
                }
                None => self.mismatch("array"),
            };
        };
        let mut list = Vec::new();
        loop {
            let place = self
                .place
                .element(format!("{}[{}]", self.place.path, list.len()));
            match access.next_element_seed(Seed {
                shape: element,
                place: &place,
                context: self.context,
            })? {
                Some(value) => list.push(or_zero(value, element)),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        match self.shape {
            Shape::Object(id) => self.object(*id, access),
            Shape::Map(value) => self.map(value, access),
            shape => {
                drain(access)?;
                match scalar::composite(shape) {
                    Some(error) => {
                        self.context.fail(|| error.to_owned());
                        Ok(Value::Null)
                    }
                    None => self.mismatch("object"),
                }
            }
        }
    }
}

fn drain<'de, A: MapAccess<'de>>(mut access: A) -> Result<(), A::Error> {
    while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// In lists and maps null is the zero value, as in Go.
fn or_zero(value: Value, shape: &Shape) -> Value {
    if !value.is_null() {
        return value;
    }
    match shape {
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::from(0),
        Shape::Bool => Value::Bool(false),
        Shape::Quantity => Value::from("0"),
        Shape::Object(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

impl Seed<'_> {
    fn object<'de, A: MapAccess<'de>>(&self, id: TypeId, mut access: A) -> Result<Value, A::Error> {
        let ty = Schema::get().ty(id);
        let mut object = Map::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = access.next_key::<String>()? {
            let Some(field) = ty.field(&key) else {
                access.next_value::<IgnoredAny>()?;
                self.context
                    .report(Problem::Unknown(join(&self.place.path, &key)));
                continue;
            };
            let Field { name, shape, .. } = field;
            let place = self.place.field(ty.local_name(), field);
            if !seen.insert(*name) {
                self.context.report(Problem::Duplicate(place.path.clone()));
            }
            let value = access.next_value_seed(Seed {
                shape,
                place: &place,
                context: self.context,
            })?;
            // An empty list of managers is a wish to forget them.
            let is_left_out = field.leaves_out(&value) && *name != "managedFields";
            if value.is_null() || is_left_out {
                object.remove(*name);
            } else {
                object.insert((*name).to_owned(), value);
            }
        }
        Ok(Value::Object(object))
    }

    fn map<'de, A: MapAccess<'de>>(&self, shape: &Shape, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let place = Place {
                go: None,
                ..self.place.element(format!("{}.{key}", self.place.path))
            };
            let value = access.next_value_seed(Seed {
                shape,
                place: &place,
                context: self.context,
            })?;
            if map.insert(key, or_zero(value, shape)).is_some() {
                self.context.report(Problem::Duplicate(place.path));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests;
