//! Whether an applied configuration fits its type. Upstream says it in other words than when it decodes objects.

use super::place::{Kind, Place, element_of};
use crate::schema::Shape;
use serde_json::Value;
use std::collections::BTreeSet;

/// Everything wrong with `value`, in upstream's form; `None` when it fits.
pub(super) fn problems(place: Place<'_>, value: &Value) -> Option<String> {
    let mut found = Vec::new();
    check(place, value, "", &mut found);
    match found.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn check(place: Place<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut say = |what: String| {
        found.push(match path {
            "" => what,
            path => format!("{path}: {what}"),
        });
    };
    match (place.shape, value) {
        (_, Value::Null) | (Shape::Any | Shape::Fields, _) => {}
        (Shape::Object(_) | Shape::Map(_), Value::Object(_))
        | (Shape::List(_), Value::Array(_)) => {
            below(place, value, path, found);
        }
        (Shape::Object(_) | Shape::Map(_), other) => {
            say(format!("expected map, got {}", printed(other)))
        }
        (Shape::List(_), other) => say(format!("expected list, got {}", printed(other))),
        (Shape::Int32 | Shape::Int64 | Shape::Double, Value::Number(_))
        | (Shape::String | Shape::Bytes, Value::String(_))
        | (Shape::Bool, Value::Bool(_)) => {}
        (Shape::Int32 | Shape::Int64 | Shape::Double, other) => {
            say(format!(
                "expected numeric (int or float), got {}",
                go_type(other)
            ));
        }
        (Shape::String | Shape::Bytes, other) => {
            say(format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                go_syntax(other)
            ));
        }
        (Shape::Bool, other) => say(format!("expected boolean, got {}", printed(other))),
        (_, Value::Object(_) | Value::Array(_)) => {
            say(format!("expected any scalar, got {}", printed(value)))
        }
        _ => {}
    }
}

fn below(place: Place<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (place.shape, value) {
        (Shape::Object(id), Value::Object(map)) => {
            let ty = crate::schema::Schema::get().ty(*id);
            for (key, item) in map {
                match ty.field(key) {
                    Some(field) => {
                        check(Place::field(field), item, &format!("{path}.{key}"), found)
                    }
                    None => {
                        found.push(format!("{path}.{key}: field not declared in schema"));
                        return;
                    }
                }
            }
        }
        (Shape::Map(values), Value::Object(map)) => {
            for (key, item) in map {
                check(Place::of(values), item, &format!("{path}.{key}"), found);
            }
        }
        (Shape::List(_), Value::Array(items)) => list(place, items, path, found),
        _ => {}
    }
}

fn list(place: Place<'_>, items: &[Value], path: &str, found: &mut Vec<String>) {
    let Kind::List(element, keys) = place.kind() else {
        let Shape::List(element) = place.shape else {
            return;
        };
        for (i, item) in items.iter().enumerate() {
            check(Place::of(element), item, &format!("{path}[{i}]"), found);
        }
        return;
    };
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate() {
        let name = match element_of(element, keys, item) {
            Ok(name) => name,
            Err(why) => {
                found.push(format!("{path}: element {i}: {why}"));
                return;
            }
        };
        let below = format!("{path}{name}");
        if seen.contains(&name) {
            found.push(format!("{path}: duplicate entries for key {name}"));
        }
        seen.insert(name);
        check(element, item, &below, found);
    }
}

/// Go's `%T`.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Null => "<nil>",
    }
}

/// Go's `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::String(text) => crate::gotext::quote(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(k, v)| format!("{}:{}", crate::gotext::quote(k), go_syntax(v)));
            let pairs: Vec<String> = pairs.collect();
            format!("map[string]interface {{}}{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Go's `%v` of the wrapper values are held in.
fn printed(value: &Value) -> String {
    format!("&{{{}}}", plain(value))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", plain(v)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
