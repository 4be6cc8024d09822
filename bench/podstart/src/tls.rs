//! TLS as a kubeconfig says it.

use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::kubeconfig::Access;

/// A client that trusts and shows what `access` says.
pub(crate) fn client(access: &Access) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match &access.authorities {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.context("read the certificate authority")?)?;
            }
            builder.with_root_certificates(roots)
        }
        // `insecure-skip-tls-verify`
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(skipverify::verifier(&provider)),
    };
    match &access.identity {
        Some((certificates, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificates)
                .collect::<Result<Vec<_>, _>>()
                .context("read the client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key).context("read the client key")?;
            Ok(builder.with_client_auth_cert(chain, key)?)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}
