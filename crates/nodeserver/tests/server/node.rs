//! A node that has one Pod, whose processes give back their input.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use ports::node::{LogOptions, NodeError, NodeServer, Target, Usage, Used};
use ports::streams::{ExecRequest, ExitStatus, LogStream, Reader, Session, Writer};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub(crate) struct Cat;

fn refused() -> NodeError {
    NodeError {
        code: 500,
        message: "no such thing here".into(),
    }
}

#[async_trait]
impl NodeServer for Cat {
    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogStream, NodeError> {
        let Target {
            namespace,
            pod,
            uid,
            container,
        } = target;
        let text = format!(
            "{namespace}/{pod}/{uid}/{container} {:?}",
            options.tail_lines
        );
        let first = futures::stream::iter([Ok(text.into())]);
        Ok(match options.follow {
            true => first.chain(futures::stream::pending()).boxed(),
            false => first.boxed(),
        })
    }
    async fn exec(&self, target: &Target, request: ExecRequest) -> Result<Session, NodeError> {
        if target.uid != "u" || request.command != ["cat", "a b"] {
            return Err(refused());
        }
        let (ours, theirs) = tokio::io::duplex(64);
        let (stdout, stdin) = tokio::io::split(ours);
        let (mut read, mut write) = tokio::io::split(theirs);
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            let copied = tokio::io::copy(&mut read, &mut write).await;
            drop((copied, read, write));
            let _ = ended.send(ExitStatus { code: 3 });
        });
        Ok(Session {
            stdin: request.stdin.then(|| Box::pin(stdin) as Writer),
            stdout: Some(Box::pin(stdout)),
            stderr: None,
            resize: None,
            exit,
        })
    }
    async fn attach(&self, target: &Target, stdin: bool) -> Result<Session, NodeError> {
        let request = ExecRequest {
            command: ["cat", "a b"].map(String::from).into(),
            stdin,
            ..ExecRequest::default()
        };
        self.exec(target, request).await
    }
    async fn port_forward(&self, _: &Target, port: u16) -> Result<(Reader, Writer), NodeError> {
        if port != 80 {
            return Err(refused());
        }
        let (ours, theirs) = tokio::io::duplex(64);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(theirs);
            // The test reads what comes back.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let (read, write) = tokio::io::split(ours);
        Ok((Box::pin(read), Box::pin(write)))
    }
    async fn pods(&self) -> Vec<Value> {
        let pod = |uid: &str, deleted: Value| {
            json!({"metadata": {
                "namespace": "n", "name": "p", "uid": uid, "deletionTimestamp": deleted,
            }})
        };
        vec![
            pod("old", "2026-01-01T00:00:00Z".into()),
            pod("u", Value::Null),
        ]
    }
    async fn usage(&self, pods: &BTreeSet<String>) -> Result<Usage, NodeError> {
        let used = Used {
            nano_cpus: 1,
            cpu_ns: 2_000_000_000,
            memory_bytes: 3,
        };
        let containers = || BTreeMap::from([("c".to_owned(), used)]);
        let running = pods.iter().filter(|uid| *uid != "old");
        Ok(Usage {
            at: "2026-01-02T03:04:05Z".parse().map_err(|_| refused())?,
            window: Duration::from_millis(500),
            node_name: "n1".into(),
            node: used,
            pods: running.map(|uid| (uid.clone(), containers())).collect(),
        })
    }
}
