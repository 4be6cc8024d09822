//! From HTTP to WebSocket: the handshake and the choice of sub-protocol (RFC 6455, spec kubectl-and-api §13.2).

use std::future::Future;

use api::status::{self, StatusError};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ports::streams::LogStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// A WebSocket to a client.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Bytes one message of a client may have.
const MESSAGE: usize = 1 << 20;

/// How channels are put into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocol {
    /// As in `Sec-WebSocket-Protocol`; empty when the client named none.
    pub(super) name: &'static str,
    /// Channel as a digit and base64 in text messages, instead of a byte and bytes.
    pub(super) base64: bool,
    /// The end is a JSON Status, and the terminal has a channel.
    pub(super) status: bool,
    /// Channel 255 closes channels.
    pub(super) close: bool,
}

const fn protocol(name: &'static str, base64: bool, status: bool, close: bool) -> Protocol {
    Protocol {
        name,
        base64,
        status,
        close,
    }
}

const CHANNELS: [Protocol; 6] = [
    protocol("v5.channel.k8s.io", false, true, true),
    protocol("v4.channel.k8s.io", false, true, false),
    protocol("v4.base64.channel.k8s.io", true, true, false),
    protocol("channel.k8s.io", false, false, false),
    protocol("base64.channel.k8s.io", true, false, false),
    protocol("", false, false, false),
];
/// SPDY inside a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PORTS: [Protocol; 4] = [
    protocol(TUNNEL, false, false, false),
    protocol("v4.channel.k8s.io", false, false, false),
    protocol("v4.base64.channel.k8s.io", true, false, false),
    protocol("", false, false, false),
];
const LOGS: [Protocol; 3] = [
    protocol("binary.k8s.io", false, false, false),
    protocol("base64.binary.k8s.io", true, false, false),
    protocol("", false, false, false),
];

/// A handshake that can be answered.
pub struct Upgrade {
    key: String,
    protocol: Protocol,
    on_upgrade: OnUpgrade,
}

pub(super) fn header<'a>(parts: &'a Parts, name: &http::HeaderName) -> &'a str {
    parts
        .headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}

/// Whether the client asks for a WebSocket.
pub fn is_wanted(parts: &Parts) -> bool {
    header(parts, &UPGRADE).eq_ignore_ascii_case("websocket")
}

/// Chooses the first protocol the client names that is known.
fn negotiate(parts: &Parts, known: &[Protocol]) -> Option<Protocol> {
    let offered: Vec<&str> = parts
        .headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .collect();
    let find = |name: &str| known.iter().find(|p| p.name == name).copied();
    if offered.is_empty() {
        find("")
    } else {
        offered.iter().find_map(|name| find(name))
    }
}

/// The connection beneath a request.
///
/// # Errors
/// It is one that has no upgrades.
pub fn connection(parts: &Parts) -> Result<OnUpgrade, StatusError> {
    let found = parts.extensions.get::<OnUpgrade>().cloned();
    found
        .ok_or_else(|| status::bad_request("unable to upgrade: this connection cannot be upgraded"))
}

fn begin(parts: &Parts, known: &[Protocol]) -> Result<Upgrade, StatusError> {
    if !is_wanted(parts) {
        return Err(status::bad_request("Upgrade request required"));
    }
    let on_upgrade = connection(parts)?;
    let Some(protocol) = negotiate(parts, known) else {
        return Err(status::bad_request(
            "unable to upgrade: none of the sub-protocols is known",
        ));
    };
    Ok(Upgrade {
        key: header(parts, &SEC_WEBSOCKET_KEY).to_owned(),
        protocol,
        on_upgrade,
    })
}

/// Checks that an exec or attach can become a WebSocket.
pub(super) fn prepare(parts: &Parts) -> Result<Upgrade, StatusError> {
    begin(parts, &CHANNELS)
}

/// Checks that a port forwarding can become a WebSocket.
pub(super) fn prepare_ports(parts: &Parts) -> Result<Upgrade, StatusError> {
    begin(parts, &PORTS)
}

impl Upgrade {
    /// Whether messages are pieces of one stream of bytes.
    pub(super) fn is_tunnel(&self) -> bool {
        self.protocol.name == TUNNEL
    }

    /// Answers 101 and lets `serve` talk once the connection is there.
    pub(super) fn accept<F>(
        self,
        serve: impl FnOnce(Socket, Protocol) -> F + Send + 'static,
    ) -> Response<()>
    where
        F: Future<Output = ()> + Send,
    {
        let Upgrade {
            key,
            protocol,
            on_upgrade,
        } = self;
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => {
                    let config = WebSocketConfig::default()
                        .max_message_size(Some(MESSAGE))
                        .max_frame_size(Some(MESSAGE));
                    let socket = WebSocketStream::from_raw_socket(
                        TokioIo::new(upgraded),
                        Role::Server,
                        Some(config),
                    )
                    .await;
                    serve(socket, protocol).await;
                }
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
        });
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if !protocol.name.is_empty() {
            headers.insert(
                SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(protocol.name),
            );
        }
        response
    }
}

/// A log as messages.
///
/// # Errors
/// What the client is to be told when this is not to be had.
pub fn logs(parts: &Parts, stream: LogStream) -> Result<Response<()>, StatusError> {
    let upgrade = begin(parts, &LOGS)?;
    Ok(upgrade.accept(move |socket, protocol| send_logs(socket, protocol, stream)))
}

async fn send_logs(mut socket: Socket, protocol: Protocol, mut stream: LogStream) {
    loop {
        let item = tokio::select! {
            item = stream.next() => item,
            // Nothing is expected from the client but its going away.
            message = socket.next() => match message {
                Some(Ok(message)) if !message.is_close() => continue,
                _ => return,
            },
        };
        let sent = match item {
            Some(Ok(bytes)) => socket.send(log_message(protocol, bytes)).await,
            Some(Err(error)) => {
                tracing::debug!(%error, "log stream");
                break;
            }
            None => break,
        };
        if sent.is_err() {
            return;
        }
    }
    // The client may have gone already.
    let _ = socket.close(None).await;
}

fn log_message(protocol: Protocol, bytes: Bytes) -> Message {
    if protocol.base64 {
        Message::text(super::channels::encode(&bytes))
    } else {
        Message::binary(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_known_protocol_is_chosen() {
        for (offered, want) in [
            ("v5.channel.k8s.io", Some("v5.channel.k8s.io")),
            (
                "v4.channel.k8s.io, v5.channel.k8s.io",
                Some("v4.channel.k8s.io"),
            ),
            (
                "base64url.bearer.authorization.k8s.io.x,base64.channel.k8s.io",
                Some("base64.channel.k8s.io"),
            ),
            ("unheard.of", None),
            ("", Some("")),
        ] {
            let request = http::Request::get("/")
                .header(SEC_WEBSOCKET_PROTOCOL, offered)
                .body(())
                .unwrap();
            let chosen = negotiate(&request.into_parts().0, &CHANNELS);
            assert_eq!(chosen.map(|p| p.name), want, "{offered}");
        }
    }
}
