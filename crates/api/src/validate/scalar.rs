//! Scalars: their types, and the canonical forms of those that have one.

use super::decode::Place;
use crate::quantity::{ParseError, Quantity};
use crate::schema::Shape;
use crate::time;
use base64::Engine as _;
use serde_json::{Number, Value};

/// The error of an array or object where a type with its own JSON form was wanted.
pub(super) fn composite(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Quantity => Some(ParseError::Format.to_string()),
        _ => None,
    }
}

/// Reads a boolean, number or string as a shape; the error is the text upstream sends.
pub(super) fn read(shape: &Shape, value: Value, place: &Place) -> Result<Value, String> {
    match (shape, &value) {
        (Shape::Any | Shape::Fields, _)
        | (Shape::String, Value::String(_))
        | (Shape::Bool, Value::Bool(_)) => Ok(value),
        (Shape::Double, Value::Number(_)) => Ok(value),
        (Shape::Int32 | Shape::Int64, Value::Number(number)) => {
            integer(shape, number, place).map(|()| value)
        }
        (Shape::Quantity, _) => match Quantity::from_json(&value) {
            Ok(quantity) => Ok(quantity.to_string().into()),
            Err(error) => Err(error.to_string()),
        },
        (Shape::Bytes, Value::String(text)) => base64(text).map(|()| value),
        (Shape::IntOrString, Value::Number(number)) => {
            integer(&Shape::Int32, number, place).map(|()| value)
        }
        (Shape::IntOrString, Value::String(_)) => Ok(value),
        (Shape::Time, Value::String(text)) => time::read(text).map(|t| time::format(t).into()),
        (Shape::MicroTime, Value::String(text)) => {
            time::read(text).map(|t| time::format_micro(t).into())
        }
        _ => Err(place.mismatch(name(&value), shape)),
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Null => "null",
    }
}

fn literal(number: &Number) -> String {
    number.to_string()
}

fn integer(shape: &Shape, number: &Number, place: &Place) -> Result<(), String> {
    let fits = match shape {
        Shape::Int32 => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        _ => number.as_i64().is_some(),
    };
    if fits {
        Ok(())
    } else {
        Err(place.mismatch(&format!("number {}", literal(number)), shape))
    }
}

fn base64(text: &str) -> Result<(), String> {
    let engine = base64::engine::general_purpose::STANDARD;
    // Go skips line breaks inside.
    let packed: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match engine.decode(&packed) {
        Ok(_) => Ok(()),
        Err(
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _),
        ) => Err(format!("illegal base64 data at input byte {at}")),
        Err(_) => Err(format!(
            "illegal base64 data at input byte {}",
            packed.len() / 4 * 4
        )),
    }
}
