//! An OpenAPI v2 document as the protobuf message `openapi.v2.Document` of google/gnostic, the only form client-go reads: the part of
//! the message that [`super::document_v2`] uses.

use crate::protobuf::wire::Writer;
use serde_json::{Map, Value};

/// The document as a protobuf message.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    text(&mut out, 1, &document["swagger"]);
    let mut info = Writer::default();
    text(&mut info, 1, &document["info"]["title"]);
    text(&mut info, 2, &document["info"]["version"]);
    out.bytes(2, &info.0);
    let mut paths = Writer::default();
    for (path, item) in members(&document["paths"]) {
        named(&mut paths, 2, path, |out| path_item(out, item));
    }
    out.bytes(8, &paths.0);
    let mut definitions = Writer::default();
    for (name, definition) in members(&document["definitions"]) {
        named(&mut definitions, 1, name, |out| schema(out, definition));
    }
    out.bytes(9, &definitions.0);
    out.0
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(out: &mut Writer, number: u32, value: &Value) {
    if let Some(value) = value.as_str() {
        out.bytes(number, value.as_bytes());
    }
}

fn flag(out: &mut Writer, number: u32, value: &Value) {
    if value.as_bool() == Some(true) {
        out.number(number, 1);
    }
}

/// A message inside the message.
fn inner(out: &mut Writer, number: u32, write: impl FnOnce(&mut Writer)) {
    let mut message = Writer::default();
    write(&mut message);
    out.bytes(number, &message.0);
}

/// An entry of what was a map: name and value.
fn named(out: &mut Writer, number: u32, name: &str, write: impl FnOnce(&mut Writer)) {
    inner(out, number, |out| {
        out.bytes(1, name.as_bytes());
        inner(out, 2, write);
    });
}

/// `Any`: YAML, of which JSON is a part.
fn any(out: &mut Writer, value: &Value) {
    out.bytes(2, value.to_string().as_bytes());
}

fn extensions(out: &mut Writer, number: u32, object: &Value) {
    for (name, value) in members(object).filter(|(name, _)| name.starts_with("x-")) {
        named(out, number, name, |out| any(out, value));
    }
}

fn path_item(out: &mut Writer, item: &Value) {
    for (number, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (8, "patch"),
    ] {
        if let Some(value) = item.get(method) {
            inner(out, number, |out| operation(out, value));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Writer, operation: &Value) {
    for (number, list) in [(6, "produces"), (7, "consumes")] {
        for media_type in elements(&operation[list]) {
            text(out, number, media_type);
        }
    }
    parameters(out, 8, &operation["parameters"]);
    inner(out, 9, |out| {
        for (code, response) in members(&operation["responses"]) {
            // NamedResponseValue, whose value is one of two messages.
            named(out, 1, code, |out| {
                inner(out, 1, |out| {
                    text(out, 1, &response["description"]);
                    if let Some(value) = response.get("schema") {
                        inner(out, 2, |out| inner(out, 1, |out| schema(out, value)));
                    }
                });
            });
        }
    });
    extensions(out, 13, operation);
}

/// Parameters are three messages deep: an item is a parameter, that one is in the body or not, and that one in the query or the path.
fn parameters(out: &mut Writer, number: u32, list: &Value) {
    for parameter in elements(list) {
        inner(out, number, |out| {
            inner(out, 1, |out| match parameter["in"].as_str() {
                Some("body") => inner(out, 1, |out| body(out, parameter)),
                Some("path") => inner(out, 2, |out| inner(out, 4, |out| in_path(out, parameter))),
                _ => inner(out, 2, |out| inner(out, 3, |out| in_query(out, parameter))),
            });
        });
    }
}

fn body(out: &mut Writer, parameter: &Value) {
    text(out, 2, &parameter["name"]);
    text(out, 3, &parameter["in"]);
    flag(out, 4, &parameter["required"]);
    inner(out, 5, |out| schema(out, &parameter["schema"]));
}

fn in_path(out: &mut Writer, parameter: &Value) {
    flag(out, 1, &parameter["required"]);
    text(out, 2, &parameter["in"]);
    text(out, 4, &parameter["name"]);
    text(out, 5, &parameter["type"]);
    flag(out, 19, &parameter["uniqueItems"]);
}

fn in_query(out: &mut Writer, parameter: &Value) {
    flag(out, 1, &parameter["required"]);
    text(out, 2, &parameter["in"]);
    text(out, 4, &parameter["name"]);
    text(out, 6, &parameter["type"]);
    flag(out, 20, &parameter["uniqueItems"]);
}

fn schema(out: &mut Writer, value: &Value) {
    text(out, 1, &value["$ref"]);
    text(out, 2, &value["format"]);
    text(out, 4, &value["description"]);
    if let Some(default) = value.get("default") {
        inner(out, 5, |out| any(out, default));
    }
    for field in elements(&value["required"]) {
        text(out, 19, field);
    }
    if let Some(values) = value.get("additionalProperties") {
        inner(out, 21, |out| inner(out, 1, |out| schema(out, values)));
    }
    if let Some(ty) = value.get("type") {
        inner(out, 22, |out| text(out, 1, ty));
    }
    if let Some(element) = value.get("items") {
        inner(out, 23, |out| inner(out, 1, |out| schema(out, element)));
    }
    if let Some(properties) = value.get("properties") {
        inner(out, 25, |out| {
            for (name, property) in members(properties) {
                named(out, 1, name, |out| schema(out, property));
            }
        });
    }
    extensions(out, 31, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::wire::{Content, Reader};
    use serde_json::json;

    /// The messages at a path of field numbers.
    fn at<'a>(message: &'a [u8], path: &[u32]) -> Vec<&'a [u8]> {
        let Some((number, rest)) = path.split_first() else {
            return vec![message];
        };
        let mut reader = Reader(message);
        let mut out = Vec::new();
        while let Some((found, content)) = reader.field().unwrap() {
            if let (true, Content::Bytes(bytes)) = (found == *number, content) {
                out.extend(at(bytes, rest));
            }
        }
        out
    }

    #[test]
    fn fields_are_where_gnostic_has_them() {
        let bytes = encode(&json!({
            "swagger": "2.0",
            "info": {"title": "t", "version": "v"},
            "paths": {"/p": {"patch": {
                "consumes": ["a/b"],
                "parameters": [{"name": "q", "in": "query", "type": "string"}, {"name": "n", "in": "path", "type": "string"},
                    {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/D"}}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/D"}}},
                "x-kubernetes-action": "patch",
            }}},
            "definitions": {"D": {"type": "object", "required": ["f"], "properties": {
                "f": {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"},
                "m": {"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}},
            }}},
        }));
        let operation = [8, 2, 2, 8];
        let definition = [9, 1, 2];
        let property = [9, 1, 2, 25, 1, 2];
        let under = |prefix: &[u32], path: &[u32]| [prefix, path].concat();
        for (path, want) in [
            (vec![1], vec!["2.0"]),
            (vec![2, 1], vec!["t"]),
            (vec![8, 2, 1], vec!["/p"]),
            (under(&operation, &[7]), vec!["a/b"]),
            (under(&operation, &[8, 1, 2, 3, 4]), vec!["q"]),
            (under(&operation, &[8, 1, 2, 4, 4]), vec!["n"]),
            (under(&operation, &[8, 1, 1, 5, 1]), vec!["#/definitions/D"]),
            (
                under(&operation, &[9, 1, 2, 1, 2, 1, 1]),
                vec!["#/definitions/D"],
            ),
            (under(&operation, &[13, 2, 2]), vec!["\"patch\""]),
            (vec![9, 1, 1], vec!["D"]),
            (under(&definition, &[22, 1]), vec!["object"]),
            (under(&definition, &[19]), vec!["f"]),
            (under(&definition, &[25, 1, 1]), vec!["f", "m"]),
            (under(&property, &[23, 1, 22, 1]), vec!["string"]),
            (
                under(&property, &[31, 1]),
                vec!["x-kubernetes-patch-strategy"],
            ),
            (under(&property, &[21, 1, 2]), vec!["int32"]),
        ] {
            let found: Vec<String> = at(&bytes, &path)
                .into_iter()
                .map(|b| String::from_utf8(b.to_vec()).unwrap())
                .collect();
            assert_eq!(found, want, "{path:?}");
        }
    }
}
