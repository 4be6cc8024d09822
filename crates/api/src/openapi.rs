//! OpenAPI documents (spec kubectl-and-api §4), generated from registry and schema: version 3, what `kubectl apply`, `create -f` and
//! `explain` need, and version 2 for what they do not find there. They are large; build them on request and let the caller decide
//! whether to keep them.

mod gnostic;
mod paths;
mod v2;

pub use gnostic::encode as encode_v2;
pub use v2::document as document_v2;

use crate::gvk::GroupVersion;
use crate::resource::{RESOURCES, Resource, group_versions};
use crate::schema::{Field, ListType, Schema, Shape, Type, TypeId};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// `api/v1` or `apis/apps/v1`.
fn path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// The root document: a URL per group version, with a hash that changes when the document may.
pub fn root() -> Value {
    let hash = content_hash();
    let is_described = |(group, version): &(&str, &str)| described(group, version).next().is_some();
    let paths: Map<String, Value> = group_versions()
        .into_iter()
        .filter(is_described)
        .map(|(group, version)| {
            let path = path(group, version);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The hash in the root's URLs; a request that carries it may be cached for ever.
pub fn content_hash() -> String {
    let resources = format!("{}{RESOURCES:?}", env!("CARGO_PKG_VERSION"));
    let bytes = crate::schema::text().bytes().chain(resources.bytes());
    // FNV-1a: names content, protects nothing.
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016X}")
}

/// The resources a group version's document is about.
fn described(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES
        .iter()
        .filter(move |r| r.gvk.group == group && r.gvk.version == version && !r.is_measured)
}

/// The document of a group version; `None` when there is none.
pub fn document(group: &str, version: &str) -> Option<Value> {
    let served: Vec<_> = described(group, version).collect();
    if served.is_empty() {
        return None;
    }
    let schema = Schema::get();
    let mut components = Components::default();
    let mut paths = Map::new();
    for resource in served {
        let list = format!("{}List", resource.gvk.kind);
        let kinds = [
            (group, version, resource.gvk.kind),
            (group, version, list.as_str()),
        ];
        let others = resource
            .subresources
            .iter()
            .map(|s| (s.gvk.group, s.gvk.version, s.gvk.kind));
        for (group, version, kind) in kinds.into_iter().chain(others) {
            components.roots.extend(schema.of(group, version, kind));
        }
        paths::of(resource, &path(group, version), &mut paths);
    }
    components.roots.extend(schema.named("meta/v1.Status"));
    components
        .roots
        .extend(schema.named("meta/v1.DeleteOptions"));
    let title = GroupVersion::new(group, version).to_string();
    let mut schemas = components.render();
    schemas.insert(format!("{META}Patch"), json!({"type": "object"}));
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": title, "version": "v1.36"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

/// Where a type's schema is.
fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The types a document mentions, and those they mention.
#[derive(Default)]
struct Components {
    roots: Vec<TypeId>,
}

impl Components {
    fn render(&self) -> Map<String, Value> {
        let schema = Schema::get();
        let mut out = Map::new();
        let mut pending = self.roots.clone();
        let mut seen: BTreeSet<TypeId> = BTreeSet::new();
        while let Some(id) = pending.pop() {
            if seen.insert(id) {
                let ty = schema.ty(id);
                out.insert(ty.definition(), object(ty, &mut pending));
            }
        }
        for (name, shape) in [
            (
                QUANTITY.to_owned(),
                json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            ),
            (
                INT_OR_STRING.to_owned(),
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            ),
            (
                format!("{META}Time"),
                json!({"format": "date-time", "type": "string"}),
            ),
            (
                format!("{META}MicroTime"),
                json!({"format": "date-time", "type": "string"}),
            ),
            (format!("{META}FieldsV1"), json!({"type": "object"})),
            (RAW_EXTENSION.to_owned(), json!({"type": "object"})),
        ] {
            out.insert(name, shape);
        }
        out
    }
}

fn object(ty: &Type, pending: &mut Vec<TypeId>) -> Value {
    let properties: Map<String, Value> = ty
        .fields
        .iter()
        .map(|field| (field.name.to_owned(), property(field, pending)))
        .collect();
    let required: Vec<&str> = ty
        .fields
        .iter()
        .filter(|f| f.required)
        .map(|f| f.name)
        .collect();
    let mut out = json!({"type": "object"});
    if !properties.is_empty() {
        out["properties"] = properties.into();
    }
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if ty.atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if !ty.kinds.is_empty() {
        let kinds: Vec<Value> = ty
            .kinds
            .iter()
            .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}))
            .collect();
        out["x-kubernetes-group-version-kind"] = kinds.into();
    }
    out
}

fn property(field: &Field, pending: &mut Vec<TypeId>) -> Value {
    let mut out = shape(&field.shape, pending);
    if let Some(default) = field
        .default
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
    {
        out["default"] = default;
    }
    match &field.list {
        None => {}
        Some(ListType::Atomic) => out["x-kubernetes-list-type"] = "atomic".into(),
        Some(ListType::Set) => out["x-kubernetes-list-type"] = "set".into(),
        Some(ListType::Map(keys)) => {
            out["x-kubernetes-list-type"] = "map".into();
            out["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    if field.map_atomic {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    let patch = field.patch;
    let strategies: Vec<&str> = [
        (patch.merge, "merge"),
        (patch.replace, "replace"),
        (patch.retain_keys, "retainKeys"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect();
    if !strategies.is_empty() {
        out["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    if let Some(key) = field.merge_key {
        out["x-kubernetes-patch-merge-key"] = key.into();
    }
    out
}

fn shape(shape_: &Shape, pending: &mut Vec<TypeId>) -> Value {
    // A bare `$ref` would hide the extensions beside it, so references stand in `allOf`, as upstream's do.
    let named = |name: &str| json!({"allOf": [reference(name)]});
    match shape_ {
        Shape::String => json!({"type": "string"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time => named(&format!("{META}Time")),
        Shape::MicroTime => named(&format!("{META}MicroTime")),
        Shape::Quantity => named(QUANTITY),
        Shape::IntOrString => named(INT_OR_STRING),
        Shape::Any => named(RAW_EXTENSION),
        Shape::Fields => named(&format!("{META}FieldsV1")),
        Shape::Object(id) => {
            pending.push(*id);
            named(&Schema::get().ty(*id).definition())
        }
        Shape::List(element) => json!({"type": "array", "items": shape(element, pending)}),
        Shape::Map(value) => {
            json!({"type": "object", "additionalProperties": shape(value, pending)})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_names_every_group_version() {
        let root = root();
        let url = root["paths"]["api/v1"]["serverRelativeURL"]
            .as_str()
            .unwrap();
        assert_eq!(url, format!("/openapi/v3/api/v1?hash={}", content_hash()));
        assert!(root["paths"]["apis/coordination.k8s.io/v1"].is_object());
    }

    /// What kubectl looks for before it trusts the server with validation and computes a strategic merge patch.
    #[test]
    fn core_document_satisfies_kubectl() {
        let document = document("", "v1").unwrap();
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "", "version": "v1", "kind": "Pod"})
        );
        let parameters = patch["parameters"].as_array().unwrap();
        for name in ["fieldValidation", "dryRun", "fieldManager", "force"] {
            assert!(
                parameters
                    .iter()
                    .any(|p| p["name"] == name && p["in"] == "query"),
                "{name}"
            );
        }
        assert!(
            patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object()
        );
        let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
            ["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
        let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    }

    #[test]
    fn every_reference_resolves() {
        let root = root();
        for (group, version) in group_versions() {
            let document = document(group, version);
            assert_eq!(
                document.is_some(),
                root["paths"].get(path(group, version)).is_some()
            );
            // Measured kinds are another server's to describe.
            let Some(document) = document else {
                assert_eq!(group, "metrics.k8s.io");
                continue;
            };
            let schemas = document["components"]["schemas"].as_object().unwrap();
            let text = document.to_string();
            for reference in text.split("#/components/schemas/").skip(1) {
                let name = reference.split('"').next().unwrap();
                assert!(schemas.contains_key(name), "{group}/{version}: {name}");
            }
        }
        assert_eq!(document("nothing", "v1"), None);
    }
}
