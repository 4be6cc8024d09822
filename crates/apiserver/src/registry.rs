//! The kinds served, and what only one of them needs.

mod certificate;
mod eviction;
mod ingress;
mod limits;
mod namespace;
mod pod;
mod podsecurity;
mod priority;
mod quota;
mod review;
mod service;
mod serviceaccount;
mod storage;
mod usage;

use admission::Subresource;
use api::field::ErrorList;
use api::resource::{Form, Resource};
use api::status::{self, StatusError};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

pub(crate) use namespace::is_terminating;
pub(crate) use quota::{Charges, charge};

use crate::request::Target;
use crate::respond::{self, Body};
use crate::rest::{self, Rest};
use crate::server::Inner;

/// The kind behind a resource name.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    api::resource::find(group, version, plural)
}

/// Answers for a resource that is not served. kubectl, before it says that it does not know a kind, lists the kinds users have
/// defined: none, as none can be.
pub(crate) fn unknown(inner: &Inner, verb: &str, target: &Target) -> Response<Body> {
    let words = (&*target.group, &*target.version, &*target.resource);
    let definitions = ("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    if words != definitions || verb != "list" {
        return rest::page_not_found();
    }
    let list = json!({
        "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"resourceVersion": inner.store.revision().to_string()}, "items": [],
    });
    respond::json(200, list.to_string())
}

/// What the keys of all objects of a kind begin with, in one namespace unless that is empty.
pub(crate) fn prefix(kind: &Resource, namespace: &str) -> String {
    kind.key(Some(namespace).filter(|n| !n.is_empty()), None)
}

/// The key of one object.
pub(crate) fn key(kind: &Resource, namespace: &str, name: &str) -> String {
    kind.key(Some(namespace), Some(name))
}

/// An object as it is stored.
pub(crate) fn to_stored(kind: &Resource, object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        kind.to_stored(map);
    }
}

/// A stored object as this kind shows it.
pub(crate) fn to_shown(kind: &Resource, object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        kind.to_shown(map);
    }
}

/// As [`to_shown`], for bytes.
pub(crate) fn shown_bytes(kind: &Resource, object: &Bytes) -> Bytes {
    if kind.form == Form::Shown {
        return object.clone();
    }
    match serde_json::from_slice(object) {
        Ok(mut value) => {
            to_shown(kind, &mut value);
            Bytes::from(value.to_string())
        }
        Err(_) => object.clone(),
    }
}

/// Admission that looks things up, on create, after defaulting.
pub(crate) async fn admit(rest: &Rest, object: &mut Value) -> Result<(), StatusError> {
    match rest.kind.plural {
        "pods" => pod::admit(rest, object).await,
        "certificatesigningrequests" => {
            certificate::admit(rest, object);
            Ok(())
        }
        "ingresses" => ingress::admit(rest, object),
        "persistentvolumeclaims" => storage::admit(rest, object),
        "persistentvolumes" => {
            admission::persistentvolume::admit(object);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Admission that looks things up, on an update, after defaulting.
pub(crate) fn admit_update(
    rest: &Rest,
    part: Subresource,
    new: &mut Value,
    old: &Value,
) -> Result<(), StatusError> {
    let is_going = !rest::meta(old, "deletionTimestamp").is_empty();
    match (rest.kind.plural, part) {
        ("pods", Subresource::Resize) if !is_going => limits::fill(rest, new),
        _ => Ok(()),
    }
}

/// Admission that looks things up, on a creation that is valid otherwise.
pub(crate) fn review_create(rest: &Rest, object: &Value) -> Result<(), StatusError> {
    if rest.kind.plural == "priorityclasses" {
        priority::check(rest, object, true)?;
    }
    if rest.kind.plural == "ingresses" {
        let warning = admission::ingress::warning(object);
        warning.into_iter().for_each(|text| rest.warn(text));
    }
    if rest.kind.plural == "certificatesigningrequests" {
        certificate::review(rest, object)?;
    }
    warn(rest, object, None);
    limits::review(rest, Subresource::Main, object, None)?;
    podsecurity::review(rest, Subresource::Main, object, None)
}

/// Tells the client what upstream warns of.
fn warn(rest: &Rest, new: &Value, old: Option<&Value>) {
    let resource = rest.group_resource().to_string();
    let warnings = admission::warnings(&resource, new, old);
    warnings.into_iter().for_each(|text| rest.warn(text));
}

/// Admission that looks things up, on an update that is valid otherwise.
pub(crate) fn review_update(
    rest: &Rest,
    part: Subresource,
    new: &Value,
    old: &Value,
) -> Result<(), StatusError> {
    if (rest.kind.plural, part) == ("pods", Subresource::Resize) {
        pod::check_resize(rest, new, old)?;
    }
    if (rest.kind.plural, part) == ("persistentvolumeclaims", Subresource::Main) {
        storage::check_growth(rest, new, old)?;
    }
    if rest.kind.plural == "priorityclasses" {
        priority::check(rest, new, false)?;
    }
    if matches!(part, Subresource::Main | Subresource::Scale) {
        warn(rest, new, Some(old));
    }
    limits::review(rest, part, new, Some(old))?;
    podsecurity::review(rest, part, new, Some(old))
}

/// What is wrong with an object besides what `admission` finds.
pub(crate) fn errors(rest: &Rest, new: &Value, old: Option<&Value>) -> ErrorList {
    match rest.kind.plural {
        "certificatesigningrequests" => certificate::errors(new, old),
        _ => ErrorList::new(),
    }
}

/// Notes when something changed that a kind keeps the time of.
pub(crate) fn stamp(rest: &Rest, part: Subresource, new: &mut Value, old: &Value) {
    if (rest.kind.plural, part) == ("persistentvolumes", Subresource::Status) {
        admission::persistentvolume::stamp(new, old, &rest.now());
    }
    if rest.kind.plural == "certificatesigningrequests" {
        certificate::stamp(rest, part, new, old);
    }
}

/// Gives an object what comes from a shared supply; what is returned must be held until the object is stored.
pub(crate) async fn allocate<'a>(
    rest: &'a Rest,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Option<MutexGuard<'a, ()>>, StatusError> {
    match rest.kind.plural {
        "services" => service::allocate(rest, object, old).await.map(Some),
        _ => Ok(None),
    }
}

/// Refuses to delete what must stay.
pub(crate) fn check_delete(rest: &Rest, name: &str) -> Result<(), StatusError> {
    match rest.kind.plural {
        "namespaces" => namespace::check_delete(rest, name),
        _ => Ok(()),
    }
}

/// Kinds that are measured or only posted, not stored.
pub(crate) async fn virtual_kind(rest: &Rest) -> Result<Response<Body>, StatusError> {
    match (rest.kind.plural, rest.call.info.verb) {
        ("bindings", "create") if rest.target.name.is_empty() => pod::bind_named(rest).await,
        (_, "get" | "list") if rest.kind.is_measured && rest.target.subresource.is_empty() => {
            usage::serve(rest).await
        }
        (_, "create") if rest.target.name.is_empty() && !rest.kind.is_measured => {
            review::create(rest)
        }
        _ => Err(status::method_not_allowed(
            &rest.group_resource(),
            rest.call.info.verb,
        )),
    }
}

/// Subresources beyond `status`.
pub(crate) async fn subresource(rest: &Rest, name: &str) -> Result<Response<Body>, StatusError> {
    match (rest.kind.plural, name) {
        ("namespaces", "finalize") if rest.call.info.verb == "update" => {
            rest.part(Subresource::Finalize).await
        }
        ("certificatesigningrequests", "approval") => rest.part(Subresource::Approval).await,
        ("pods", "ephemeralcontainers") => rest.part(Subresource::EphemeralContainers).await,
        ("pods", "resize") => rest.part(Subresource::Resize).await,
        ("pods", "binding") if rest.call.info.verb == "create" => pod::bind(rest).await,
        ("pods", "eviction") if rest.call.info.verb == "create" => eviction::evict(rest).await,
        ("pods", "log") if rest.call.info.verb == "get" => crate::streaming::logs(rest).await,
        ("pods", "exec" | "attach") => crate::streaming::connect(rest, name).await,
        ("pods", "portforward") => crate::streaming::port_forward(rest).await,
        ("pods", "proxy") => crate::streaming::proxy_to_pod(rest).await,
        ("nodes", "proxy") => crate::streaming::proxy_to_node(rest).await,
        ("services", "proxy") => crate::streaming::proxy_to_service(rest).await,
        ("serviceaccounts", "token") if rest.call.info.verb == "create" => {
            serviceaccount::token(rest)
        }
        ("namespaces", "finalize")
        | ("pods", "binding" | "eviction" | "log")
        | ("serviceaccounts", "token") => Err(status::unknown_method()),
        _ => Ok(rest::page_not_found()),
    }
}
