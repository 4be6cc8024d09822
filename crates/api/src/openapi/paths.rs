//! The operations of a resource.

use super::{META, reference};
use crate::patch::PatchKind;
use crate::resource::{Gvk, Resource, Subresource};
use crate::schema::Schema;
use serde_json::{Map, Value, json};

const LIST_PARAMETERS: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE_PARAMETERS: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const PATCH_PARAMETERS: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const DELETE_PARAMETERS: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// Adds the paths of a resource and its subresources; `prefix` is `api/v1` or `apis/GROUP/VERSION`.
pub(super) fn of(resource: &Resource, prefix: &str, paths: &mut Map<String, Value>) {
    let scope = if resource.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("/{prefix}{scope}/{}", resource.plural);
    let has = |verb: &str| resource.allows(verb);
    let one = definition(resource.gvk);
    let list = definition_named(&format!("{}List", one));
    let mut operations = Operations::new(resource.gvk, resource.namespaced, false);
    operations.add_if(has("list"), "get", "list", LIST_PARAMETERS, None, &list);
    operations.add_if(
        has("create"),
        "post",
        "post",
        WRITE_PARAMETERS,
        Some(body(&one)),
        &one,
    );
    operations.add_if(
        has("deletecollection"),
        "delete",
        "deletecollection",
        LIST_PARAMETERS,
        Some(body(&options())),
        &status(),
    );
    paths.insert(collection.clone(), operations.finish());
    if resource.namespaced && has("list") {
        let mut everywhere = Operations::new(resource.gvk, false, false);
        everywhere.add_if(true, "get", "list", LIST_PARAMETERS, None, &list);
        paths.insert(
            format!("/{prefix}/{}", resource.plural),
            everywhere.finish(),
        );
    }
    if !has("get") {
        return;
    }
    let item = format!("{collection}/{{name}}");
    let mut operations = Operations::new(resource.gvk, resource.namespaced, true);
    operations.add_if(true, "get", "get", &[], None, &one);
    operations.add_if(
        has("update"),
        "put",
        "put",
        WRITE_PARAMETERS,
        Some(body(&one)),
        &one,
    );
    operations.add_if(
        has("patch"),
        "patch",
        "patch",
        PATCH_PARAMETERS,
        Some(patch_body()),
        &one,
    );
    operations.add_if(
        has("delete"),
        "delete",
        "delete",
        DELETE_PARAMETERS,
        Some(body(&options())),
        &status(),
    );
    paths.insert(item.clone(), operations.finish());
    for subresource in resource.subresources {
        paths.insert(
            format!("{item}/{}", subresource.name),
            subresource_operations(resource, subresource),
        );
    }
}

/// Verbs of connections, and their methods.
const CONNECT: [(&str, &str); 5] = [
    ("get", "get"),
    ("create", "post"),
    ("update", "put"),
    ("patch", "patch"),
    ("delete", "delete"),
];

fn subresource_operations(resource: &Resource, subresource: &Subresource) -> Value {
    let gvk = subresource.gvk;
    let known = Schema::get().of(gvk.group, gvk.version, gvk.kind).is_some();
    // Connections have options instead of an object.
    let one = if known {
        definition(gvk)
    } else {
        String::new()
    };
    let has = |verb: &str| subresource.verbs.contains(&verb);
    let mut operations = Operations::new(gvk, resource.namespaced, true);
    if !known {
        for (verb, method) in CONNECT {
            operations.add_if(has(verb), method, "connect", &[], None, &one);
        }
        return operations.finish();
    }
    operations.add_if(has("get"), "get", "get", &[], None, &one);
    let write = Some(body(&one));
    operations.add_if(
        has("create"),
        "post",
        "post",
        WRITE_PARAMETERS,
        write.clone(),
        &one,
    );
    operations.add_if(has("update"), "put", "put", WRITE_PARAMETERS, write, &one);
    operations.add_if(
        has("patch"),
        "patch",
        "patch",
        PATCH_PARAMETERS,
        Some(patch_body()),
        &one,
    );
    operations.finish()
}

/// The definition of a kind; empty for kinds without one.
fn definition(gvk: Gvk) -> String {
    let schema = Schema::get();
    schema
        .of(gvk.group, gvk.version, gvk.kind)
        .map(|id| schema.ty(id).definition())
        .unwrap_or_default()
}

/// The definition, if there is one of that name.
fn definition_named(name: &str) -> String {
    let schema = Schema::get();
    let found = schema.types().any(|(_, ty)| ty.definition() == name);
    if found {
        name.to_owned()
    } else {
        String::new()
    }
}

fn options() -> String {
    format!("{META}DeleteOptions")
}

fn status() -> String {
    format!("{META}Status")
}

fn body(definition: &str) -> Value {
    json!({"required": true, "content": {"*/*": {"schema": reference(definition)}}})
}

fn patch_body() -> Value {
    let kinds = [
        PatchKind::Apply,
        PatchKind::Json,
        PatchKind::Merge,
        PatchKind::StrategicMerge,
    ];
    let content: Map<String, Value> = kinds
        .iter()
        .map(|kind| {
            (
                kind.media_type().to_owned(),
                json!({"schema": reference(&format!("{META}Patch"))}),
            )
        })
        .collect();
    json!({"required": true, "content": content})
}

struct Operations {
    gvk: Gvk,
    path: Map<String, Value>,
}

impl Operations {
    fn new(gvk: Gvk, namespaced: bool, named: bool) -> Self {
        let mut parameters = Vec::new();
        for (name, present) in [("name", named), ("namespace", namespaced)] {
            if present {
                parameters.push(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}));
            }
        }
        parameters.push(query("pretty", "string"));
        let mut path = Map::new();
        path.insert("parameters".to_owned(), parameters.into());
        Self { gvk, path }
    }

    fn add_if(
        &mut self,
        wanted: bool,
        method: &str,
        action: &str,
        parameters: &[(&str, &str)],
        request: Option<Value>,
        response: &str,
    ) {
        if !wanted {
            return;
        }
        let Gvk {
            group,
            version,
            kind,
        } = self.gvk;
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|(name, ty)| query(name, ty))
            .collect();
        let mut ok = json!({"description": "OK"});
        if !response.is_empty() {
            ok["content"] = json!({"application/json": {"schema": reference(response)}});
        }
        let mut operation = json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            "parameters": parameters,
            "responses": {"200": ok},
        });
        if let Some(request) = request {
            operation["requestBody"] = request;
        }
        self.path.insert(method.to_owned(), operation);
    }

    fn finish(self) -> Value {
        self.path.into()
    }
}

fn query(name: &str, ty: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": ty, "uniqueItems": true}})
}
