//! A server under measurement, and the life of Pods on it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::api::{Api, Connection, Watch};
use crate::kubeconfig::Access;
use crate::pods::{LABEL, Recipe};

/// Where the Pods are made: the namespace every server has.
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Connections that make many Pods at once.
const CONNECTIONS: usize = 10;

/// A server, and what is known of the processes that make it up.
pub(crate) struct Target {
    /// What to call it in errors.
    pub(crate) name: &'static str,
    api: Api,
    /// How long to wait for one thing to happen.
    pub(crate) patience: Duration,
    pub(crate) processes: Processes,
}

/// Which processes count towards a server's memory.
#[derive(Debug, Clone)]
pub(crate) enum Processes {
    /// An engine, and the pauses whose run directories are below its root.
    Engine { pid: u32, root: String },
    /// Those named on the command line, and the shims and pauses of containerd.
    Named(Vec<u32>),
}

impl Processes {
    /// Those that run without any Pod.
    pub(crate) fn lasting(&self) -> Vec<u32> {
        match self {
            Processes::Engine { pid, root } => {
                let templates = pauses(root, |dir| dir.ends_with(PLACE));
                std::iter::once(*pid).chain(templates).collect()
            }
            Processes::Named(pids) => pids.clone(),
        }
    }

    /// Those that exist per Pod, now; containers are not among them.
    pub(crate) fn per_pod(&self) -> Vec<u32> {
        match self {
            Processes::Engine { root, .. } => pauses(root, |dir| !dir.ends_with(PLACE)),
            Processes::Named(_) => crate::proc::find(|arguments| {
                arguments.first().is_some_and(|program| {
                    *program == "/pause" || program.contains("containerd-shim")
                })
            }),
        }
    }
}

/// Where the template of pauses shows no sandbox.
const PLACE: char = '-';

/// The engine's processes that are a pause or their template, by what their last argument is.
fn pauses(root: &str, is_it: impl Fn(&str) -> bool) -> Vec<u32> {
    crate::proc::find(
        |arguments| matches!(arguments, [_, "pause", dir, ..] if dir.starts_with(root) && is_it(dir)),
    )
}

/// How long one Pod took.
pub(crate) struct Life {
    /// From sending the POST to reading that it runs.
    pub(crate) to_running: Duration,
    /// From sending the DELETE to reading that it is no more.
    pub(crate) to_gone: Duration,
}

impl Target {
    pub(crate) fn new(
        name: &'static str,
        access: Access,
        patience: Duration,
        processes: Processes,
    ) -> anyhow::Result<Target> {
        Ok(Target {
            name,
            api: Api::new(access)?,
            patience,
            processes,
        })
    }

    /// Opens a connection to make Pods with, and a watch on another.
    pub(crate) async fn session(&self) -> anyhow::Result<Session<'_>> {
        let open = async {
            let mut connection = self.api.connect().await?;
            let list = connection.must(Method::GET, PODS, None).await?;
            let list: Value = serde_json::from_slice(&list)?;
            let version = list["metadata"]["resourceVersion"]
                .as_str()
                .context("the list has no resource version")?;
            let watch = self
                .api
                .watch(&format!("{PODS}?watch=1&resourceVersion={version}"))
                .await?;
            anyhow::Ok(Session {
                target: self,
                connection,
                watch,
            })
        };
        open.await.context(self.name)
    }

    /// Deletes whatever of this run is left.
    pub(crate) async fn clear(&self, recipe: &Recipe) -> anyhow::Result<()> {
        let path = format!("{PODS}?labelSelector={LABEL}%3D{}", recipe.mark);
        let clear = async {
            let mut connection = self.api.connect().await?;
            connection.must(Method::DELETE, &path, None).await
        };
        clear.await.map(drop).context(self.name)
    }
}

/// Connections to a server for the time of one measure.
pub(crate) struct Session<'a> {
    target: &'a Target,
    connection: Connection,
    watch: Watch,
}

impl Session<'_> {
    /// Makes a Pod and waits until it runs.
    pub(crate) async fn start(&mut self, pod: &Value) -> anyhow::Result<Duration> {
        let (name, body) = named_body(pod)?;
        let sent = Instant::now();
        self.connection.must(Method::POST, PODS, Some(body)).await?;
        let what = format!("{name} to run on {}", self.target.name);
        let running = self
            .watch
            .until(&what, self.target.patience, |event| {
                event.name() == name && event.is_running()
            })
            .await?;
        Ok(running - sent)
    }

    /// Deletes a Pod and waits until it is gone.
    pub(crate) async fn end(&mut self, name: &str) -> anyhow::Result<Duration> {
        let sent = Instant::now();
        self.delete(name).await?;
        let what = format!("{name} to be gone from {}", self.target.name);
        let gone = self
            .watch
            .until(&what, self.target.patience, |event| {
                event.name() == name && event.is_gone()
            })
            .await?;
        Ok(gone - sent)
    }

    /// The whole life of one Pod.
    pub(crate) async fn live(&mut self, pod: &Value) -> anyhow::Result<Life> {
        let (name, _) = named_body(pod)?;
        let to_running = self.start(pod).await?;
        let to_gone = self.end(&name).await?;
        Ok(Life {
            to_running,
            to_gone,
        })
    }

    /// When the watch told that a container of the Pod has ended.
    pub(crate) async fn ended(&mut self, name: &str) -> anyhow::Result<Instant> {
        let what = format!("the end of {name} to be told by {}", self.target.name);
        let is_it =
            |event: &crate::watch::Event| event.name() == name && event.has_ended_container();
        self.watch.until(&what, self.target.patience, is_it).await
    }

    /// Makes Pods on several connections at once and waits until all run; from the first POST to the last event.
    pub(crate) async fn start_all(&mut self, pods: &[Value]) -> anyhow::Result<Duration> {
        let mut waiting = BTreeSet::new();
        let mut shares = vec![Vec::new(); CONNECTIONS];
        for (index, pod) in pods.iter().enumerate() {
            let (name, body) = named_body(pod)?;
            waiting.insert(name);
            shares[index % CONNECTIONS].push(body);
        }
        let mut connections = Vec::new();
        for share in shares {
            connections.push((self.target.api.connect().await?, share));
        }
        let sent = Instant::now();
        let mut posts = JoinSet::new();
        for (mut connection, share) in connections {
            posts.spawn(async move {
                for body in share {
                    connection.must(Method::POST, PODS, Some(body)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(posted) = posts.join_next().await {
            posted??;
        }
        let what = format!("{} Pods to run on {}", pods.len(), self.target.name);
        let last = self
            .watch
            .until(&what, self.target.patience, |event| {
                if event.is_running() {
                    waiting.remove(event.name());
                }
                waiting.is_empty()
            })
            .await?;
        Ok(last - sent)
    }

    /// Deletes Pods and waits until all are gone; from the first DELETE to the last event.
    pub(crate) async fn end_all(&mut self, pods: &[Value]) -> anyhow::Result<Duration> {
        let mut waiting = BTreeSet::new();
        let sent = Instant::now();
        for pod in pods {
            let (name, _) = named_body(pod)?;
            self.delete(&name).await?;
            waiting.insert(name);
        }
        let what = format!("{} Pods to be gone from {}", pods.len(), self.target.name);
        let last = self
            .watch
            .until(&what, self.target.patience, |event| {
                if event.is_gone() {
                    waiting.remove(event.name());
                }
                waiting.is_empty()
            })
            .await?;
        Ok(last - sent)
    }

    async fn delete(&mut self, name: &str) -> anyhow::Result<()> {
        let path = format!("{PODS}/{name}");
        let (status, body) = self.connection.request(Method::DELETE, &path, None).await?;
        anyhow::ensure!(
            status.is_success() || status == StatusCode::NOT_FOUND,
            "DELETE {path}: {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(())
    }
}

fn named_body(pod: &Value) -> anyhow::Result<(String, Bytes)> {
    let name = pod["metadata"]["name"]
        .as_str()
        .context("a Pod has a name")?;
    Ok((name.to_owned(), serde_json::to_vec(pod)?.into()))
}
