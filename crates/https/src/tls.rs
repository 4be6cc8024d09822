//! TLS for a listener, and who a client certificate says its owner is (spec kubectl-and-api §19.2).

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

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

/// Whom a client certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The common name.
    pub name: String,
    /// The organisations.
    pub groups: Vec<String>,
}

impl Peer {
    /// Reads a certificate; `None` when it names nobody.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Peer> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups = subject.iter_organization();
        Some(Peer {
            name: name.to_owned(),
            groups: groups
                .filter_map(|o| o.as_str().ok())
                .map(str::to_owned)
                .collect(),
        })
    }
}

/// TLS 1.2 and 1.3, HTTP/2 and 1.1, client certificates of `authorities` wanted but not required. All in PEM.
///
/// # Errors
/// A text that is no key or certificate, or one of no use.
pub fn server_config(
    authorities: &str,
    certificate: &str,
    key: &str,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
