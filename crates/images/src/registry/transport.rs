//! HTTP/1.1 to one endpoint, over TLS with the endpoint's own authorities and client certificate.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ports::images::ImageError;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::refused;
use crate::hosts::Endpoint;

/// A pool of connections.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Transport {
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self, ImageError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(endpoint.dial_timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(endpoint)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
        })
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        self.client.request(request).await
    }
}

fn tls(endpoint: &Endpoint) -> Result<ClientConfig, ImageError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = versions.map_err(|e| refused("TLS settings", e))?;
    let builder = if endpoint.skip_verify {
        // Content is still checked by digest.
        builder
            .dangerous()
            .with_custom_certificate_verifier(skipverify::verifier(&provider))
    } else {
        builder.with_root_certificates(roots(endpoint)?)
    };
    let Some((certificate, key)) = endpoint.client.first() else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| refused(key.display(), e))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|e| refused(certificate.display(), e))
}

/// The system's authorities, read once, and the endpoint's own.
fn roots(endpoint: &Endpoint) -> Result<RootCertStore, ImageError> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| {
        let mut store = RootCertStore::empty();
        let (_, unusable) =
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        tracing::debug!(
            usable = store.len(),
            unusable,
            "system certificate authorities"
        );
        store
    });
    let mut store = system.clone();
    for file in &endpoint.ca {
        for certificate in certificates(file)? {
            store
                .add(certificate)
                .map_err(|e| refused(file.display(), e))?;
        }
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ImageError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(refused(file.display(), "no certificate in it")),
        other => other.map_err(|e| refused(file.display(), e)),
    }
}
