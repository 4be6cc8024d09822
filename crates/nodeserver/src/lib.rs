//! What a node's agent serves to others over HTTPS (upstream's kubelet server on port 10250): logs, processes, connections to ports, which
//! Pods there are and what they use. The API server of a cluster asks it for Pods that are not of its own node.
//!
//! Who asks is known by a client certificate of the cluster's authority, or by a token that the API server knows; what they may is asked of
//! the API server as well, request by request. Nobody unknown is told anything, not even that the server is well.
//!
//! It knows the node through [`ports::node::NodeServer`] alone. One task per connection, and one per connection that is no HTTP any more.

mod access;
mod certificate;
mod route;
mod serve;
mod streams;
mod usage;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ports::node::NodeServer;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use serve::Inner;

/// What the server must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name in the API.
    pub node_name: String,
    /// What the serving certificate is for, besides the node's name.
    pub addresses: Vec<IpAddr>,
    /// Where the serving certificate and its key are kept: `kubelet.crt` and `kubelet.key`.
    pub state_dir: PathBuf,
    /// The authorities whose client certificates are believed, in PEM.
    pub client_ca: String,
}

/// Why the server cannot be made.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the serving certificate could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The serving certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS settings.
    #[error(transparent)]
    Tls(#[from] https::TlsError),
}

/// The agent's server.
pub struct Server {
    inner: Arc<Inner>,
    tls: Arc<rustls::ServerConfig>,
}

impl Server {
    /// Serves `node`; `client` is the node's own way to the API, to ask who may do what.
    ///
    /// # Errors
    /// [`Error`]: files that cannot be read or written, or an authority that is none.
    pub fn new(
        config: Config,
        client: kube::Client,
        node: Arc<dyn NodeServer>,
    ) -> Result<Server, Error> {
        let identity = certificate::open(&config)?;
        let tls = https::server_config(&config.client_ca, &identity.certificate, &identity.key)?;
        let inner = Inner {
            node_name: config.node_name,
            client,
            node,
            stop: CancellationToken::new(),
        };
        Ok(Server {
            inner: Arc::new(inner),
            tls: Arc::new(tls),
        })
    }

    /// Serves `listener` until `shutdown`; then ends logs, lets requests finish for a few seconds, and returns.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let Server { inner, tls } = self;
        let stop = inner.stop.clone();
        let service = move |peer: Option<https::Peer>| {
            let (inner, peer) = (inner.clone(), peer.map(Arc::new));
            service_fn(move |request| inner.clone().answer(peer.clone(), request))
        };
        https::serve(listener, tls, stop, shutdown.cancelled_owned(), service).await;
    }
}
