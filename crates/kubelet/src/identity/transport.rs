//! Connections to the server on which the agent shows the certificate it has at the time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::AuthInfo;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

/// A connection that nothing was heard on for so long is asked whether it still is one,
const QUIET: Duration = Duration::from_secs(30);
/// and given up when nothing it was sent arrives within this: a server that vanished closes nothing.
const PATIENCE: Duration = Duration::from_secs(45);

/// The certificate that is shown.
#[derive(Debug)]
pub(super) struct Presented(RwLock<Arc<CertifiedKey>>);

impl Presented {
    pub(super) fn new(certified: Arc<CertifiedKey>) -> Self {
        Presented(RwLock::new(certified))
    }

    /// Shows another on connections that are made from now on.
    pub(super) fn replace(&self, certified: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let presented = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(presented.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client of the server that `config` leads to; of what else is there nobody's credentials are used.
pub(super) fn client(
    config: &kube::Config,
    presented: Arc<Presented>,
) -> Result<Client, kube::Error> {
    let mut config = config.clone();
    config.auth_info = AuthInfo::default();
    let mut tls = config.rustls_client_config()?;
    tls.client_auth_cert_resolver = presented;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(QUIET));
    tcp.set_tcp_user_timeout(Some(PATIENCE));
    let https = HttpsConnector::from((tcp, tls));
    let service = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https);
    let builder = ClientBuilder::new(service, config.default_namespace.clone());
    Ok(builder.with_layer(&config.base_uri_layer()).build())
}
