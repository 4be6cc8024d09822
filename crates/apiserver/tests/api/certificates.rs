//! Requests for certificates: who asks, who approves, and who signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ports::certificates::Terms;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::support::Server;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// A request of this group, in PEM.
fn pem(group: &str) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, "jane");
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn request(pem: &str, signer: &str) -> Value {
    json!({"metadata": {"name": "jane"}, "status": {"certificate": "YQ=="},
        "spec": {"request": STANDARD.encode(pem), "signerName": signer, "usages": ["client auth"], "username": "somebody"}})
}

fn approved() -> Value {
    json!({"type": "Approved", "status": "True", "reason": "r"})
}

#[tokio::test]
async fn a_request_says_who_asks_and_is_approved_and_signed_by_others() {
    let server = Server::start().await;
    let text = pem("team");
    let made = server
        .ask("POST", REQUESTS, request(&text, "example.com/s"))
        .await;
    assert_eq!(made.code, 201, "{}", made.message());
    assert_eq!(made.body["spec"]["username"], "admin");
    let groups = made.body["spec"]["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("system:masters")), "{groups:?}");
    assert_eq!(made.body["status"], json!({}));

    let path = format!("{REQUESTS}/jane");
    let with = |conditions: Value| json!({"status": {"conditions": conditions}});
    let ignored = server.ask("PATCH", &path, with(json!([approved()]))).await;
    assert_eq!((ignored.code, &ignored.body["status"]), (200, &json!({})));
    let refused = server
        .ask(
            "PATCH",
            &format!("{path}/status"),
            with(json!([approved()])),
        )
        .await;
    assert!(
        refused
            .message()
            .ends_with("updates may not add a condition of type \"Approved\""),
        "{}",
        refused.message()
    );
    let done = server
        .ask(
            "PATCH",
            &format!("{path}/approval"),
            with(json!([approved()])),
        )
        .await;
    let condition = &done.body["status"]["conditions"][0];
    assert!(
        condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string(),
        "{condition}"
    );

    let certificate = |text: &str| json!({"status": {"certificate": STANDARD.encode(text)}});
    let status = format!("{path}/status");
    let refused = server.ask("PATCH", &status, certificate("nothing")).await;
    assert!(
        refused.message().ends_with(
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"
        ),
        "{}",
        refused.message()
    );
    let usages = ["client auth".to_owned()];
    let terms = Terms {
        usages: &usages,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::MAX,
    };
    let authority = server.api.authority();
    let signed = authority.sign(text.as_bytes(), terms).unwrap();
    assert_eq!(
        authority.end_of(signed.as_bytes()),
        Some(authority.end()),
        "no longer than who signed it"
    );
    let done = server.ask("PATCH", &status, certificate(&signed)).await;
    assert_eq!(done.code, 200, "{}", done.message());
    let listed = server
        .get(&format!(
            "{REQUESTS}?fieldSelector=spec.signerName%3Dexample.com/s"
        ))
        .await;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let server = Server::start().await;
    let mut twisted = pem("team").into_bytes();
    // Within the key.
    let middle = twisted.len() / 2;
    twisted[middle] = if twisted[middle] == b'A' { b'B' } else { b'A' };
    let twisted = String::from_utf8(twisted).unwrap();
    for (text, expected) in [
        ("nothing", "PEM block type must be CERTIFICATE REQUEST"),
        (&*twisted, "spec.request: Invalid value"),
    ] {
        let refused = server.ask("POST", REQUESTS, request(text, CLIENT)).await;
        assert_eq!(refused.code, 422);
        assert!(
            refused.message().contains(expected),
            "{}",
            refused.message()
        );
    }
    let masters = request(&pem("system:masters"), CLIENT);
    let refused = server.ask("POST", REQUESTS, masters).await;
    assert_eq!(refused.code, 403);
    assert!(
        refused
            .message()
            .ends_with("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"),
        "{}",
        refused.message()
    );
}
