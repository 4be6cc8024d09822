//! A server on loopback, its authority, and clients of it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::{Client, Config};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::node::Cat;

/// A running server.
pub(crate) struct Served {
    address: SocketAddr,
    issuer: Issuer<'static, KeyPair>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    _state: tempfile::TempDir,
}

/// An API that knows one token, and lets administrators do everything and `reader` see figures.
async fn review(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    let spec = &review["spec"];
    let mut code = 201;
    review["status"] = if path.ends_with("/tokenreviews") {
        let user = json!({"username": "bot", "groups": ["system:masters"]});
        json!({"authenticated": spec["token"] == "known", "user": user})
    } else {
        let attributes = &spec["resourceAttributes"];
        assert_eq!(
            (&attributes["resource"], &attributes["name"]),
            (&json!("nodes"), &json!("n1"))
        );
        let is_admin = spec["groups"]
            .as_array()
            .unwrap()
            .contains(&json!("system:masters"));
        let reads = spec["user"] == "reader" && attributes["subresource"] == "stats";
        if spec["user"] == "broken" {
            code = 500;
        }
        json!({"allowed": is_admin || reads})
    };
    let answer = Response::builder().status(code);
    let body = Body::from(review.to_string().into_bytes());
    Ok(answer
        .header("content-type", "application/json")
        .body(body)
        .unwrap())
}

pub(crate) async fn start() -> Served {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let state = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let config = nodeserver::Config {
        node_name: "n1".into(),
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        state_dir: state.path().join("pki"),
        client_ca: authority.pem(),
    };
    let api = Client::new(tower::service_fn(review), "default");
    let server = nodeserver::Server::new(config, api, Arc::new(Cat)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(listener, shutdown.clone()));
    Served {
        address,
        issuer: Issuer::new(params, key),
        shutdown,
        serving,
        _state: state,
    }
}

impl Served {
    /// Somebody with a certificate of the cluster's authority.
    pub(crate) fn client(&self, name: &str, groups: &[&str]) -> Known {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CommonName, name);
        for group in groups {
            subject.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let user = json!({
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key.serialize_pem()),
        });
        self.with(user)
    }

    pub(crate) fn anonymous(&self) -> Known {
        self.with(json!({}))
    }

    pub(crate) fn token(&self, token: &str) -> Known {
        self.with(json!({"token": token}))
    }

    /// Somebody else's client, at this server.
    pub(crate) fn at_this(&self, other: &Known) -> Known {
        self.with(other.user.clone())
    }

    fn with(&self, user: Value) -> Known {
        let mut config = Config::new(format!("https://{}", self.address).parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info = serde_json::from_value(user.clone()).unwrap();
        Known {
            client: Client::try_from(config).unwrap(),
            user,
        }
    }

    /// Code and body.
    pub(crate) async fn get(client: &Client, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = client.send(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Ends it, and waits until it has ended.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

/// A client, and who it says it is.
pub(crate) struct Known {
    client: Client,
    user: Value,
}

impl std::ops::Deref for Known {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
