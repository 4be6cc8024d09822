use std::collections::BTreeSet;

use async_trait::async_trait;
use ports::node::{LogOptions, NodeError, Usage};
use ports::streams::{ExecRequest, LogStream, Session};

use super::*;
use crate::spdy::client::Client;

/// A node whose Pods give back on port 80 what they are sent.
struct Echo;

fn refused() -> NodeError {
    NodeError {
        code: 500,
        message: "connection refused".into(),
    }
}

#[async_trait]
impl NodeServer for Echo {
    async fn logs(&self, _: &Target, _: LogOptions) -> Result<LogStream, NodeError> {
        Err(refused())
    }
    async fn exec(&self, _: &Target, _: ExecRequest) -> Result<Session, NodeError> {
        Err(refused())
    }
    async fn attach(&self, _: &Target, _: bool) -> Result<Session, NodeError> {
        Err(refused())
    }
    async fn port_forward(&self, _: &Target, port: u16) -> Result<(Reader, Writer), NodeError> {
        if port != 80 {
            return Err(refused());
        }
        let (ours, theirs) = tokio::io::duplex(64);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(theirs);
            let copied = tokio::io::copy(&mut read, &mut write).await;
            let ended = write.shutdown().await;
            drop((copied, ended));
        });
        let (read, write) = tokio::io::split(ours);
        Ok((Box::pin(read), Box::pin(write)))
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

fn destination() -> Destination {
    Destination {
        node: Arc::new(Echo),
        target: Target {
            namespace: "default".into(),
            pod: "p".into(),
            uid: "u".into(),
            container: String::new(),
        },
    }
}

#[tokio::test]
async fn pairs_of_streams_are_connections() {
    let mut client = Client::start(|streams| serve(streams, destination()));
    for (stream, kind, port, request) in [
        (1, "error", "80", "0"),
        (3, "error", "81", "1"),
        (5, "data", "81", "1"),
        (7, "data", "80", "0"),
    ] {
        let headers = [("streamtype", kind), ("port", port), ("requestid", request)];
        client.open(stream, &headers).await;
    }
    client.data(1, b"", true).await;
    client.data(7, b"hel", false).await;
    client.data(7, b"lo", true).await;
    let seen = client.until_finished(&[1, 3, 5, 7]).await;
    assert_eq!(seen.data[&7], (b"hello".to_vec(), true));
    assert_eq!(seen.data[&1], (Vec::new(), true));
    assert_eq!(seen.data[&3], (b"connection refused".to_vec(), true));
    assert_eq!(seen.data[&5], (Vec::new(), true));
}
