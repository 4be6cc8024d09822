//! JSON to protobuf.

use super::wire::Writer;
use super::{MAGIC, ProtobufError};
use crate::gvk::GroupVersion;
use crate::schema::{Field, Schema, Shape, TypeId};
use crate::time;
use base64::Engine as _;
use serde_json::{Map, Value};

type Written = Result<(), ProtobufError>;

/// Encodes a JSON object that says what it is into an enveloped body.
pub fn encode(value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    let unknown = || ProtobufError::Kind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    let gv = GroupVersion::parse(api_version).map_err(|_| unknown())?;
    let ty = Schema::get()
        .of(&gv.group, &gv.version, kind)
        .ok_or_else(unknown)?;
    let object = value.as_object().ok_or_else(unknown)?;
    let mut meta = Writer::default();
    meta.bytes(1, api_version.as_bytes());
    meta.bytes(2, kind.as_bytes());
    let mut raw = Writer::default();
    message(&mut raw, object, ty, &[])?;
    let mut out = Writer(MAGIC.to_vec());
    out.bytes(1, &meta.0);
    out.bytes(2, &raw.0);
    out.bytes(3, b"");
    out.bytes(4, b"");
    Ok(out.0)
}

fn bad(field: &str) -> ProtobufError {
    ProtobufError::Value(field.to_owned())
}

/// Writes the fields whose numbers begin with `prefix`, in order of their numbers.
fn message(out: &mut Writer, object: &Map<String, Value>, ty: TypeId, prefix: &[u32]) -> Written {
    let present = |f: &&Field| {
        f.tag.len() > prefix.len() && f.tag.starts_with(prefix) && object.contains_key(f.name)
    };
    let mut fields: Vec<&Field> = Schema::get().ty(ty).fields.iter().filter(present).collect();
    fields.sort_by_key(|f| &f.tag);
    let level = prefix.len();
    let mut inlined = None;
    for field in fields {
        let number = field.tag[level];
        if field.tag.len() == level + 1 {
            if let Some(value) = object.get(field.name) {
                write(out, number, field.name, &field.shape, value)?;
            }
        } else if inlined != Some(number) {
            inlined = Some(number);
            let mut inner = Writer::default();
            message(&mut inner, object, ty, &field.tag[..=level])?;
            out.bytes(number, &inner.0);
        }
    }
    Ok(())
}

fn write(out: &mut Writer, number: u32, name: &str, shape: &Shape, value: &Value) -> Written {
    match (shape, value) {
        (_, Value::Null) => {}
        (Shape::List(element), Value::Array(list)) => {
            for item in list {
                write(out, number, name, element, item)?;
            }
        }
        (Shape::Map(values), Value::Object(map)) => {
            for (key, value) in map {
                let mut entry = Writer::default();
                entry.bytes(1, key.as_bytes());
                match &**values {
                    Shape::List(_) => {
                        let mut items = Writer::default();
                        write(&mut items, 1, name, values, value)?;
                        entry.bytes(2, &items.0);
                    }
                    values => write(&mut entry, 2, name, values, value)?,
                }
                out.bytes(number, &entry.0);
            }
        }
        (Shape::Object(ty), Value::Object(object)) => {
            let mut inner = Writer::default();
            message(&mut inner, object, *ty, &[])?;
            out.bytes(number, &inner.0);
        }
        _ => return scalar(out, number, name, shape, value),
    }
    Ok(())
}

fn scalar(out: &mut Writer, number: u32, name: &str, shape: &Shape, value: &Value) -> Written {
    let text = || value.as_str().ok_or_else(|| bad(name));
    let mut inner = Writer::default();
    match shape {
        Shape::String => {
            out.bytes(number, text()?.as_bytes());
            return Ok(());
        }
        Shape::Bytes => {
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(text()?)
                .map_err(|_| bad(name))?;
            out.bytes(number, &decoded);
            return Ok(());
        }
        Shape::Int32 | Shape::Int64 => {
            out.number(number, value.as_i64().ok_or_else(|| bad(name))? as u64);
            return Ok(());
        }
        Shape::Bool => {
            out.number(number, u64::from(value.as_bool().ok_or_else(|| bad(name))?));
            return Ok(());
        }
        Shape::Double => {
            out.double(number, value.as_f64().ok_or_else(|| bad(name))?);
            return Ok(());
        }
        Shape::Time | Shape::MicroTime => {
            let time = time::parse(text()?).ok_or_else(|| bad(name))?;
            inner.number(1, time.as_second() as u64);
            inner.number(2, i64::from(time.subsec_nanosecond()) as u64);
        }
        Shape::Quantity => match value {
            Value::String(text) => inner.bytes(1, text.as_bytes()),
            other => inner.bytes(1, other.to_string().as_bytes()),
        },
        Shape::IntOrString => int_or_string(&mut inner, name, value)?,
        Shape::Any | Shape::Fields => inner.bytes(1, value.to_string().as_bytes()),
        Shape::Object(_) | Shape::List(_) | Shape::Map(_) => return Err(bad(name)),
    }
    out.bytes(number, &inner.0);
    Ok(())
}

fn int_or_string(inner: &mut Writer, name: &str, value: &Value) -> Written {
    let (is_text, number, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        Value::Number(n) => (0, n.as_i64().ok_or_else(|| bad(name))?, ""),
        _ => return Err(bad(name)),
    };
    inner.number(1, is_text);
    inner.number(2, number as u64);
    inner.bytes(3, text.as_bytes());
    Ok(())
}
