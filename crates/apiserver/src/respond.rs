//! Responses: Status, YAML, warnings.

use api::status::{Status, StatusError};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http_body_util::BodyExt;

pub use https::Body;
pub(crate) use https::{BoxError, JSON, full, json, text, with_type};

/// A Status, with `Retry-After` when it says so.
pub(crate) fn status(status: &Status) -> Response<Body> {
    let code = if status.code == 0 { 200 } else { status.code };
    let mut response = json(code, status.to_json());
    let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if seconds > 0 {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A failure.
pub(crate) fn error(error: &StatusError) -> Response<Body> {
    status(error)
}

/// The same answer in YAML, if it is JSON that is all there.
pub(crate) async fn to_yaml(response: Response<Body>) -> Response<Body> {
    let is_json = |v: &HeaderValue| v.as_bytes() == JSON.as_bytes();
    let whole = hyper::body::Body::size_hint(response.body())
        .exact()
        .is_some();
    if !whole || !response.headers().get(CONTENT_TYPE).is_some_and(is_json) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A body that is all there has no way to fail.
    let bytes = body
        .collect()
        .await
        .map(|b| b.to_bytes())
        .unwrap_or_default();
    let value = serde_json::from_slice(&bytes).ok();
    let text = value.and_then(|v: serde_json::Value| api::yaml::write(&v).ok());
    let Some(text) = text else {
        return Response::from_parts(parts, full(bytes));
    };
    let media_type = HeaderValue::from_static(api::yaml::MEDIA_TYPE);
    parts.headers.insert(CONTENT_TYPE, media_type);
    Response::from_parts(parts, full(text))
}

/// Adds `Warning` headers (spec kubectl-and-api §11.4).
pub(crate) fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
