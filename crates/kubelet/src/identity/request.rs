//! A key, and the certificate that the cluster's authority signs for it.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{IdentityError, api, user_of};

/// The signer for nodes as clients of the API.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The group of all nodes' agents.
const NODES: &str = "system:nodes";

/// A key and its certificate.
pub(super) struct Pair {
    /// Both, in PEM.
    pub(super) pem: Vec<u8>,
    pub(super) certified: Arc<CertifiedKey>,
    /// Who has it.
    pub(super) user: String,
    /// From when and until when it counts.
    pub(super) validity: (Timestamp, Timestamp),
}

impl Pair {
    /// Reads a certificate and its key in PEM; `None` if they are none or do not belong together.
    pub(super) fn parse(pem: &[u8]) -> Option<Self> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.ok()?;
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let (_, first) = X509Certificate::from_der(certificates.first()?).ok()?;
        let mut names = first.subject().iter_common_name();
        let user = names.next()?.as_str().ok()?.to_owned();
        let [from, to] = [first.validity().not_before, first.validity().not_after];
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let validity = (at(from)?, at(to)?);
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(certificates.clone(), key, &provider).ok()?;
        Some(Pair {
            pem: pem.to_owned(),
            certified: Arc::new(certified),
            user,
            validity,
        })
    }
}

/// Makes a key for the agent of a node and has its certificate signed.
pub(super) async fn sign(asker: &Client, node: &str) -> Result<Pair, IdentityError> {
    let key = KeyPair::generate().map_err(|error| IdentityError::Key(error.to_string()))?;
    let text = request(&key, node).map_err(|error| IdentityError::Key(error.to_string()))?;
    let requests: Api<CertificateSigningRequest> = Api::all(asker.clone());
    let wanted = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("node-csr-".into()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(text.into_bytes()),
            signer_name: SIGNER.into(),
            usages: Some(vec!["digital signature".into(), "client auth".into()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let made = requests.create(&PostParams::default(), &wanted).await;
    let made = made.map_err(|source| api("ask for a certificate of the node", source))?;
    let certificate = signed(requests, &made.name_any()).await?;
    let pem = [certificate.as_slice(), key.serialize_pem().as_bytes()].concat();
    let pair = Pair::parse(&pem);
    pair.ok_or_else(|| IdentityError::Certificate("it does not belong to the key".into()))
}

fn request(key: &KeyPair, node: &str) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let subject = &mut params.distinguished_name;
    subject.push(DnType::OrganizationName, NODES);
    subject.push(DnType::CommonName, user_of(node));
    params.serialize_request(key)?.pem()
}

/// Waits for what becomes of a request.
async fn signed(
    requests: Api<CertificateSigningRequest>,
    name: &str,
) -> Result<Vec<u8>, IdentityError> {
    let refused = |why: &str| IdentityError::Refused {
        name: name.to_owned(),
        why: why.to_owned(),
    };
    let mut seen = pin!(watcher::watch_object(requests, name).default_backoff());
    let mut is_told = false;
    while let Some(found) = seen.next().await {
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Err(refused("it is gone")),
            Err(error) => {
                tracing::warn!(%error, "watching the request for a certificate");
                continue;
            }
        };
        match outcome(&found) {
            Some(Ok(certificate)) => return Ok(certificate),
            Some(Err(why)) => return Err(refused(&why)),
            None if !is_told => {
                tracing::info!(request = name, "waiting for a certificate of the node");
                is_told = true;
            }
            None => {}
        }
    }
    Err(refused("the watch of it ended"))
}

/// The certificate, or why there will be none; `None` while that is open.
fn outcome(request: &CertificateSigningRequest) -> Option<Result<Vec<u8>, String>> {
    let status = request.status.as_ref()?;
    let ended = |kind: &&str| ["Denied", "Failed"].contains(kind);
    let mut conditions = status.conditions.iter().flatten();
    if let Some(end) = conditions.find(|condition| ended(&condition.type_.as_str())) {
        let message = end.message.clone().unwrap_or_default();
        return Some(Err(format!("{}: {message}", end.type_)));
    }
    let certificate = status.certificate.as_ref().filter(|c| !c.0.is_empty());
    certificate.map(|certificate| Ok(certificate.0.clone()))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A certificate and its key in PEM, of this user.
    pub(crate) fn pair(user: &str) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        let now = Timestamp::now().as_second();
        let year = 366 * 86_400;
        let at = |second| {
            rcgen::date_time_ymd(1970 + i32::try_from(second / year).expect("a year"), 1, 1)
        };
        params.not_before = at(now - year);
        params.not_after = at(now + 3 * year);
        let certificate = params.self_signed(&key).expect("signs");
        [certificate.pem(), key.serialize_pem()]
            .concat()
            .into_bytes()
    }

    #[test]
    fn a_pair_is_read_if_both_belong_together() {
        let mine = pair("system:node:n");
        let read = Pair::parse(&mine).expect("a pair");
        assert_eq!(read.user, "system:node:n");
        assert!(read.validity.0 < Timestamp::now() && Timestamp::now() < read.validity.1);
        let text = |pem: &[u8]| String::from_utf8(pem.to_owned()).expect("text");
        let (certificate, _) = text(&mine)
            .split_once("-----BEGIN PRIVATE")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("two parts");
        let other = text(&pair("system:node:n"));
        let (_, key) = other.split_once("-----BEGIN PRIVATE").expect("two parts");
        let mixed = format!("{certificate}-----BEGIN PRIVATE{key}");
        for wrong in ["", &certificate, &mixed] {
            assert!(Pair::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_request_is_open_until_it_is_signed_or_refused() {
        let certificate = || Some(Ok(b"c".to_vec()));
        let refused = |why: &str| Some(Err(why.to_owned()));
        let condition = |kind: &str| json!({"type": kind, "status": "True", "message": "why"});
        for (status, expected) in [
            (json!({}), None),
            (json!({"conditions": [condition("Approved")]}), None),
            (
                json!({"conditions": [condition("Approved")], "certificate": ""}),
                None,
            ),
            (
                json!({"conditions": [condition("Approved")], "certificate": "Yw=="}),
                certificate(),
            ),
            (
                json!({"conditions": [condition("Denied")]}),
                refused("Denied: why"),
            ),
            (
                json!({"conditions": [condition("Approved"), condition("Failed")]}),
                refused("Failed: why"),
            ),
        ] {
            let request = json!({"spec": {"request": "", "signerName": SIGNER}, "status": status});
            let request = serde_json::from_value(request).expect("a request");
            assert_eq!(outcome(&request), expected, "{status}");
        }
    }

    #[test]
    fn what_is_asked_for_is_a_nodes_and_nothing_else() {
        let key = KeyPair::generate().expect("a key");
        let text = request(&key, "n").expect("a request");
        let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).expect("PEM");
        let (_, asked) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents)
                .expect("a request");
        let subject = asked.certification_request_info.subject.to_string();
        assert_eq!(subject, "O=system:nodes, CN=system:node:n");
        assert!(
            asked
                .requested_extensions()
                .is_none_or(|mut all| all.next().is_none())
        );
    }
}
