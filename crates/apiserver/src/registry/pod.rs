//! Pods: service accounts and what nodes may make, on create; binding, resizes.

use std::time::Duration;

use admission::binding::{self, Conflict};
use admission::pod::{self, AdmitContext};
use admission::runtimeclass;
use api::gvk::{GroupKind, GroupResource};
use api::status::{self, Status, StatusError};
use http::Response;
use ports::store::{Entry, StoreError};
use serde_json::Value;

use super::{limits, priority};
use crate::respond::{self, Body};
use crate::rest::{Rest, Stored, meta, put, random_suffix};

/// Tries to bind a Pod whose object others change at the same time.
const TRIES: usize = 20;

/// The ServiceAccount of Pods that name none.
const DEFAULT_ACCOUNT: &str = "default";
/// How long a Pod waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The admission plugins: limits, service account, priority, tolerations, what a node may make, RuntimeClass.
pub(super) async fn admit(rest: &Rest, pod: &mut Value) -> Result<(), StatusError> {
    limits::fill(rest, pod)?;
    let namespace = rest.target.namespace.as_str();
    let named = |field: &str| pod["spec"][field].as_str().unwrap_or_default().to_owned();
    let account = named("serviceAccountName");
    let account = if account.is_empty() {
        DEFAULT_ACCOUNT.to_owned()
    } else {
        account
    };
    let entry = match pod::is_mirror(pod) {
        // It has none.
        true => None,
        false => service_account(rest, &account).await,
    };
    let account = entry.map(Stored::decode).transpose()?.map(|s| s.object);
    let wanted = named("priorityClassName");
    let class = priority::class(rest, &wanted)?;
    let suffix = random_suffix();
    let context = AdmitContext {
        namespace,
        service_account: account.as_ref(),
        priority_class: class.as_ref(),
        random_suffix: &suffix,
    };
    let refuse = |pod: &Value, why: String| {
        status::forbidden(&rest.group_resource(), meta(pod, "name"), why)
    };
    pod::admit(pod, &context).map_err(|why| refuse(pod, why.to_string()))?;
    if let Some(node) = rest.call.user.as_node() {
        let uid = node_uid(rest, node)?;
        let by = pod::Owner {
            name: node,
            uid: &uid,
        };
        pod::may_be_made(pod, by).map_err(|why| refuse(pod, why))?;
    }
    let class = runtime_class(rest, pod)?;
    runtimeclass::admit(pod, class.as_ref()).map_err(|why| refuse(pod, why.to_string()))
}

fn node_uid(rest: &Rest, name: &str) -> Result<String, StatusError> {
    let node = rest.inner.store.get(&format!("/registry/nodes/{name}"));
    let node = node.ok_or_else(|| status::not_found(&GroupResource::new("", "nodes"), name))?;
    let node = Stored::decode(node)?.object;
    Ok(meta(&node, "uid").to_owned())
}

/// A ServiceAccount of the Pod's namespace, if it exists. A new namespace is given `default` in a moment, which is waited for.
async fn service_account(rest: &Rest, name: &str) -> Option<Entry> {
    let store = &rest.inner.store;
    let key = format!("/registry/serviceaccounts/{}/{name}", rest.target.namespace);
    let revision = store.revision();
    let found = store.get(&key);
    if found.is_some() || name != DEFAULT_ACCOUNT {
        return found;
    }
    let mut changes = store.watch(&key, revision).ok()?;
    let given = async {
        while changes.recv().await.is_some() {
            if let Some(found) = store.get(&key) {
                return Some(found);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, given).await.ok().flatten()
}

/// The RuntimeClass that a Pod names, if it exists.
fn runtime_class(rest: &Rest, pod: &Value) -> Result<Option<Value>, StatusError> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else {
        return Ok(None);
    };
    let entry = rest
        .inner
        .store
        .get(&format!("/registry/runtimeclasses/{name}"));
    Ok(entry.map(Stored::decode).transpose()?.map(|s| s.object))
}

/// `POST pods/…/binding`.
pub(super) async fn bind(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let body = rest.decode_as("", "v1", "Binding")?;
    bind_to(rest, &rest.target.name, &body).await
}

/// `POST bindings`: the Pod is the one the body names.
pub(super) async fn bind_named(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let body = rest.decode_as("", "v1", "Binding")?;
    bind_to(rest, meta(&body, "name"), &body).await
}

async fn bind_to(rest: &Rest, name: &str, body: &Value) -> Result<Response<Body>, StatusError> {
    let errors = binding::validate(body);
    if !errors.is_empty() {
        return Err(status::invalid(
            &GroupKind::new("", "Binding"),
            name,
            errors,
        ));
    }
    let now = rest.now();
    let key = format!("/registry/pods/{}/{name}", rest.target.namespace);
    let resource = GroupResource::new("", "pods/binding");
    for _ in 0..TRIES {
        let entry = rest.inner.store.get(&key);
        let entry =
            entry.ok_or_else(|| status::not_found(&GroupResource::new("", "pods"), name))?;
        let stored = Stored::decode(entry)?;
        let mut pod = stored.object.clone();
        binding::apply(&mut pod, body, &now)
            .map_err(|why: Conflict| status::conflict(&resource, name, why))?;
        if rest.is_dry_run()? {
            return Ok(created());
        }
        match put(&rest.inner, &key, stored.expect(), pod).await {
            Ok(_) => return Ok(created()),
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => return Err(crate::rest::store_error(other)),
        }
    }
    Err(status::conflict(&resource, name, status::MODIFIED))
}

fn created() -> Response<Body> {
    respond::status(&Status::success(201, None))
}

/// A resize must be possible on the Pod's node at all (the plugin PodResizeValidator).
pub(super) fn check_resize(rest: &Rest, new: &Value, old: &Value) -> Result<(), StatusError> {
    let node = new["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() || new["metadata"]["generation"] == old["metadata"]["generation"] {
        return Ok(());
    }
    let node = rest.inner.store.get(&format!("/registry/nodes/{node}"));
    let node = node.map(Stored::decode).transpose()?;
    pod::fits(new, node.as_ref().map(|node| &node.object)).map_err(|why| {
        let cause = why.cause();
        let refused = status::forbidden(&rest.group_resource(), &rest.target.name, why);
        match cause {
            Some(cause) => refused.with_cause(cause, "", ""),
            None => refused,
        }
    })
}
