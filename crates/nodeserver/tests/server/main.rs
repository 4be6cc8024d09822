//! The server over TLS on loopback, before a node that is none, with an API that knows who may do what.

mod node;
mod support;

use futures::{SinkExt, StreamExt};
use http::Request;
use kube::client::Body;
use support::{Served, start};

#[tokio::test]
async fn nobody_unknown_is_told_anything() {
    let server = start().await;
    let admin = server.client("admin", &["system:masters"]);
    let stranger = server.client("stranger", &["people"]);
    let forbidden = |what: &str| {
        format!("Forbidden (user=stranger, verb=get, resource=nodes, subresource(s)=[{what}])\n")
    };
    for (client, path, code, text) in [
        (&admin, "/healthz", 200, "ok".to_owned()),
        (&server.anonymous(), "/healthz", 401, "Unauthorized".into()),
        (&server.anonymous(), "/nowhere", 401, "Unauthorized".into()),
        (&server.token("known"), "/healthz", 200, "ok".into()),
        (
            &server.token("unknown"),
            "/healthz",
            401,
            "Unauthorized".into(),
        ),
        (&stranger, "/containerLogs/n/p/c", 403, forbidden("proxy")),
        (&stranger, "/nowhere", 403, forbidden("proxy")),
        (&stranger, "/pods", 403, forbidden("pods proxy")),
        (&stranger, "/healthz", 403, forbidden("healthz proxy")),
        (
            &server.client("broken", &[]),
            "/stats/summary",
            500,
            "Authorization error (user=broken, verb=get, resource=nodes, subresource=stats)".into(),
        ),
        // Who may see figures may see nothing else.
        (
            &server.client("reader", &[]),
            "/stats/summary",
            200,
            String::new(),
        ),
        (
            &server.client("reader", &[]),
            "/exec/n/p/c",
            403,
            forbidden("proxy").replace("stranger", "reader"),
        ),
    ] {
        let (got, body) = Served::get(client, path).await;
        assert_eq!(got, code, "{path}: {body}");
        assert!(text.is_empty() || body == text, "{path}: {body}");
    }
    // A certificate of another authority is refused before anything is asked.
    let other = start().await.client("admin", &["system:masters"]);
    let elsewhere = server.at_this(&other);
    let request = Request::get("/healthz").body(Body::empty()).unwrap();
    assert!(elsewhere.send(request).await.is_err());
}

#[tokio::test]
async fn what_is_asked_of_the_node_is_answered() {
    let server = start().await;
    let admin = server.client("admin", &["system:masters"]);
    for (path, code, text) in [
        ("/containerLogs/n/p/c?tailLines=3", 200, "n/p/u/c Some(3)"),
        ("/containerLogs/n/q/c", 404, "pod \"q\" does not exist"),
        (
            "/containerLogs/n/p/c?tailLines=-1",
            422,
            "must be greater than or equal to 0",
        ),
        (
            "/exec/n/p/c?command=cat&output=1",
            400,
            "Upgrade request required",
        ),
        (
            "/exec/n/p/c?command=cat",
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            "/exec/n/p/c?output=1",
            400,
            "you must specify at least one command for the container",
        ),
        ("/run/n/p/c", 404, "404 page not found"),
        (
            "/metrics/resource",
            200,
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2 ",
        ),
        (
            "/stats/summary",
            200,
            r#""podRef":{"name":"p","namespace":"n","uid":"u"}"#,
        ),
        ("/pods", 200, r#""kind":"PodList""#),
    ] {
        let (got, body) = Served::get(&admin, path).await;
        assert_eq!(got, code, "{path}: {body}");
        assert!(body.contains(text), "{path}: {body}");
    }
    let posted = Request::post("/pods").body(Body::empty()).unwrap();
    assert_eq!(admin.send(posted).await.unwrap().status(), 405);
}

#[tokio::test]
async fn a_log_that_is_followed_ends_with_the_server() {
    let server = start().await;
    let admin = server.client("admin", &["system:masters"]);
    let request = Request::get("/containerLogs/n/p/c?follow=true").body(Body::empty());
    let answer = admin.send(request.unwrap()).await.unwrap();
    server.stop().await;
    let body = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), "n/p/u/c None");
}

#[tokio::test]
async fn a_process_is_talked_to() {
    let server = start().await;
    let admin = server.client("admin", &["system:masters"]);
    for (verb, end) in [("exec", "NonZeroExitCode"), ("attach", "Success")] {
        let path = format!("/{verb}/n/p/u/c?command=cat&command=a%20b&input=1&output=1");
        let request = Request::get(path).body(Vec::new()).unwrap();
        let mut socket = admin.connect(request).await.unwrap().into_stream();
        socket.send(b"\0hello".to_vec().into()).await.unwrap();
        // Its input has ended.
        socket.send(vec![255, 0].into()).await.unwrap();
        let (mut output, mut status) = (Vec::new(), Vec::new());
        while let Some(Ok(message)) = socket.next().await {
            match message.into_data().split_first() {
                Some((1, data)) => output.extend_from_slice(data),
                Some((3, data)) => status.extend_from_slice(data),
                _ => {}
            }
        }
        assert_eq!(output, b"hello");
        let status = String::from_utf8(status).unwrap();
        assert!(status.contains(end), "{verb}: {status}");
    }
}
