//! Protobuf to JSON.

use super::wire::{Content, Reader};
use super::{MAGIC, ProtobufError};
use crate::gvk::{GroupVersion, GroupVersionKind};
use crate::quantity::Quantity;
use crate::schema::{Field, Schema, Shape, TypeId};
use crate::time;
use base64::Engine as _;
use serde_json::{Map, Value};

type Read<T> = Result<T, ProtobufError>;

/// Envelopes within raw extensions.
const DEEPEST: usize = 4;

/// Decodes an enveloped body into a JSON object with `apiVersion` and `kind`. When the envelope names none, it is an `expected`.
///
/// Zero values of fields that are not pointers in Go count as absent: Go writes them whether they were set or not.
pub fn decode(body: &[u8], expected: Option<&GroupVersionKind>) -> Read<(GroupVersionKind, Value)> {
    envelope(body, expected, 0)
}

fn envelope(
    body: &[u8],
    expected: Option<&GroupVersionKind>,
    depth: usize,
) -> Read<(GroupVersionKind, Value)> {
    if depth > DEEPEST {
        return Err(ProtobufError::Depth);
    }
    let mut reader = Reader(body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?);
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => {
                let mut meta = Reader(content.bytes("typeMeta")?);
                while let Some((number, content)) = meta.field()? {
                    match number {
                        1 => content.text("apiVersion")?.clone_into(&mut api_version),
                        2 => content.text("kind")?.clone_into(&mut kind),
                        _ => {}
                    }
                }
            }
            2 => raw = content.bytes("raw")?,
            _ => {}
        }
    }
    let gvk = match expected {
        Some(expected) if api_version.is_empty() && kind.is_empty() => expected.clone(),
        _ => {
            let unknown = || ProtobufError::Kind {
                api_version: api_version.clone(),
                kind: kind.clone(),
            };
            GroupVersion::parse(&api_version)
                .map_err(|_| unknown())?
                .kind(&kind)
        }
    };
    let ty = Schema::get()
        .kind(&gvk)
        .ok_or(ProtobufError::Kind { api_version, kind })?;
    let mut object = Map::new();
    message(raw, ty, &[], &mut object, depth)?;
    object.insert(
        "apiVersion".to_owned(),
        gvk.group_version().to_string().into(),
    );
    object.insert("kind".to_owned(), gvk.kind.clone().into());
    Ok((gvk, Value::Object(object)))
}

/// Reads a message whose fields begin with the numbers `prefix` into an object; inlined structs add to the same object.
fn message(
    bytes: &[u8],
    ty: TypeId,
    prefix: &[u32],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Read<()> {
    let fields = &Schema::get().ty(ty).fields;
    let mut reader = Reader(bytes);
    let mut path = prefix.to_vec();
    while let Some((number, content)) = reader.field()? {
        path.truncate(prefix.len());
        path.push(number);
        if let Some(field) = fields.iter().find(|f| f.tag == path) {
            read_field(field, content, object, depth)?;
        } else if fields.iter().any(|f| f.tag.starts_with(&path)) {
            message(content.bytes("inlined")?, ty, &path, object, depth)?;
        }
    }
    Ok(())
}

fn read_field(
    field: &Field,
    content: Content<'_>,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Read<()> {
    match &field.shape {
        Shape::List(element) => {
            let list = object
                .entry(field.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                elements(element, content, field.name, list, depth)?;
            }
        }
        Shape::Map(shape) => {
            let (key, value) = entry(shape, content, field.name, depth)?;
            let map = object
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
        }
        shape => {
            let value = single(shape, content, field.name, depth)?;
            let unset = !field.pointer && is_zero(&value) && !(field.required && value.is_object());
            if !value.is_null() && !unset {
                object.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn elements(
    shape: &Shape,
    content: Content<'_>,
    name: &str,
    list: &mut Vec<Value>,
    depth: usize,
) -> Read<()> {
    // Numbers may come packed.
    if let (Shape::Int32 | Shape::Int64 | Shape::Bool, Content::Bytes(packed)) = (shape, content) {
        let mut reader = Reader(packed);
        while !reader.0.is_empty() {
            let number = Content::Varint(reader.varint()?);
            list.push(single(shape, number, name, depth)?);
        }
        return Ok(());
    }
    list.push(single(shape, content, name, depth)?);
    Ok(())
}

fn entry(shape: &Shape, content: Content<'_>, name: &str, depth: usize) -> Read<(String, Value)> {
    let mut key = String::new();
    let mut value = None;
    let mut reader = Reader(content.bytes(name)?);
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => content.text(name)?.clone_into(&mut key),
            2 => value = Some(single(shape, content, name, depth)?),
            _ => {}
        }
    }
    let zero = match shape {
        Shape::Object(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Quantity => Value::from("0"),
        _ => Value::from(""),
    };
    Ok((key, value.unwrap_or(zero)))
}

/// One value; `Null` for a time that is not set.
fn single(shape: &Shape, content: Content<'_>, name: &str, depth: usize) -> Read<Value> {
    Ok(match shape {
        Shape::String => content.text(name)?.into(),
        Shape::Int32 => (content.varint(name)? as i64 as i32).into(),
        Shape::Int64 => (content.varint(name)? as i64).into(),
        Shape::Double => content.double(name)?.into(),
        Shape::Bool => (content.varint(name)? != 0).into(),
        Shape::Bytes => base64::engine::general_purpose::STANDARD
            .encode(content.bytes(name)?)
            .into(),
        Shape::Time | Shape::MicroTime => timestamp(shape, content.bytes(name)?, name)?,
        Shape::Quantity => quantity(content.bytes(name)?, name)?,
        Shape::IntOrString => int_or_string(content.bytes(name)?, name)?,
        Shape::Any | Shape::Fields => raw(content.bytes(name)?, name, depth)?,
        Shape::Object(ty) => {
            let mut object = Map::new();
            message(content.bytes(name)?, *ty, &[], &mut object, depth)?;
            Value::Object(object)
        }
        // A list as a map's value is a message of its own with the items as field 1.
        Shape::List(element) => {
            let mut list = Vec::new();
            let mut reader = Reader(content.bytes(name)?);
            while let Some((_, content)) = reader.field()? {
                elements(element, content, name, &mut list, depth)?;
            }
            Value::Array(list)
        }
        Shape::Map(_) => return Err(ProtobufError::Value(name.to_owned())),
    })
}

fn timestamp(shape: &Shape, bytes: &[u8], name: &str) -> Read<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader(bytes);
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => seconds = content.varint(name)? as i64,
            2 => nanos = content.varint(name)? as i64 as i32,
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(Value::Null);
    }
    let time =
        jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Value(name.to_owned()))?;
    Ok(if *shape == Shape::MicroTime {
        time::format_micro(time)
    } else {
        time::format(time)
    }
    .into())
}

fn quantity(bytes: &[u8], name: &str) -> Read<Value> {
    let mut text = "0";
    let mut reader = Reader(bytes);
    while let Some((number, content)) = reader.field()? {
        if number == 1 {
            text = content.text(name)?;
        }
    }
    if text.is_empty() {
        text = "0";
    }
    let quantity: Quantity = text
        .parse()
        .map_err(|_| ProtobufError::Value(name.to_owned()))?;
    Ok(quantity.to_string().into())
}

fn int_or_string(bytes: &[u8], name: &str) -> Read<Value> {
    let (mut is_text, mut number_value, mut text) = (false, 0i32, String::new());
    let mut reader = Reader(bytes);
    while let Some((number, content)) = reader.field()? {
        match number {
            1 => is_text = content.varint(name)? != 0,
            2 => number_value = content.varint(name)? as i64 as i32,
            3 => content.text(name)?.clone_into(&mut text),
            _ => {}
        }
    }
    Ok(if is_text {
        text.into()
    } else {
        number_value.into()
    })
}

/// JSON, or another envelope, in a message's field 1.
fn raw(bytes: &[u8], name: &str, depth: usize) -> Read<Value> {
    let mut content = &[][..];
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        if number == 1 {
            content = field.bytes(name)?;
        }
    }
    if content.is_empty() {
        return Ok(Value::Null);
    }
    if content.starts_with(MAGIC) {
        return Ok(envelope(content, None, depth + 1)?.1);
    }
    serde_json::from_slice(content).map_err(|_| ProtobufError::Value(name.to_owned()))
}
