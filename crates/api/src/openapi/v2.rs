//! The one OpenAPI v2 document (spec kubectl-and-api §4.3): the version 3 documents in the older words.

use super::{INT_OR_STRING, QUANTITY, document as document_v3};
use crate::resource::group_versions;
use serde_json::{Map, Value, json};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// The document with every group version served.
pub fn document() -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for (group, version) in group_versions() {
        let Some(mut v3) = document_v3(group, version) else {
            continue;
        };
        for (path, item) in taken(&mut v3["paths"]) {
            paths.insert(path, path_item(item));
        }
        for (name, definition) in taken(&mut v3["components"]["schemas"]) {
            let definition = match name.as_str() {
                QUANTITY => json!({"type": "string"}),
                INT_OR_STRING => json!({"type": "string", "format": "int-or-string"}),
                _ => schema(definition),
            };
            definitions.insert(name, definition);
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36"},
        "paths": paths,
        "definitions": definitions,
    })
}

/// The members of an object; none of anything else.
fn taken(value: &mut Value) -> Map<String, Value> {
    value
        .as_object_mut()
        .map(std::mem::take)
        .unwrap_or_default()
}

fn path_item(mut item: Value) -> Value {
    let mut out = Map::new();
    for (key, value) in taken(&mut item) {
        let value = match key.as_str() {
            "parameters" => parameters(value).into(),
            method if METHODS.contains(&method) => operation(value),
            _ => value,
        };
        out.insert(key, value);
    }
    out.into()
}

fn operation(mut v3: Value) -> Value {
    let mut out = Map::new();
    let mut all = parameters(v3["parameters"].take());
    let mut request = v3["requestBody"].take();
    let content = taken(&mut request["content"]);
    if !content.is_empty() {
        let consumes: Vec<&String> = content.keys().collect();
        out.insert("consumes".into(), json!(consumes));
        let body = content
            .into_iter()
            .next()
            .map(|(_, mut c)| c["schema"].take());
        all.push(
            json!({"name": "body", "in": "body", "required": true, "schema": body.map(schema)}),
        );
    }
    out.insert("parameters".into(), all.into());
    let mut responses = Map::new();
    for (code, mut v3) in taken(&mut v3["responses"]) {
        let mut response = json!({"description": v3["description"].take()});
        for (media_type, mut content) in taken(&mut v3["content"]) {
            out.insert("produces".into(), json!([media_type]));
            response["schema"] = schema(content["schema"].take());
        }
        responses.insert(code, response);
    }
    out.insert("responses".into(), responses.into());
    out.extend(
        taken(&mut v3)
            .into_iter()
            .filter(|(key, _)| key.starts_with("x-")),
    );
    out.into()
}

/// Parameters carry their type themselves.
fn parameters(mut v3: Value) -> Vec<Value> {
    let list = v3.as_array_mut().map(std::mem::take).unwrap_or_default();
    let flat = |mut parameter: Value| {
        let mut shape = parameter["schema"].take();
        let mut out = taken(&mut parameter);
        out.remove("schema");
        out.extend(taken(&mut shape));
        out.into()
    };
    list.into_iter().map(flat).collect()
}

fn schema(mut v3: Value) -> Value {
    let mut out = Map::new();
    for (key, mut value) in taken(&mut v3) {
        match key.as_str() {
            // Here extensions may stand beside a reference.
            "allOf" => {
                let first = value.as_array_mut().and_then(|list| list.pop());
                out.extend(taken(&mut schema(first.unwrap_or_default())));
            }
            "$ref" => {
                let name = value.as_str().and_then(|r| r.rsplit('/').next());
                let reference = format!("#/definitions/{}", name.unwrap_or_default());
                out.insert(key, reference.into());
            }
            "items" | "additionalProperties" => {
                out.insert(key, schema(value));
            }
            "properties" => {
                let properties = taken(&mut value).into_iter();
                let properties: Map<_, _> = properties.map(|(k, v)| (k, schema(v))).collect();
                out.insert(key, properties.into());
            }
            _ => {
                out.insert(key, value);
            }
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_resolves() {
        let document = document();
        let definitions = document["definitions"].as_object().unwrap();
        let text = document.to_string();
        assert!(
            !text.contains("#/components/") && !text.contains("allOf") && !text.contains("oneOf")
        );
        for reference in text.split("#/definitions/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(definitions.contains_key(name), "{name}");
        }
    }

    #[test]
    fn says_what_version_3_says() {
        let document = document();
        let pod = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(pod["x-kubernetes-group-version-kind"]["kind"], "Pod");
        let parameters = pod["parameters"].as_array().unwrap();
        let named = |name: &str| parameters.iter().find(|p| p["name"] == name);
        assert_eq!(
            named("fieldValidation"),
            Some(
                &json!({"name": "fieldValidation", "in": "query", "type": "string", "uniqueItems": true})
            )
        );
        assert_eq!(named("body").unwrap()["in"], "body");
        let consumes = pod["consumes"].as_array().unwrap();
        assert!(consumes.contains(&json!("application/strategic-merge-patch+json")));
        let spec = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"];
        assert_eq!(
            spec["containers"]["items"],
            json!({"$ref": "#/definitions/io.k8s.api.core.v1.Container"})
        );
        assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    }
}
