//! The server as a whole: made from settings, store and clock; serves a listener until told to stop.

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, RwLock};

use https::TlsError;
use ports::certificates::Authority;
use ports::clock::Clock;
use ports::node::NodeServer;
use ports::store::RevisionedStore;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::identity::UserInfo;
use crate::pki::{Pki, PkiError};
use crate::router::Router;
use crate::system::Metrics;
use crate::token::{TokenError, Tokens};
use crate::{bootstrap, expire, kubeconfig};

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

/// The name of a node, and its agent.
type OwnNode = (Arc<str>, Arc<dyn NodeServer>);

/// What every request handler can reach.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn RevisionedStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tokens: Tokens,
    pub(crate) pki: Pki,
    pub(crate) metrics: Metrics,
    /// The node whose agent is in this process.
    node: RwLock<Option<OwnNode>>,
    /// How other nodes' agents are talked to.
    pub(crate) towards_nodes: Arc<rustls::ClientConfig>,
    /// Serialises the choice of cluster IPs.
    pub(crate) addresses: tokio::sync::Mutex<()>,
    /// Held by writes that a quota is charged for, until they are stored.
    pub(crate) quotas: tokio::sync::Mutex<()>,
    pub(crate) shutdown: CancellationToken,
}

impl Inner {
    pub(crate) fn own_node(&self) -> Option<OwnNode> {
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
        let tls = Arc::new(https::server_config(
            &pki.ca,
            &pki.server.certificate,
            &pki.server.key,
        )?);
        let towards_nodes = Arc::new(pki.towards_nodes()?);
        let tokens = Tokens::new(&pki.token_key, &config.cluster_domain)?;
        let inner = Arc::new(Inner {
            config,
            store,
            clock,
            tokens,
            pki,
            metrics: Metrics::default(),
            node: RwLock::new(None),
            towards_nodes,
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

    /// Sets the agent of node `name`, which is in this process: it serves logs, exec and attach of that node's Pods. Until then they
    /// answer 503. Those of other nodes are asked of the agents there.
    pub fn set_node_server(&self, name: &str, agent: Arc<dyn NodeServer>) {
        let own = Some((name.into(), agent));
        *self.inner.node.write().unwrap_or_else(|e| e.into_inner()) = own;
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
        let router = self.router();
        let service = move |peer: Option<https::Peer>| match peer {
            Some(https::Peer { name, groups }) => {
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                router.with_user(UserInfo::new(name, &groups))
            }
            None => router.clone(),
        };
        let stop = self.inner.shutdown.clone();
        https::serve(listener, self.tls.clone(), stop, shutdown, service).await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}
