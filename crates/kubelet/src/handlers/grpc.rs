//! gRPC's health service, `grpc.health.v1.Health/Check`: one message of one field each way, encoded by hand.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// gRPC's status codes that have a text of their own.
const UNIMPLEMENTED: &str = "12";

/// Asks for the health of `service` over a connection to `authority`.
///
/// # Errors
/// Upstream's words for a service that is not healthy or did not answer.
pub(crate) async fn check(
    stream: TcpStream,
    authority: &str,
    service: &str,
    agent: &'static str,
) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(failed)?;
    // Ends with the last sender.
    tokio::spawn(connection);
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", agent)
        .body(Full::new(request(service)))
        .map_err(|error| format!("error: health rpc probe failed: {error}"))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(failed)?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let of = |name: &str| text(&trailers, name).or_else(|| text(&head.headers, name));
    let message = of("grpc-message").unwrap_or_default();
    match of("grpc-status").as_deref() {
        Some("0") => serving(&body.to_bytes()),
        Some(UNIMPLEMENTED) => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Some(code) => Err(format!(
            "error: health rpc probe failed: rpc error: code = {} desc = {message}",
            name_of(code)
        )),
        None => Err(
            "error: health rpc probe failed: rpc error: code = Unknown desc = no status".to_owned(),
        ),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// `HealthCheckRequest { string service = 1; }`, framed.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or_default());
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put(message);
    frame.freeze()
}

/// `HealthCheckResponse { ServingStatus status = 1; }`, framed; an absent field is `UNKNOWN`.
fn serving(frame: &[u8]) -> Result<(), String> {
    let status = match frame.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    };
    let name = match status {
        1 => return Ok(()),
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    };
    Err(format!("service unhealthy (responded with {name:?})"))
}

/// The name of a status code.
fn name_of(code: &str) -> &str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    code.parse::<usize>()
        .ok()
        .and_then(|code| NAMES.get(code).copied())
        .unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        assert_eq!(request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(request(&"x".repeat(300))[5..8], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_is_healthy() {
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        for (frame, name) in [
            (&[0, 0, 0, 0, 2, 8, 2][..], "NOT_SERVING"),
            (&[0, 0, 0, 0, 0], "UNKNOWN"),
            (&[], "UNKNOWN"),
            (&[0, 0, 0, 0, 2, 8, 3], "SERVICE_UNKNOWN"),
        ] {
            assert_eq!(
                serving(frame),
                Err(format!("service unhealthy (responded with \"{name}\")"))
            );
        }
        assert_eq!(name_of("5"), "NotFound");
        assert_eq!(name_of("99"), "99");
    }
}
