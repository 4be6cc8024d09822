//! Service accounts: `POST serviceaccounts/…/token` (spec kubectl-and-api §19.3).

use api::field::{Error, Path};
use api::gvk::GroupKind;
use api::status::{self, StatusError};
use http::Response;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::registry;
use crate::respond::{self, Body};
use crate::rest::{Rest, Stored, meta};
use crate::token::Bound;

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

/// Issues a token for the account in the URL.
pub(super) fn token(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let mut body = rest.decode_as("authentication.k8s.io", "v1", "TokenRequest")?;
    let account = Stored::decode(rest.entry()?)?.object;
    let seconds = body["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(DEFAULT_SECONDS);
    check_seconds(seconds)?;
    let tokens = &rest.inner.tokens;
    let mut audiences: Vec<String> = body["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.push(tokens.issuer().to_owned());
    }
    let pod = bound_pod(rest, &body["spec"]["boundObjectRef"])?;
    let node = pod.as_ref().map(|pod| node_of(rest, pod)).transpose()?;
    let node = node.flatten();
    let now = rest.inner.clock.now();
    let expires = now
        .checked_add(SignedDuration::from_secs(seconds))
        .map_err(status::internal)?;
    let bound = Bound {
        namespace: &rest.target.namespace,
        account: &rest.target.name,
        account_uid: meta(&account, "uid"),
        pod: pod.as_ref().map(|p| (meta(p, "name"), meta(p, "uid"))),
        node: node.as_ref().map(|(name, uid)| (&**name, &**uid)),
    };
    let token = tokens
        .issue(&bound, &audiences, now, expires)
        .map_err(status::internal)?;
    body["kind"] = "TokenRequest".into();
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["metadata"] = json!({"name": rest.target.name, "namespace": rest.target.namespace, "creationTimestamp": rest.now()});
    body["spec"]["audiences"] = json!(audiences);
    body["spec"]["expirationSeconds"] = seconds.into();
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    body["status"] = json!({"token": token, "expirationTimestamp": expires});
    Ok(respond::json(201, body.to_string()))
}

fn check_seconds(seconds: i64) -> Result<(), StatusError> {
    let why = if seconds < LEAST_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MOST_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = Error::invalid(&Path::new("spec").child("expirationSeconds"), seconds, why);
    Err(status::invalid(
        &GroupKind::new("authentication.k8s.io", "TokenRequest"),
        "",
        vec![error],
    ))
}

/// The Pod a token is bound to: it must exist, be the one meant, and run as the account.
fn bound_pod(rest: &Rest, reference: &Value) -> Result<Option<Value>, StatusError> {
    if reference.is_null() {
        return Ok(None);
    }
    let name = reference["name"].as_str().unwrap_or_default();
    let Some(pods) = registry::find("", "v1", "pods").filter(|_| reference["kind"] == "Pod") else {
        let why = format!("cannot bind token to object of type {}", reference["kind"]);
        return Err(status::bad_request(why));
    };
    let entry = rest
        .inner
        .store
        .get(&registry::key(pods, &rest.target.namespace, name));
    let entry = entry.ok_or_else(|| status::not_found(&pods.group_resource(), name))?;
    let pod = Stored::decode(entry)?.object;
    if pod["spec"]["serviceAccountName"] != rest.target.name.as_str() {
        return Err(status::bad_request(format!(
            "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
            api::gotext::quote(&rest.target.name)
        )));
    }
    let uid = reference["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && uid != meta(&pod, "uid") {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(status::conflict(&pods.group_resource(), name, why));
    }
    Ok(Some(pod))
}

/// Name and uid of a Pod's node; the uid is empty if the node is not there.
fn node_of(rest: &Rest, pod: &Value) -> Result<Option<(String, String)>, StatusError> {
    let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let Some(nodes) = registry::find("", "v1", "nodes").filter(|_| !name.is_empty()) else {
        return Ok(None);
    };
    let entry = rest.inner.store.get(&registry::key(nodes, "", name));
    let node = entry.map(Stored::decode).transpose()?;
    let uid = node.map(|node| meta(&node.object, "uid").to_owned());
    Ok(Some((name.to_owned(), uid.unwrap_or_default())))
}
