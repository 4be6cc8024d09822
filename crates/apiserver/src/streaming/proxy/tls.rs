//! TLS towards a Pod. Its certificate is nobody's business here: the way to it leads through the node, not over a network.

use std::net::IpAddr;

use api::status::StatusError;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::unreachable;

/// Begins TLS on a connection to the Pod, which is asked for by its address.
pub(super) async fn connect<S>(pod: &Value, stream: S) -> Result<TlsStream<S>, StatusError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error: &dyn std::fmt::Display| unreachable(&error.to_string());
    let config = skipverify::config().map_err(|error| failed(&error))?;
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
    let ip: IpAddr = ip.parse().map_err(|error| failed(&error))?;
    let name = ServerName::IpAddress(ip.into());
    let connected = TlsConnector::from(config).connect(name, stream);
    connected.await.map_err(|error| failed(&error))
}
