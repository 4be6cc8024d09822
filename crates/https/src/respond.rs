//! Answers: bodies, codes and the headers that all of them have.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

/// What any failure inside a body is.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A response body: whole, or a stream that is polled.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The type of a JSON text.
pub const JSON: &str = "application/json";

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A response of `code` with `content_type`.
pub fn with_type(code: StatusCode, content_type: &str, body: Body) -> Response<Body> {
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
pub fn json(code: u16, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        JSON,
        full(bytes),
    )
}

/// Plain text, as health checks answer.
pub fn text(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_type(code, "text/plain; charset=utf-8", full(text));
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A response of `code` that goes on as long as `bytes` does.
pub fn stream(
    code: StatusCode,
    content_type: &str,
    bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let frames = bytes
        .map_ok(Frame::data)
        .map_err(|error| Box::new(error) as BoxError);
    let body = BodyExt::boxed_unsync(StreamBody::new(frames));
    with_type(code, content_type, body)
}
