//! Handlers against servers on loopback.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{ContainerPort, HTTPGetAction, HTTPHeader};
use tokio::net::TcpListener;

use super::*;

#[test]
fn ports_are_found_by_number_and_name() {
    let web = ContainerPort {
        name: Some("web".into()),
        container_port: 8080,
        ..ContainerPort::default()
    };
    let container = Container {
        name: "c".into(),
        ports: Some(vec![web]),
        ..Container::default()
    };
    let name = |name: &str| IntOrString::String(name.into());
    let rows = [
        (IntOrString::Int(81), Ok(81)),
        (name("web"), Ok(8080)),
        (name("82"), Ok(82)),
        (
            name("other"),
            Err("couldn't find port: other in container c"),
        ),
        (IntOrString::Int(0), Err("invalid port number: 0")),
        (IntOrString::Int(70_000), Err("invalid port number: 70000")),
    ];
    for (asked, want) in rows {
        let got = port(&asked, &container);
        assert_eq!(
            got.as_ref().map_err(String::as_str),
            want.as_ref().map_err(|e| *e)
        );
    }
}

#[test]
fn addresses_and_errors_are_written_as_go_writes_them() {
    assert_eq!(join("::1", 80), "[::1]:80");
    assert_eq!(
        join(&host(None, &[IpAddr::from([10, 0, 0, 5])]), 80),
        "10.0.0.5:80"
    );
    assert_eq!(host(Some("example"), &[]), "example");
    let refused = std::io::Error::from_raw_os_error(111);
    assert_eq!(kernel_text(&refused), "connection refused");
}

/// Serves each connection with the answer of `serve` to its request's target and headers; the port.
async fn server<S>(serve: S) -> u16
where
    S: Fn(&str, &hyper::HeaderMap) -> Response<Full<Bytes>> + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_one(stream, serve.clone()));
        }
    });
    port
}

async fn serve_one<S, T>(stream: T, serve: S)
where
    S: Fn(&str, &hyper::HeaderMap) -> Response<Full<Bytes>> + Clone + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let target = request.uri().path_and_query().unwrap().as_str().to_owned();
        let answer = serve(&target, request.headers());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn page(status: u16, body: &str) -> Response<Full<Bytes>> {
    let body = Full::from(body.to_owned().into_bytes());
    Response::builder().status(status).body(body).unwrap()
}

fn moved(to: &str) -> Response<Full<Bytes>> {
    let mut page = page(302, "moved");
    page.headers_mut().insert("location", to.parse().unwrap());
    page
}

fn get(scheme: &str, port: u16, path: &str) -> http::Get {
    let action = HTTPGetAction {
        path: Some(path.to_owned()),
        scheme: Some(scheme.to_owned()),
        http_headers: Some(vec![header("X-A", "1"), header("Accept", "")]),
        ..HTTPGetAction::default()
    };
    http::Get::new(&action, "127.0.0.1", port, "kube-probe/1.36")
}

fn header(name: &str, value: &str) -> HTTPHeader {
    HTTPHeader {
        name: name.into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn http_follows_redirects_on_its_host_and_keeps_its_headers() {
    let port = server(|target, headers| match target {
        "/ok?full=1" => page(200, "fine"),
        "/here" => moved("/ok?full=1"),
        "/there" => moved("http://elsewhere.invalid/"),
        "/round" => moved("/round"),
        "/headers" => {
            let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            let seen = ["x-a", "accept", "user-agent", "connection"]
                .map(|name| text(name).unwrap_or_default());
            page(200, &seen.join(" "))
        }
        _ => page(500, &"x".repeat(20_000)),
    })
    .await;
    let rows = [
        ("/ok?full=1", 200, "fine"),
        ("/here", 200, "fine"),
        ("/there", 302, "moved"),
        ("/headers", 200, "1  kube-probe/1.36 close"),
    ];
    for (path, status, body) in rows {
        let answer = get("HTTP", port, path).send().await.unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{path}"
        );
    }
    let answer = get("HTTP", port, "/large").send().await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (500, MOST_OUTPUT));
    let round = get("HTTP", port, "/round");
    let error = round.error(&round.send().await.unwrap_err());
    assert_eq!(
        error,
        format!("Get \"http://127.0.0.1:{port}/round\": stopped after 10 redirects")
    );
    let plain = get("HTTPS", port, "/ok").send().await.unwrap_err();
    assert_eq!(plain, http::NOT_TLS);
}

#[tokio::test]
async fn https_trusts_anyone() {
    let signed = rcgen::generate_simple_self_signed(vec!["unknown.invalid".to_owned()]).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve_one(acceptor.accept(stream).await.unwrap(), |_, _| page(204, "")).await;
    });
    let answer = get("HTTPS", port, "/").send().await.unwrap();
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn nobody_listens() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(tcp::dial("127.0.0.1", port).await.unwrap_err(), refused);
    assert_eq!(get("HTTP", port, "/").send().await.unwrap_err(), refused);
}

#[tokio::test]
async fn what_answers_is_not_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
    });
    let error = get("HTTP", port, "/").send().await.unwrap_err();
    assert!(
        error == "EOF" || error.contains("connection reset"),
        "{error}"
    );
}

#[tokio::test]
async fn grpc_asks_for_a_services_health() {
    let serve = |code: &'static str, frame: &'static [u8]| {
        move |_: &str, _: &hyper::HeaderMap| {
            let mut page = page(200, "");
            *page.body_mut() = Full::from(frame);
            let headers = page.headers_mut();
            headers.insert("grpc-status", code.parse().unwrap());
            headers.insert("grpc-message", "why".parse().unwrap());
            page
        }
    };
    let rows: [(&str, &[u8], Result<(), &str>); 4] = [
        ("0", &[0, 0, 0, 0, 2, 8, 1], Ok(())),
        (
            "0",
            &[0, 0, 0, 0, 2, 8, 2],
            Err("service unhealthy (responded with \"NOT_SERVING\")"),
        ),
        (
            "12",
            &[],
            Err(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): why",
            ),
        ),
        (
            "5",
            &[],
            Err("error: health rpc probe failed: rpc error: code = NotFound desc = why"),
        ),
    ];
    for (code, frame, want) in rows {
        let port = server(serve(code, frame)).await;
        let stream = tcp::dial("127.0.0.1", port).await.unwrap();
        let got = grpc::check(stream, &format!("127.0.0.1:{port}"), "", "kube-probe/1.36").await;
        assert_eq!(
            got.as_ref().map_err(String::as_str),
            want.as_ref().map_err(|e| *e),
            "{code}"
        );
    }
}
