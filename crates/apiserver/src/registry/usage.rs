//! What Pods and nodes use: the group metrics.k8s.io, which upstream leaves to a server of its own (metrics-server, whose words these
//! are). Measured by the nodes' agents when somebody asks.

use std::collections::BTreeMap;

use api::gvk::GroupResource;
use api::resource::{Resource, find};
use api::status::{self, StatusError};
use http::Response;
use ports::node::{Usage, Used};
use serde_json::{Value, json};

use crate::respond::{self, Body};
use crate::rest::{Rest, Stored, meta};

/// GET and LIST of PodMetrics and NodeMetrics.
pub(super) async fn serve(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let measured = find("", "v1", rest.kind.plural).ok_or_else(status::unknown_method)?;
    if rest.call.info.verb == "list" {
        let mut objects = Vec::new();
        for entry in rest.selected(measured)? {
            objects.push(Stored::decode(entry)?.object);
        }
        let usage = measure(rest, &objects).await?;
        let items: Vec<Value> = objects
            .iter()
            .filter_map(|object| shown(rest, &usage, object))
            .collect();
        let list = json!({"kind": rest.kind.list_kind(), "apiVersion": version(rest), "metadata": {}, "items": items});
        return Ok(respond::json(200, list.to_string()));
    }
    let object = object(rest, measured)?;
    let usage = measure(rest, std::slice::from_ref(&object)).await?;
    let found = shown(rest, &usage, &object).ok_or_else(|| unmeasured(rest, &object))?;
    Ok(respond::json(200, found.to_string()))
}

/// Measures these Pods, or Nodes, each where it is.
async fn measure(rest: &Rest, objects: &[Value]) -> Result<Vec<Usage>, StatusError> {
    let mut nodes: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for object in objects {
        if !rest.kind.namespaced {
            nodes.entry(meta(object, "name")).or_default();
        } else if let Some(name) = object["spec"]["nodeName"].as_str() {
            nodes.entry(name).or_default().push(object);
        }
    }
    crate::streaming::usage(rest, nodes).await
}

/// The Pod or Node the URL names.
fn object(rest: &Rest, measured: &Resource) -> Result<Value, StatusError> {
    let (namespace, name) = (&rest.target.namespace, &rest.target.name);
    let entry = rest.inner.store.get(&super::key(measured, namespace, name));
    let entry = entry.ok_or_else(|| status::not_found(&measured.group_resource(), name))?;
    Ok(Stored::decode(entry)?.object)
}

/// It is there, but was not measured: nothing of it runs.
fn unmeasured(rest: &Rest, object: &Value) -> StatusError {
    let resource = rest.kind.gvk.kind.to_lowercase();
    let (namespace, name) = (meta(object, "namespace"), meta(object, "name"));
    let place = if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    };
    status::not_found(&GroupResource::new(rest.kind.gvk.group, resource), &place)
}

fn version(rest: &Rest) -> String {
    rest.kind.group_version().to_string()
}

/// The metrics of a Pod or Node, if it was measured anywhere.
fn shown(rest: &Rest, usage: &[Usage], object: &Value) -> Option<Value> {
    usage.iter().find_map(|usage| metrics(rest, usage, object))
}

/// Its metrics, if it was measured there.
fn metrics(rest: &Rest, usage: &Usage, object: &Value) -> Option<Value> {
    let at = usage.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut out = json!({
        "kind": rest.kind.gvk.kind,
        "apiVersion": version(rest),
        "metadata": {"name": meta(object, "name"), "creationTimestamp": at},
        "timestamp": at,
        "window": format!("{}ms", usage.window.as_millis()),
    });
    if let Some(labels) = object["metadata"].get("labels") {
        out["metadata"]["labels"] = labels.clone();
    }
    if !rest.kind.namespaced {
        out["usage"] = quantities(&usage.node);
        return (meta(object, "name") == usage.node_name).then_some(out);
    }
    out["metadata"]["namespace"] = meta(object, "namespace").into();
    let containers = usage.pods.get(meta(object, "uid"))?;
    let shown = |(name, used): (&String, &Used)| json!({"name": name, "usage": quantities(used)});
    out["containers"] = containers.iter().map(shown).collect();
    Some(out)
}

fn quantities(used: &Used) -> Value {
    json!({"cpu": format!("{}n", used.nano_cpus), "memory": format!("{}Ki", used.memory_bytes >> 10)})
}
