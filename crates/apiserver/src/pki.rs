//! The server's own certificate authority, its certificates and the service-account key, kept in the state directory.
//!
//! `ca.crt`, `ca.key` and `sa.key` are made once and kept; the serving certificate and those of the administrator and of this server
//! as a client are made anew at every
//! start, for the addresses of that start.

pub(crate) mod request;
mod sign;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use https::TlsError;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::config::Config;
use crate::identity::MASTERS;
use crate::kubeconfig::write_private;
use sign::Signer;

/// Why keys or certificates are not to be had.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A key or certificate could not be made or read.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Everything made from the state directory.
pub(crate) struct Pki {
    /// The authority's certificate, PEM.
    pub(crate) ca: String,
    /// What the server shows.
    pub(crate) server: Identity,
    /// What the administrator shows: group `system:masters`.
    pub(crate) admin: Identity,
    /// What the server shows to the agents of nodes: the same group.
    kubelet_client: Identity,
    /// The key service-account tokens are signed with: PKCS#8 DER, P-256.
    pub(crate) token_key: Vec<u8>,
    /// The authority, to sign for others.
    pub(crate) signer: Arc<Signer>,
}

impl Pki {
    pub(crate) fn open(config: &Config, now: Timestamp) -> Result<Pki, PkiError> {
        let dir = &config.state_dir;
        std::fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
        let key = key(&dir.join("ca.key"))?;
        let ca = match read(&dir.join("ca.crt"))? {
            Some(ca) => ca,
            None => {
                let ca = authority(&key, now)?;
                write(&dir.join("ca.crt"), &ca)?;
                ca
            }
        };
        let own = KeyPair::from_pem(&key.serialize_pem())?;
        let signer = Signer::new(&ca, own).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        let issuer = Issuer::from_ca_cert_pem(&ca, key)?;
        let server = issue(serving(config, now)?, &issuer)?;
        let admin = issue(client("kubernetes-admin", MASTERS, now)?, &issuer)?;
        let kubelet_client = client("kube-apiserver-kubelet-client", MASTERS, now)?;
        let kubelet_client = issue(kubelet_client, &issuer)?;
        let token_key = self::key(&dir.join("sa.key"))?.serialize_der();
        Ok(Pki {
            ca,
            server,
            admin,
            kubelet_client,
            token_key,
            signer: Arc::new(signer),
        })
    }

    /// TLS towards the agents of nodes, whose certificates are signed by nobody in particular.
    pub(crate) fn towards_nodes(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = skipverify::verifier(&provider);
        let Identity { certificate, key } = &self.kubelet_client;
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain, key)?;
        Ok(config)
    }
}

fn file_error(path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File {
        path: path.display().to_string(),
        source,
    }
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error(path, e)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    write_private(path, text.as_bytes()).map_err(|e| file_error(path, e))
}

/// The key in `path`, made when there is none.
fn key(path: &Path) -> Result<KeyPair, PkiError> {
    match read(path)? {
        Some(pem) => Ok(KeyPair::from_pem(&pem)?),
        None => {
            let key = KeyPair::generate()?;
            write(path, &key.serialize_pem())?;
            Ok(key)
        }
    }
}

fn params(
    names: Vec<String>,
    subject: &[(DnType, &str)],
    now: Timestamp,
    days: i64,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    for (kind, value) in subject {
        name.push(kind.clone(), *value);
    }
    params.distinguished_name = name;
    // From yesterday, for clocks that are behind.
    let date = |days: i64| {
        let day = now
            .to_zoned(TimeZone::UTC)
            .date()
            .saturating_add(days.days());
        rcgen::date_time_ymd(
            day.year().into(),
            day.month().unsigned_abs(),
            day.day().unsigned_abs(),
        )
    };
    params.not_before = date(-1);
    params.not_after = date(days);
    Ok(params)
}

fn authority(key: &KeyPair, now: Timestamp) -> Result<String, rcgen::Error> {
    let mut params = params(Vec::new(), &[(DnType::CommonName, "kubernetes")], now, 3650)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    Ok(params.self_signed(key)?.pem())
}

fn serving(config: &Config, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ]
    .map(String::from)
    .into();
    names.push(format!("kubernetes.default.svc.{}", config.cluster_domain));
    let mut addresses: Vec<IpAddr> = vec![
        "127.0.0.1".parse().unwrap_or(config.address.ip()),
        config.service_range.first(),
        config.address.ip(),
    ];
    addresses.extend(config.advertise.map(|a| a.ip()));
    addresses.extend(&config.extra_addresses);
    addresses.sort();
    addresses.dedup();
    names.extend(addresses.iter().map(ToString::to_string));
    let mut params = params(names, &[(DnType::CommonName, "kube-apiserver")], now, 365)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn client(name: &str, group: &str, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let subject = [
        (DnType::OrganizationName, group),
        (DnType::CommonName, name),
    ];
    let mut params = params(Vec::new(), &subject, now, 365)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn issue(params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<Identity, PkiError> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
