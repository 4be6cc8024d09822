//! What is no resource: version, health, metrics, discovery (spec kubectl-and-api §3), and how to check tokens.

use std::sync::atomic::{AtomicU64, Ordering};

use api::{discovery, openapi, status};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::identity;
use crate::negotiate;
use crate::respond::{self, Body};
use crate::rest;
use crate::router::Call;
use crate::server::Inner;

/// What is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: AtomicU64,
}

impl Metrics {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves a path that names no resource.
pub(crate) fn serve(inner: &Inner, call: &Call) -> Response<Body> {
    if call.info.verb != "get" && call.info.verb != "head" {
        return respond::error(&status::unknown_method());
    }
    let path = call.info.path.as_str();
    match path {
        "/version" | "/version/" => version(),
        "/metrics" => metrics(inner),
        identity::CONFIGURATION => issuer(respond::JSON, &inner.tokens.configuration()),
        identity::KEYS => issuer("application/jwk-set+json", &inner.tokens.keys()),
        _ => match health_of(path) {
            Some((endpoint, check)) => health(inner, call, endpoint, check),
            None => documents(inner, call, path),
        },
    }
}

/// What those need who check tokens of service accounts themselves; they may keep it for an hour.
fn issuer(media_type: &str, document: &Value) -> Response<Body> {
    let body = respond::full(document.to_string());
    let mut response = respond::with_type(StatusCode::OK, media_type, body);
    let an_hour = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, an_hour);
    response
}

/// Discovery and OpenAPI.
fn documents(inner: &Inner, call: &Call, path: &str) -> Response<Body> {
    let aggregated = negotiate::wants_aggregated(&call.parts.headers);
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let document = match parts.as_slice() {
        ["api"] if aggregated => {
            return cached(
                call,
                discovery::AGGREGATED_CONTENT_TYPE,
                &discovery::aggregated_core(),
            );
        }
        ["apis"] if aggregated => {
            return cached(
                call,
                discovery::AGGREGATED_CONTENT_TYPE,
                &discovery::aggregated_groups(),
            );
        }
        ["api"] => Some(discovery::core_versions(&inner.config.address.to_string())),
        ["apis"] => Some(discovery::group_list()),
        ["api", version] => discovery::resource_list("", version),
        ["apis", group] => discovery::group(group),
        ["apis", group, version] => discovery::resource_list(group, version),
        ["openapi", "v2"] => return openapi_v2(call),
        ["openapi", "v3"] => Some(openapi::root()),
        ["openapi", "v3", "api", version] => openapi::document("", version),
        ["openapi", "v3", "apis", group, version] => openapi::document(group, version),
        _ => None,
    };
    match document {
        Some(document) => cached(call, respond::JSON, &document),
        None => rest::page_not_found(),
    }
}

/// A document that changes with the version only: named by its content, and not sent again to who has it.
fn cached(call: &Call, content_type: &str, document: &Value) -> Response<Body> {
    cached_bytes(call, content_type, document.to_string().into())
}

/// client-go reads this document in protobuf only; everyone else gets JSON.
fn openapi_v2(call: &Call) -> Response<Body> {
    let document = openapi::document_v2();
    if negotiate::wants_openapi_v2_protobuf(&call.parts.headers) {
        let bytes = openapi::encode_v2(&document);
        return cached_bytes(call, negotiate::OPENAPI_V2, bytes.into());
    }
    cached(call, respond::JSON, &document)
}

fn cached_bytes(call: &Call, content_type: &str, body: Bytes) -> Response<Body> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &body);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.as_ref()));
    let known = call
        .parts
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = if known {
        respond::with_type(
            StatusCode::NOT_MODIFIED,
            content_type,
            respond::full(Bytes::new()),
        )
    } else {
        respond::with_type(StatusCode::OK, content_type, respond::full(body))
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn version() -> Response<Body> {
    let platform = format!(
        "linux/{}",
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        }
    );
    let body = json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": "v1.36.3+carob",
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": platform,
    });
    respond::json(200, body.to_string())
}

fn metrics(inner: &Inner) -> Response<Body> {
    let requests = inner.metrics.requests.load(Ordering::Relaxed);
    let revision = inner.store.revision();
    let (_, objects) = inner.store.range("/registry/", None, 0);
    let body = format!(
        "# HELP apiserver_requests_total Requests received since the start.\n# TYPE apiserver_requests_total counter\n\
         apiserver_requests_total {requests}\n# HELP apiserver_storage_revision Newest revision of the store.\n\
         # TYPE apiserver_storage_revision gauge\napiserver_storage_revision {revision}\n\
         # HELP apiserver_storage_objects Objects in the store.\n# TYPE apiserver_storage_objects gauge\n\
         apiserver_storage_objects {}\n",
        objects.len()
    );
    respond::text(200, body)
}

/// Endpoint and single check of a health path.
fn health_of(path: &str) -> Option<(&str, Option<&str>)> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts
        .next()
        .filter(|e| matches!(*e, "healthz" | "livez" | "readyz"))?;
    Some((endpoint, parts.next().filter(|c| !c.is_empty())))
}

fn health(inner: &Inner, call: &Call, endpoint: &str, single: Option<&str>) -> Response<Body> {
    let mut checks = vec![("ping", true)];
    if endpoint == "readyz" {
        checks.push(("shutdown", !inner.shutdown.is_cancelled()));
    }
    if let Some(name) = single {
        return match checks.iter().find(|(n, _)| *n == name) {
            Some((_, true)) => respond::text(200, "ok"),
            Some((_, false)) => {
                respond::text(500, format!("internal server error: {name} failed\n"))
            }
            None => rest::page_not_found(),
        };
    }
    let excluded: Vec<&str> = call.query.all("exclude").collect();
    let mut report = String::new();
    let mut healthy = true;
    for (name, passed) in &checks {
        if excluded.contains(name) {
            report.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if *passed {
            report.push_str(&format!("[+]{name} ok\n"));
        } else {
            healthy = false;
            report.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|e| !checks.iter().any(|(n, _)| n == *e))
        .map(|e| api::gotext::quote(e))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        report.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {unknown}\n"
        ));
    }
    if !healthy {
        return respond::text(500, format!("{report}{endpoint} check failed\n"));
    }
    if call.query.get("verbose").is_some() {
        return respond::text(200, format!("{report}{endpoint} check passed\n"));
    }
    respond::text(200, "ok")
}
