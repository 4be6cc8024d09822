//! Connecting over TCP.

use tokio::net::TcpStream;

use super::{join, kernel_text};

/// Connects to a host, by name or address.
///
/// # Errors
/// Go's words: `dial tcp 10.0.0.5:80: connect: connection refused`.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = tokio::net::lookup_host((bare, port)).await;
    let addresses = addresses.map_err(|_| format!("dial tcp: lookup {bare}: no such host"))?;
    let mut failure = format!("dial tcp: lookup {bare}: no such host");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small requests: nothing is gained by waiting for more, and nothing lost if it cannot be turned off.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                let at = join(&address.ip().to_string(), address.port());
                failure = format!("dial tcp {at}: connect: {}", kernel_text(&error));
            }
        }
    }
    Err(failure)
}
