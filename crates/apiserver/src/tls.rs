//! TLS for the listener, and who a client certificate says its owner is (spec kubectl-and-api §19.2).

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::UserInfo;
use crate::pki::Pki;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The library refused a key or certificate.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    /// A PEM text is damaged.
    #[error("tls: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The client authority is not usable.
    #[error("tls: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// TLS 1.2 and 1.3, HTTP/2 and 1.1, client certificates of our own authority wanted but not required.
pub(crate) fn server_config(pki: &Pki) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca.as_bytes())?)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain = vec![CertificateDer::from_pem_slice(
        pki.server.certificate.as_bytes(),
    )?];
    let key = PrivateKeyDer::from_pem_slice(pki.server.key.as_bytes())?;
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// User = common name, groups = organisations; `None` when the certificate names nobody.
pub(crate) fn user_of(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?
        .to_owned();
    let groups: Vec<&str> = parsed
        .subject()
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .collect();
    Some(UserInfo::new(name, &groups))
}
