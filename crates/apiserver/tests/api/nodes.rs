//! Pods of other nodes: over HTTPS to the real server of an agent, before a node that is none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::UserInfo;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, AttachParams, PostParams};
use kube::config::Kubeconfig;
use ports::node::{LogOptions, NodeError, NodeServer, Target, Usage, Used};
use ports::streams::{ExecRequest, LogStream, Reader, Session, Writer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use spdy::{Decoder, Encoder, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::https::{self, Cat, Https, bound_pod, running_pod};

/// A node whose logs tell its name, whose processes give back their input, and which knows what its Pods use.
struct Named {
    name: &'static str,
    pods: Api<Pod>,
}

#[async_trait]
impl NodeServer for Named {
    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogStream, NodeError> {
        let Target { pod, container, .. } = target;
        if options.previous {
            return Err(NodeError {
                code: 400,
                message: "previous terminated container \"c\" in pod \"far\" not found".into(),
            });
        }
        let text = format!("{}: {pod}/{container} {:?}", self.name, options.tail_lines);
        Ok(futures::stream::iter([Ok(text.into())]).boxed())
    }
    async fn exec(&self, target: &Target, request: ExecRequest) -> Result<Session, NodeError> {
        Cat.exec(target, request).await
    }
    async fn attach(&self, target: &Target, stdin: bool) -> Result<Session, NodeError> {
        Cat.attach(target, stdin).await
    }
    async fn port_forward(
        &self,
        target: &Target,
        port: u16,
    ) -> Result<(Reader, Writer), NodeError> {
        Cat.port_forward(target, port).await
    }
    async fn pods(&self) -> Vec<Value> {
        let all = self.pods.list(&Default::default()).await.unwrap();
        let is_it = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(self.name);
        let own = all.items.into_iter().filter(is_it);
        own.map(|pod| serde_json::to_value(pod).unwrap()).collect()
    }
    async fn usage(&self, pods: &BTreeSet<String>) -> Result<Usage, NodeError> {
        let used = Used {
            nano_cpus: if self.name == "n1" { 1 } else { 2 },
            cpu_ns: 0,
            memory_bytes: 4096,
        };
        let containers = BTreeMap::from([("c".to_owned(), used)]);
        Ok(Usage {
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            window: Duration::from_millis(500),
            node_name: self.name.into(),
            node: used,
            pods: pods
                .iter()
                .map(|uid| (uid.clone(), containers.clone()))
                .collect(),
        })
    }
}

/// A server with a node of its own, `n1`, and another, `n2`, with Pods `p` and `far`.
struct Two {
    https: Https,
    pods: Api<Pod>,
    port: u16,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _state: tempfile::TempDir,
}

impl Two {
    async fn start() -> Two {
        let https = https::start().await;
        let pods = running_pod(&https.client).await;
        bound_pod(&https.client, "far", "n2").await;
        let node = |name| {
            let pods = pods.clone();
            Arc::new(Named { name, pods })
        };
        https.api.set_node_server("n1", node("n1"));
        let state = tempfile::tempdir().unwrap();
        let config = nodeserver::Config {
            node_name: "n2".into(),
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            state_dir: state.path().join("pki"),
            client_ca: https.api.ca_certificate().to_owned(),
        };
        let as_node = https.api.router().with_user(UserInfo::node("n2"));
        let client = kube::Client::new(as_node, "default");
        let server = nodeserver::Server::new(config, client, node("n2")).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(listener, stop.clone()));
        let two = Two {
            https,
            pods,
            port,
            stop,
            serving,
            _state: state,
        };
        two.register("n1", 0).await;
        two.register("n2", port).await;
        two
    }

    async fn register(&self, name: &str, port: u16) {
        let nodes: Api<Node> = Api::all(self.https.client.clone());
        let node = json!({
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "Hostname", "address": "nowhere.invalid"}, {"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        });
        let node: Node = serde_json::from_value(node).unwrap();
        let mut made = nodes.create(&PostParams::default(), &node).await.unwrap();
        made.status = node.status;
        nodes
            .replace_status(name, &PostParams::default(), &made)
            .await
            .unwrap();
    }

    /// The administrator asks, without a socket.
    async fn ask(&self, request: Request<Empty<Bytes>>) -> Response<apiserver::Body> {
        let admin = UserInfo::admin("admin");
        let router = self.https.api.router().with_user(admin);
        router.oneshot(request).await.unwrap()
    }

    /// Code and body.
    async fn get(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Empty::new()).unwrap();
        let answer = self.ask(request).await;
        let code = answer.status().as_u16();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await;
        let body = body.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Ends the other node's server.
    async fn lose(&mut self) {
        self.stop.cancel();
        (&mut self.serving).await.unwrap();
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn logs_come_from_the_node_that_has_the_pod() {
    let mut two = Two::start().await;
    for (path, code, text) in [
        ("p/log?tailLines=2", 200, "n1: p/c Some(2)"),
        ("far/log?tailLines=2", 200, "n2: far/c Some(2)"),
        (
            "far/log?container=x",
            400,
            "container x is not valid for pod far",
        ),
        (
            "far/log?previous=true",
            400,
            r#"previous terminated container \"c\" in pod \"far\" not found"#,
        ),
    ] {
        let (got, body) = two.get(&format!("{PODS}/{path}")).await;
        assert!(got == code && body.contains(text), "{path}: {got} {body}");
    }
    two.lose().await;
    let (code, body) = two.get(&format!("{PODS}/far/log")).await;
    assert_eq!(code, 500);
    assert!(
        body.contains("error dialing backend: dial tcp 127.0.0.1:"),
        "{body}"
    );
    let (code, body) = two.get(&format!("{PODS}/p/log")).await;
    assert_eq!((code, body.as_str()), (200, "n1: p/c None"));
}

#[tokio::test]
async fn processes_and_ports_of_another_node_are_reached_over_websockets() {
    let two = Two::start().await;
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = two.pods.exec("far", ["cat"], &params).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let mut output = String::new();
    let mut stdout = process.stdout().unwrap();
    stdout.read_to_string(&mut output).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(
        (output.as_str(), status.reason.as_deref()),
        ("hello", Some("NonZeroExitCode"))
    );
    // What the agent says instead of talking is passed on.
    let refused = two.pods.attach("far", &params).await.err().unwrap();
    assert!(refused.to_string().contains("500"), "{refused}");

    let mut ports = two.pods.portforward("far", &[80]).await.unwrap();
    let mut stream = ports.take_stream(80).unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

/// A connection to the server with the administrator's certificate.
async fn connect(https: &Https) -> hyper::client::conn::http1::SendRequest<Empty<Bytes>> {
    let config = Kubeconfig::from_yaml(&https.api.kubeconfig()).unwrap();
    let config = serde_json::to_value(&config).unwrap();
    let pem = |field: &str| {
        let text = config["users"][0]["user"][field].as_str().unwrap();
        STANDARD.decode(text).unwrap()
    };
    let chain = CertificateDer::from_pem_slice(&pem("client-certificate-data")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem("client-key-data")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = skipverify::verifier(&provider);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![chain], key)
        .unwrap();
    let stream = TcpStream::connect(https.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

#[tokio::test]
async fn a_process_of_another_node_is_reached_over_spdy() {
    let two = Two::start().await;
    let mut sender = connect(&two.https).await;
    let ask = |protocol: &str| {
        Request::post(format!(
            "{PODS}/far/exec?command=cat&stdin=true&stdout=true"
        ))
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", protocol)
        .body(Empty::new())
        .unwrap()
    };
    let unknown = sender
        .send_request(ask("v99.channel.k8s.io"))
        .await
        .unwrap();
    assert_eq!(unknown.status(), StatusCode::FORBIDDEN);
    assert!(
        unknown
            .headers()
            .contains_key("x-accepted-stream-protocol-versions")
    );

    let mut sender = connect(&two.https).await;
    let answer = sender.send_request(ask("v4.channel.k8s.io")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(
        answer.headers()["x-stream-protocol-version"],
        "v4.channel.k8s.io"
    );
    let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        let headers = vec![("streamtype".to_owned(), kind.to_owned())];
        let frame = Frame::SynStream {
            stream,
            fin: false,
            headers,
        };
        encoder.encode(&frame, &mut bytes);
    }
    let input = Frame::Data {
        stream: 3,
        fin: true,
        data: b"hello".to_vec(),
    };
    encoder.encode(&input, &mut bytes);
    io.write_all(&bytes).await.unwrap();
    let mut received = Vec::new();
    // It may end without saying so in TLS.
    let _ = io.read_to_end(&mut received).await;
    let mut decoder = Decoder::default();
    decoder.feed(&received);
    let mut seen: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        if let Frame::Data { stream, data, .. } = frame {
            seen.entry(stream).or_default().extend(data);
        }
    }
    assert_eq!(seen[&5], b"hello");
    let status: Value = serde_json::from_slice(&seen[&1]).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");
}

#[tokio::test]
async fn an_agent_is_asked_through_the_api() {
    let two = Two::start().await;
    let nodes = "/api/v1/nodes";
    for (path, code, text) in [
        ("n2/proxy/healthz", 200, "ok"),
        ("n2/proxy/pods", 200, r#""name":"far""#),
        (
            "n2/proxy/containerLogs/default/far/c?tailLines=1",
            200,
            "n2: far/c Some(1)",
        ),
        ("n2/proxy/nowhere", 404, "404 page not found"),
        (
            "n2:1/proxy/healthz",
            400,
            "the port is not that of the agent",
        ),
        ("ftp:n2:1/proxy/healthz", 400, "invalid node request"),
        (
            "n1/proxy/healthz",
            404,
            "the agent of node n1 is in the same process as this server",
        ),
        ("n3/proxy/healthz", 404, "nodes \\\"n3\\\" not found"),
    ] {
        let (got, body) = two.get(&format!("{nodes}/{path}")).await;
        assert!(got == code && body.contains(text), "{path}: {got} {body}");
    }
    let (code, body) = two
        .get(&format!("{nodes}/https:n2:{}/proxy/healthz", two.port))
        .await;
    assert_eq!((code, body.as_str()), (200, "ok"));
    // Who may not use the API may not use its certificate either.
    let path = format!("{nodes}/n2/proxy/healthz");
    let request = Request::get(path).header("impersonate-user", "someone");
    let answer = two.ask(request.body(Empty::new()).unwrap()).await;
    assert_eq!(answer.status(), 403);
    two.register("n4", 0).await;
    let (code, body) = two.get(&format!("{nodes}/n4/proxy/healthz")).await;
    assert!(
        code == 503 && body.contains("the agent of node n4 is not ready"),
        "{code} {body}"
    );
}

#[tokio::test]
async fn every_node_says_what_it_uses() {
    let mut two = Two::start().await;
    let figures = async |two: &Two, path: &str| {
        let (code, body) = two
            .get(&format!("/apis/metrics.k8s.io/v1beta1/{path}"))
            .await;
        assert_eq!(code, 200, "{body}");
        let list: Value = serde_json::from_str(&body).unwrap();
        let item = |item: &Value| {
            let usage = match item["containers"].as_array() {
                Some(containers) => &containers[0]["usage"],
                None => &item["usage"],
            };
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            format!(
                "{} {}",
                text(&item["metadata"]["name"]),
                text(&usage["cpu"])
            )
        };
        let items = list["items"].as_array().unwrap();
        items.iter().map(item).collect::<Vec<_>>()
    };
    let pods = "namespaces/default/pods";
    assert_eq!(figures(&two, "nodes").await, ["n1 1n", "n2 2n"]);
    assert_eq!(figures(&two, pods).await, ["far 2n", "p 1n"]);
    two.lose().await;
    assert_eq!(figures(&two, "nodes").await, ["n1 1n"]);
    assert_eq!(figures(&two, pods).await, ["p 1n"]);
    let (code, body) = two.get("/apis/metrics.k8s.io/v1beta1/nodes/n2").await;
    assert!(code == 404 && body.contains("not found"), "{code} {body}");
}

#[tokio::test]
async fn a_pod_of_another_node_is_asked_at_its_address() {
    let two = Two::start().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 5];
        stream.read_exact(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
        stream.write_all(answer).await.unwrap();
        request
    });
    let path = format!("{PODS}/far:{port}/proxy/");
    let (code, body) = two.get(&path).await;
    assert!(
        code == 503 && body.contains("the pod has no address"),
        "{code} {body}"
    );
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    let patch = kube::api::Patch::Merge(status);
    let params = kube::api::PatchParams::default();
    two.pods.patch_status("far", &params, &patch).await.unwrap();
    assert_eq!(two.get(&path).await, (200, "hi".into()));
    assert_eq!(&answering.await.unwrap(), b"GET /");
}
