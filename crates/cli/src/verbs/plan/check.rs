//! What the API server does to a new Pod before it is stored, with its own words for what is wrong. What depends on other objects
//! (service accounts, priority classes, Pod Security labels) is not looked at.

use anyhow::Context;
use api::gvk::{GroupKind, GroupVersionKind};
use api::schema::Schema;
use api::status::{self, StatusError};
use api::validate::{self, FieldValidation};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::manifest::Document;

const PODS: &str = "pods";

/// The Pod of a document, as it would be stored in its namespace, else in `namespace`.
pub(super) fn pod(document: Document, namespace: Option<&str>) -> anyhow::Result<Pod> {
    let Document { source, object } = document;
    let stored = stored(object, namespace).map_err(refusal);
    let stored = stored.with_context(|| format!("error when creating {source:?}"))?;
    serde_json::from_value(stored).with_context(|| format!("read the Pod of {source:?}"))
}

fn stored(object: Value, namespace: Option<&str>) -> Result<Value, StatusError> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    if version != "v1" {
        let message = format!(
            "the API version in the data ({version}) does not match the expected API version (v1)"
        );
        return Err(status::bad_request(message));
    }
    let kind = GroupVersionKind::new("", "v1", "Pod");
    let Some(ty) = Schema::get().kind(&kind) else {
        return Err(status::internal("no schema for Pod"));
    };
    let refused = |why: String| validate::cannot_be_handled(&kind, "Pod", why);
    let decoded = validate::decode_value(&object, ty).map_err(|why| refused(why.to_string()))?;
    validate::judge(&decoded.problems, FieldValidation::Strict).map_err(refused)?;
    let mut pod = decoded.value;
    let metadata = &mut pod["metadata"];
    if metadata.is_null() {
        *metadata = json!({});
    }
    if metadata["namespace"].as_str().is_none_or(str::is_empty) {
        metadata["namespace"] = namespace.unwrap_or("default").into();
    }
    let prefix = metadata["generateName"].as_str().unwrap_or_default();
    if metadata["name"].is_null() && !prefix.is_empty() {
        metadata["name"] = format!("{prefix}xxxxx").into();
    }
    admission::default(PODS, &mut pod);
    admission::prepare_create(PODS, &mut pod);
    let errors = admission::validate_create(PODS, &pod);
    if errors.is_empty() {
        return Ok(pod);
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    Err(status::invalid(&GroupKind::new("", "Pod"), name, errors))
}

/// A refusal as the client would read it from the server.
fn refusal(error: StatusError) -> anyhow::Error {
    let status = serde_json::to_value(error.into_status());
    match status.and_then(serde_json::from_value) {
        Ok(status) => kube::Error::Api(Box::new(status)).into(),
        Err(error) => error.into(),
    }
}
