//! TLS to a container: encrypted, and trusted whoever it is, as upstream does (spec `§5.3`).

use std::sync::{Arc, LazyLock};

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::NOT_TLS;
use crate::handlers::kernel_text;

static CONFIG: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(skipverify::verifier(&provider))
        .with_no_client_auth();
    Ok(Arc::new(config))
});

/// Begins TLS on a connection.
pub(super) async fn connect(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
    let config = CONFIG.clone().map_err(|error| error.to_string())?;
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
