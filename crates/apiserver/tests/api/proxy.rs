//! Requests passed on to Pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use ports::node::{LogOptions, NodeError, NodeServer, Target, Usage};
use ports::streams::{ExecRequest, LogStream, Reader, Session, Writer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, split};
use tower::ServiceExt;

use crate::pods::{bind, pod};
use crate::support::Server;

const POD: &str = "/api/v1/namespaces/default/pods/web";
const PAGE: &str = "<a href=\"/x?a&amp;b\">x</a><!-- <a href=\"/y\"> --><img src=z>";

/// A node whose Pods have a web server on port 80 that says what it was asked, and nothing on others.
struct Web;

fn none() -> NodeError {
    NodeError {
        code: 500,
        message: "nothing listens".into(),
    }
}

#[async_trait]
impl NodeServer for Web {
    async fn logs(&self, _: &Target, _: LogOptions) -> Result<LogStream, NodeError> {
        Err(none())
    }
    async fn exec(&self, _: &Target, _: ExecRequest) -> Result<Session, NodeError> {
        Err(none())
    }
    async fn attach(&self, _: &Target, _: bool) -> Result<Session, NodeError> {
        Err(none())
    }
    async fn port_forward(
        &self,
        target: &Target,
        port: u16,
    ) -> Result<(Reader, Writer), NodeError> {
        if port != 80 {
            return Err(none());
        }
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(far, target.pod.clone()));
        let (reader, writer) = split(near);
        Ok((Box::pin(reader), Box::pin(writer)))
    }
    async fn pods(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
    async fn usage(&self, _: &BTreeSet<String>) -> Result<Usage, NodeError> {
        Err(NodeError {
            code: 500,
            message: "nothing is measured here".into(),
        })
    }
}

/// Answers one request with what it was, as JSON; `/moved` sends the client elsewhere, and `/page` has links.
async fn serve(stream: tokio::io::DuplexStream, name: String) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
    let length = lines
        .iter()
        .find_map(|l| l.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    let text = json!({
        "pod": name, "line": lines[0], "body": String::from_utf8(body).unwrap(),
        "secrets": lines.iter().filter(|l| l.starts_with("authorization")).count(),
        "forwarded": lines.iter().filter(|l| l.starts_with("x-forwarded")).collect::<Vec<_>>(),
    })
    .to_string();
    let is_at = |path: &str| lines[0].contains(path);
    let (head, text) = match &lines[0] {
        _ if is_at("/moved") => ("302 Found\r\nlocation: /there?x", text),
        _ if is_at("/lost") => ("302 Found\r\nlocation: http://[", text),
        _ if is_at("/page") => (
            "200 OK\r\ncontent-type: text/html; charset=utf-8",
            PAGE.into(),
        ),
        _ if is_at("/plain") => ("200 OK\r\ncontent-type: text/plain", PAGE.into()),
        _ => ("200 OK\r\ncontent-type: application/json", text),
    };
    let length = text.len();
    let text = if is_at("head ") { "" } else { &text };
    let answer =
        format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn requests_go_to_a_port_of_the_pod_and_back() {
    let server = Server::start().await;
    pod(&server, "web").await;
    let unbound = server.get(&format!("{POD}/proxy/")).await;
    assert_eq!(unbound.code, 400, "{unbound:?}");
    bind(&server, "web").await;
    server.api.set_node_server("n1", Arc::new(Web));
    for (method, path, body, line, text) in [
        ("GET", "/proxy/", Value::Null, "get / http/1.1", ""),
        (
            "GET",
            ":80/proxy/a%2Fb/?x=y&z",
            Value::Null,
            "get /a%2fb/?x=y&z http/1.1",
            "",
        ),
        (
            "POST",
            "/proxy/write",
            json!({"a": 1}),
            "post /write http/1.1",
            r#"{"a":1}"#,
        ),
        (
            "DELETE",
            ":80/proxy/x",
            Value::Null,
            "delete /x http/1.1",
            "",
        ),
    ] {
        let uri = format!("{POD}{path}").to_lowercase();
        let uri = uri.split('?').next().unwrap();
        let answer = server.ask(method, &format!("{POD}{path}"), body).await;
        assert_eq!(answer.code, 200, "{answer:?}");
        let want = json!({"pod": "web", "line": line, "body": text, "secrets": 0,
            "forwarded": [format!("x-forwarded-uri: {uri}")]});
        assert_eq!(answer.body, want, "{method} {path}");
    }
    for (path, code) in [
        ("/proxy", 301),
        ("/proxy/moved", 302),
        ("/proxy/lost", 500),
        (":81/proxy/", 503),
        (":x/proxy/", 400),
    ] {
        assert_eq!(
            server.get(&format!("{POD}{path}")).await.code,
            code,
            "{path}"
        );
    }
    let none = server
        .get("/api/v1/namespaces/default/pods/no:80/proxy/")
        .await;
    assert_eq!((none.code, none.message()), (404, "pods \"no\" not found"));
    let down = server.get(&format!("{POD}:81/proxy/")).await;
    assert_eq!(
        down.message(),
        "error trying to reach service: nothing listens"
    );
}

#[tokio::test]
async fn links_and_redirects_lead_through_the_proxy() {
    let server = Server::start().await;
    pod(&server, "web").await;
    bind(&server, "web").await;
    server.api.set_node_server("n1", Arc::new(Web));
    for name in ["web", "web:80", "http:web:80"] {
        let proxy = format!("/api/v1/namespaces/default/pods/{name}/proxy");
        let page = server.get(&format!("{proxy}/page")).await;
        let led = PAGE.replace("\"/x", &format!("\"{proxy}/x"));
        let media_type = "text/html; charset=utf-8";
        assert_eq!((&page.text, page.media_type.as_str()), (&led, media_type));
        assert_eq!(server.text(&format!("{proxy}/plain")).await, PAGE);
        for (method, path, name, want) in [
            ("GET", "moved", "location", Some(format!("{proxy}/there?x"))),
            ("GET", "page", "content-length", None),
            ("HEAD", "page", "content-length", None),
            (
                "GET",
                "plain",
                "content-length",
                Some(PAGE.len().to_string()),
            ),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(format!("{proxy}/{path}"));
            let request = request.body(Full::new(Bytes::new())).unwrap();
            let response = server.admin.clone().oneshot(request).await.unwrap();
            let got = response.headers().get(name).map(|v| v.to_str().unwrap());
            assert_eq!(got, want.as_deref(), "{method} {path}");
        }
    }
    // The origin that every request of HTTP/2 has is that of its Host; one of HTTP/1 is the client's own wish.
    for (version, origin, told) in [
        (Version::HTTP_11, "https://foo.com", 3),
        (Version::HTTP_2, "", 1),
    ] {
        let ask = async |path: &str| {
            let request = Request::get(format!("https://foo.com{POD}/proxy/{path}"));
            let request = request.version(version).body(Full::default()).unwrap();
            let response = server.admin.clone().oneshot(request).await.unwrap();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let led = PAGE.replace("\"/x", &format!("\"{origin}{POD}/proxy/x"));
        assert_eq!(ask("page").await, led);
        let said: Value = serde_json::from_str(&ask("").await).unwrap();
        let forwarded = said["forwarded"].as_array().unwrap();
        assert_eq!(forwarded.len(), told, "{forwarded:?}");
    }
    let lost = server.get(&format!("{POD}/proxy/lost")).await;
    let words = "Internal error occurred: error trying to parse Location header: parse \"http://[\": missing ']' in host";
    assert_eq!(lost.message(), words);
}

#[tokio::test]
async fn a_service_is_asked_by_one_of_its_pods() {
    let server = Server::start().await;
    pod(&server, "web").await;
    bind(&server, "web").await;
    server.api.set_node_server("n1", Arc::new(Web));
    let core = "/api/v1/namespaces/default";
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 8000, "targetPort": 80}]}});
    let made = server
        .ask("POST", &format!("{core}/services"), service)
        .await;
    assert_eq!(made.code, 201, "{made:?}");
    let proxy = format!("{core}/services/front");
    let answer = server.get(&format!("{proxy}:http/proxy/")).await;
    let words = "endpoints \"front\" not found";
    assert_eq!((answer.code, answer.message()), (404, words));
    let target = json!({"kind": "Pod", "namespace": "default", "name": "web"});
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "front"},
        "subsets": [{"addresses": [{"ip": "10.0.0.1", "targetRef": target}], "ports": [{"name": "http", "port": 80}]}]});
    let made = server
        .ask("POST", &format!("{core}/endpoints"), endpoints)
        .await;
    assert_eq!(made.code, 201, "{made:?}");
    for path in [":http/proxy/x", ":8000/proxy/x", "http:front:http/proxy/x"] {
        let path = match path.strip_prefix("http:front") {
            Some(rest) => format!("{core}/services/http:front{rest}"),
            None => format!("{proxy}{path}"),
        };
        let answer = server.ask("PUT", &path, json!({})).await;
        assert_eq!(
            (answer.code, &answer.body["pod"]),
            (200, &json!("web")),
            "{path}"
        );
        assert_eq!(answer.body["line"], "put /x http/1.1");
    }
    for (path, code, words) in [
        (
            ":9/proxy/",
            503,
            "no service port 9 found for service \"front\"",
        ),
        (
            "/proxy/",
            503,
            "no endpoints available for service \"front\"",
        ),
    ] {
        let answer = server.get(&format!("{proxy}{path}")).await;
        assert_eq!((answer.code, answer.message()), (code, words), "{path}");
    }
    assert_eq!(server.get(&format!("{proxy}/proxy")).await.code, 301);
}
