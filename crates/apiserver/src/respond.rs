//! Responses: bodies, Status, headers.

use std::convert::Infallible;

use api::status::{Status, StatusError};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

/// What any failure inside a body is.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A response body: whole, or a stream that is polled.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) const JSON: &str = "application/json";

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A response of `code` with `content_type`.
pub(crate) fn with_type(code: StatusCode, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A JSON response.
pub(crate) fn json(code: u16, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        JSON,
        full(bytes),
    )
}

/// Plain text, as health checks answer.
pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_type(code, "text/plain; charset=utf-8", full(text));
    response.headers_mut().insert(
        http::header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

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
