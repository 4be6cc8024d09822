//! What is to be done about requests, as a table.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use ports::certificates::{Asked, Authority, CertificateError, Terms};
use serde_json::{Value, json};

use super::rules::{Step, plan};

/// An authority that reads what it was made with.
struct Reads(Asked);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a time")
}

impl Authority for Reads {
    fn read(&self, _: &[u8]) -> Result<Asked, CertificateError> {
        Ok(self.0.clone())
    }

    fn sign(&self, _: &[u8], _: Terms<'_>) -> Result<String, CertificateError> {
        Err(CertificateError::NoRequest)
    }

    fn end(&self) -> Timestamp {
        at(10_000_000)
    }

    fn end_of(&self, _: &[u8]) -> Option<Timestamp> {
        Some(at(1_800))
    }
}

fn node() -> Asked {
    Asked {
        common_name: "system:node:n".into(),
        organizations: vec!["system:nodes".into()],
        ..Asked::default()
    }
}

/// A request made at second 0.
fn request(spec: Value, status: Value) -> CertificateSigningRequest {
    let mut object = json!({"metadata": {"name": "r", "creationTimestamp": at(0).to_string()},
        "spec": {"request": "YQ==", "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth", "digital signature"]}, "status": status});
    for (name, value) in spec.as_object().into_iter().flatten() {
        object["spec"][name] = value.clone();
    }
    serde_json::from_value(object).expect("a request")
}

fn said(kind: &str, second: i64) -> Value {
    json!({"type": kind, "status": "True", "lastUpdateTime": at(second).to_string()})
}

fn approved() -> Value {
    json!({"conditions": [said("Approved", 0)]})
}

#[test]
fn nodes_are_approved_if_they_may() {
    let by = |user: &str| json!({"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "username": user});
    let permissions =
        |spec: Value, asked: Asked| match plan(&request(spec, json!({})), &Reads(asked), at(1)).0 {
            Step::Approve(all) => all.iter().map(|p| p.subresource).collect(),
            Step::Nothing => Vec::new(),
            other => panic!("{other:?}"),
        };
    assert_eq!(
        permissions(by("system:node:n"), node()),
        ["selfnodeclient", "nodeclient"]
    );
    assert_eq!(
        permissions(by("system:bootstrap:a"), node()),
        ["nodeclient"]
    );
    assert!(permissions(json!({}), node()).is_empty(), "another signer");
    let with_names = Asked {
        dns_names: vec!["n".into()],
        ..node()
    };
    assert!(permissions(by("system:node:n"), with_names).is_empty());
    let mut usages = by("system:node:n");
    usages["usages"] = json!(["server auth"]);
    assert!(permissions(usages, node()).is_empty());
}

#[test]
fn approved_requests_are_signed_or_refused() {
    let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
    let serving = "kubernetes.io/kubelet-serving";
    let named = || Asked {
        dns_names: vec!["n".into()],
        ..node()
    };
    let both = json!(["server auth", "digital signature", "key encipherment"]);
    for (spec, asked, expected) in [
        (json!({}), Asked::default(), None),
        (
            json!({"usages": ["server auth"]}),
            Asked::default(),
            Some("invalid usage for client certificate: server auth"),
        ),
        (
            json!({"usages": ["digital signature"]}),
            Asked::default(),
            Some("missing required usage for client certificate: client auth"),
        ),
        (json!({"signerName": kubelet}), node(), None),
        (
            json!({"signerName": kubelet}),
            Asked::default(),
            Some("subject organization is not system:nodes"),
        ),
        (
            json!({"signerName": kubelet}),
            named(),
            Some("DNS subjectAltNames are not allowed"),
        ),
        (
            json!({"signerName": kubelet, "usages": ["client auth"]}),
            node(),
            Some("usages did not match [client auth digital signature key encipherment]"),
        ),
        (
            json!({"signerName": serving, "usages": both}),
            named(),
            None,
        ),
        (
            json!({"signerName": serving, "usages": both}),
            node(),
            Some("DNS or IP subjectAltName is required"),
        ),
        (
            json!({"signerName": "kubernetes.io/legacy-unknown", "usages": ["any"]}),
            Asked::default(),
            None,
        ),
    ] {
        let step = plan(&request(spec.clone(), approved()), &Reads(asked), at(1)).0;
        match expected {
            Some(why) => assert_eq!(step, Step::Fail(why.to_owned()), "{spec}"),
            None => assert!(matches!(step, Step::Sign { .. }), "{spec} {step:?}"),
        }
    }
    let foreign = request(json!({"signerName": "example.com/s"}), approved());
    assert_eq!(plan(&foreign, &Reads(node()), at(1)).0, Step::Nothing);
}

#[test]
fn certificates_count_as_long_as_was_asked() {
    let year = 365 * 24 * 3600;
    for (asked, expected) in [
        (json!(null), year - 300),
        (json!(600), 600),
        (json!(3600), 3600),
        (json!(100_000), 100_000 - 300),
        (json!(2 * year), year - 300),
    ] {
        let request = request(json!({"expirationSeconds": asked}), approved());
        let Step::Sign { from, to } = plan(&request, &Reads(Asked::default()), at(0)).0 else {
            panic!("not signed");
        };
        assert_eq!((from, to), (at(-300), at(expected)), "{asked}");
    }
}

#[test]
fn requests_go_when_their_time_is_over() {
    const HOUR: i64 = 3600;
    let issued = |mut status: Value| {
        status["certificate"] = "YQ==".into();
        status
    };
    let denied = json!({"conditions": [said("Denied", 100)]});
    let failed = json!({"conditions": [said("Approved", 0), said("Failed", 100)]});
    for (behaviour, status, end) in [
        ("pending", json!({}), 24 * HOUR),
        ("denied", denied, HOUR + 100),
        ("failed", failed, HOUR + 100),
        ("approved, not issued", approved(), 24 * HOUR),
        (
            "issued, and over before its hour",
            issued(approved()),
            1_800,
        ),
    ] {
        let request = request(json!({"signerName": "example.com/s"}), status);
        let look = |second| plan(&request, &Reads(Asked::default()), at(second));
        let wake = at(end) + SignedDuration::from_secs(1);
        assert_eq!(look(end), (Step::Nothing, Some(wake)), "{behaviour}");
        assert_eq!(look(end + 1), (Step::Delete, None), "{behaviour}");
    }
    let signed = issued(json!({"conditions": [said("Mine", 0)]}));
    let forever = request(json!({}), signed);
    assert_eq!(
        plan(&forever, &Reads(Asked::default()), at(0)),
        (Step::Nothing, None)
    );
}
