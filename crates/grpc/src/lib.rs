//! Calls of gRPC with one message each way, over a connection of the caller's
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! Messages come and go encoded: what is in them is their users' business.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// Longest answer in bytes, as other clients have it.
const LONGEST: usize = 4 << 20;
/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// The names of status codes.
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

/// Why a call has no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// The connection failed, or the request cannot be written.
    #[error("{0}")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server refused.
    #[error("rpc error: code = {} desc = {message}", name_of(code))]
    Status {
        /// The status code as it was sent, a number.
        code: String,
        /// What the server says.
        message: String,
    },
    /// The answer holds no status, or no whole message.
    #[error("rpc error: code = Unknown desc = {0}")]
    Malformed(&'static str),
}

/// The status code of a method the server does not know.
pub const UNIMPLEMENTED: &str = "12";

/// Calls `method` (`/package.Service/Method`) over a new connection and returns the answer's message. `authority` is what the server is
/// told of its name, `agent` of the client. Whoever stops waiting ends the call.
///
/// # Errors
/// The server refuses, or the connection fails.
pub async fn call<S>(
    stream: S,
    authority: &str,
    method: &str,
    agent: &'static str,
    message: &[u8],
) -> Result<Bytes, CallError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| CallError::Connection(error.into());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(failed)?;
    // Ends with the last sender.
    tokio::spawn(connection);
    let request = Request::post(format!("http://{authority}{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", agent)
        .body(Full::new(framed(message)))
        .map_err(|error| CallError::Connection(error.into()))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body.map_err(CallError::Connection)?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let of = |name: &str| text(&trailers, name).or_else(|| text(&head.headers, name));
    match of("grpc-status").as_deref() {
        Some("0") => unframed(body.to_bytes()),
        Some(code) => Err(CallError::Status {
            code: code.to_owned(),
            message: of("grpc-message").map_or_else(String::new, |text| unescaped(&text)),
        }),
        None => Err(CallError::Malformed("no status")),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// A message with what goes before it.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + HEAD);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The message of a frame; of an answer without any, an empty one.
///
/// # Errors
/// It is cut off, or compressed, which nobody has asked for.
pub fn unframed(mut frame: Bytes) -> Result<Bytes, CallError> {
    if frame.is_empty() {
        return Ok(frame);
    }
    let head = frame.split_to(frame.len().min(HEAD));
    let [0, a, b, c, d] = head[..] else {
        return Err(CallError::Malformed("the message is compressed or cut off"));
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if frame.len() < length {
        return Err(CallError::Malformed("the message is cut off"));
    }
    Ok(frame.split_to(length))
}

/// A status message, in which `%` and two digits stand for a byte.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte.filter(|_| first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The name of a status code.
fn name_of(code: &str) -> &str {
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
        assert_eq!(framed(b"")[..], [0, 0, 0, 0, 0]);
        assert_eq!(framed(b"ab")[..], [0, 0, 0, 0, 2, b'a', b'b']);
        for message in [&b""[..], b"ab", &[7; 300]] {
            assert_eq!(unframed(framed(message)).unwrap()[..], *message);
        }
        assert!(unframed(Bytes::new()).unwrap().is_empty());
        for broken in [&[0, 0, 0][..], &[0, 0, 0, 0, 3, 1, 2], &[1, 0, 0, 0, 0]] {
            let broken = Bytes::copy_from_slice(broken);
            assert!(
                matches!(unframed(broken.clone()), Err(CallError::Malformed(_))),
                "{broken:?}"
            );
        }
    }

    #[test]
    fn refusals_read_as_upstream_writes_them() {
        for (code, message, expected) in [
            (
                "13",
                "no%20space",
                "rpc error: code = Internal desc = no space",
            ),
            ("5", "100%", "rpc error: code = NotFound desc = 100%"),
            ("99", "%zz", "rpc error: code = 99 desc = %zz"),
        ] {
            let error = CallError::Status {
                code: code.to_owned(),
                message: unescaped(message),
            };
            assert_eq!(error.to_string(), expected);
        }
    }
}
