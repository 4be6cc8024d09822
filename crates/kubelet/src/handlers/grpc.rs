//! gRPC's health service, `grpc.health.v1.Health/Check`: one message of one field each way.

use api::protobuf::wire::{Content, Reader, Writer};
use grpc::{CallError, UNIMPLEMENTED};
use tokio::net::TcpStream;

const METHOD: &str = "/grpc.health.v1.Health/Check";

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
    let answer = grpc::call(stream, authority, METHOD, agent, &request(service)).await;
    match answer {
        Ok(message) => serving(&message),
        Err(CallError::Status { code, message }) if code == UNIMPLEMENTED => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Err(error) => Err(format!("error: health rpc probe failed: {error}")),
    }
}

/// `HealthCheckRequest { string service = 1; }`
fn request(service: &str) -> Vec<u8> {
    let mut message = Writer::default();
    if !service.is_empty() {
        message.bytes(1, service.as_bytes());
    }
    message.0
}

/// `HealthCheckResponse { ServingStatus status = 1; }`; an absent field is `UNKNOWN`.
fn serving(message: &[u8]) -> Result<(), String> {
    let status = match Reader(message).field() {
        Ok(Some((1, Content::Varint(status)))) => status,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_healthy() {
        assert!(request("").is_empty());
        assert_eq!(request("ab"), [0x0a, 2, b'a', b'b']);
        assert_eq!(serving(&[8, 1]), Ok(()));
        for (message, name) in [
            (&[8, 2][..], "NOT_SERVING"),
            (&[], "UNKNOWN"),
            (&[8, 3], "SERVICE_UNKNOWN"),
            (&[8, 7], "7"),
        ] {
            assert_eq!(
                serving(message),
                Err(format!("service unhealthy (responded with \"{name}\")"))
            );
        }
    }
}
