//! TLS to a container: encrypted, and trusted whoever it is, as upstream does (spec `§5.3`).

use rustls::Error;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::NOT_TLS;
use crate::handlers::kernel_text;

/// Begins TLS on a connection.
pub(super) async fn connect(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
    let config = skipverify::config().map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|error| {
        match error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<Error>())
        {
            Some(Error::InvalidMessage(_)) => NOT_TLS.to_owned(),
            Some(error) => format!("remote error: tls: {error}"),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            None => format!("read: {}", kernel_text(&error)),
        }
    })
}
