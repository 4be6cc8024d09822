//! The server as a whole: made from settings, store and clock; serves a listener until told to stop.

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use ports::certificates::Authority;
use ports::clock::Clock;
use ports::node::NodeServer;
use ports::store::RevisionedStore;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::pki::{Pki, PkiError};
use crate::router::Router;
use crate::system::Metrics;
use crate::tls::{self, TlsError};
use crate::token::{TokenError, Tokens};
use crate::{bootstrap, expire, kubeconfig};

/// A client must finish its TLS handshake by then.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections get this long to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Requests a client may have open on one HTTP/2 connection.
const STREAMS: u32 = 1000;

/// Why the server cannot be made.
#[derive(Debug, Error)]
pub enum Error {
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS settings.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The service-account key.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The objects every cluster has could not be made.
    #[error("first objects: {0}")]
    Bootstrap(String),
}

/// What every request handler can reach.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn RevisionedStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tokens: Tokens,
    pub(crate) pki: Pki,
    pub(crate) metrics: Metrics,
    pub(crate) node: RwLock<Option<Arc<dyn NodeServer>>>,
    /// Serialises the choice of cluster IPs.
    pub(crate) addresses: tokio::sync::Mutex<()>,
    /// Held by writes that a quota is charged for, until they are stored.
    pub(crate) quotas: tokio::sync::Mutex<()>,
    pub(crate) shutdown: CancellationToken,
}

impl Inner {
    pub(crate) fn node(&self) -> Option<Arc<dyn NodeServer>> {
        self.node.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// The API server.
pub struct ApiServer {
    inner: Arc<Inner>,
    tls: Arc<rustls::ServerConfig>,
}

impl ApiServer {
    /// Reads or makes keys and certificates, and makes the objects every cluster has: the first namespaces, and Service
    /// and Endpoints `default/kubernetes`. Starts the task that expires Events; it ends with [`ApiServer::stop`] or on drop.
    ///
    /// # Errors
    /// [`Error`]: files in the state directory that cannot be read or written, or a store that refuses.
    pub async fn new(
        config: Config,
        store: Arc<dyn RevisionedStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<ApiServer, Error> {
        let pki = Pki::open(&config, clock.now())?;
        let tls = Arc::new(tls::server_config(&pki)?);
        let tokens = Tokens::new(&pki.token_key, &config.cluster_domain)?;
        let inner = Arc::new(Inner {
            config,
            store,
            clock,
            tokens,
            pki,
            metrics: Metrics::default(),
            node: RwLock::new(None),
            addresses: tokio::sync::Mutex::new(()),
            quotas: tokio::sync::Mutex::new(()),
            shutdown: CancellationToken::new(),
        });
        bootstrap::run(&inner)
            .await
            .map_err(|e| Error::Bootstrap(e.message.clone()))?;
        tokio::spawn(expire::run(inner.clone()));
        Ok(ApiServer { inner, tls })
    }

    /// The address that the Service `kubernetes` has in this store: the first of the range of Services; none before the first start.
    pub fn kubernetes_address(store: &dyn RevisionedStore) -> Option<IpAddr> {
        bootstrap::address(store, "default", "kubernetes")
    }

    /// The ranges of Services in this store, as `ServiceCIDR` has them; none before the first start.
    pub fn service_ranges(store: &dyn RevisionedStore) -> Vec<String> {
        bootstrap::service_ranges(store)
    }

    /// The address of the Service `kube-dns`; none where there is no name server.
    pub fn dns_address(store: &dyn RevisionedStore) -> Option<IpAddr> {
        bootstrap::address(store, "kube-system", "kube-dns")
    }

    /// The API without sockets. Requests are anonymous; see [`Router::with_user`].
    pub fn router(&self) -> Router {
        Router::new(self.inner.clone())
    }

    /// Sets who serves logs, exec and attach. Until then they answer 503.
    pub fn set_node_server(&self, node: Arc<dyn NodeServer>) {
        *self.inner.node.write().unwrap_or_else(|e| e.into_inner()) = Some(node);
    }

    /// The certificate authority, PEM: what `kube-root-ca.crt` holds.
    pub fn ca_certificate(&self) -> &str {
        &self.inner.pki.ca
    }

    /// The certificate authority, for whoever has it sign certificates.
    pub fn authority(&self) -> Arc<dyn Authority> {
        self.inner.pki.signer.clone()
    }

    /// A kubeconfig for the administrator.
    pub fn kubeconfig(&self) -> String {
        let pki = &self.inner.pki;
        let server = format!("https://{}", self.inner.config.address);
        kubeconfig::render(&server, &pki.ca, &pki.admin.certificate, &pki.admin.key)
    }

    /// Writes [`ApiServer::kubeconfig`] to `path`, readable by its owner only, in one step.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write_kubeconfig(&self, path: &Path) -> std::io::Result<()> {
        kubeconfig::write_private(path, self.kubeconfig().as_bytes())
    }

    /// Ends every watch and stream, and the server's own task. [`ApiServer::serve`] calls it when it stops.
    pub fn stop(&self) {
        self.inner.shutdown.cancel();
    }

    /// Serves HTTPS on `listener` until `shutdown`; then ends watches, lets requests finish for a few seconds, and returns.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let acceptor = TlsAcceptor::from(self.tls.clone());
        let connections = TaskTracker::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let stop = self.inner.shutdown.clone();
                    connections.spawn(connection(stream, acceptor.clone(), self.router(), stop));
                }
                Err(error) => {
                    // Out of descriptors or memory: other connections have to end first.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        self.stop();
        connections.close();
        if tokio::time::timeout(DRAIN, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!("some connections did not end in time");
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    stop: CancellationToken,
) {
    // Without it small answers wait for the client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "tls handshake failed"),
        Err(_) => return tracing::debug!("tls handshake took too long"),
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let router = match certificate.and_then(tls::user_of) {
        Some(user) => router.with_user(user),
        None => router,
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS);
    let mut serving = pin!(
        builder
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
