//! What is left of Pods that the API no longer knows: killed and removed once, when the agent has read the list of Pods (spec
//! `§2.7`). Later Pods are cleaned up by their own workers: nothing is looked for once there may be workers.
//!
//! Their specs are gone. What ending a container needs of it, its `preStop` hook and its ports, was noted in its record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Lifecycle, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use lifecycle::ContainerKind;
use lifecycle::kinds::Member;
use ports::runtime::{ContainerState, ContainerStatus, SandboxStatus};
use serde::de::DeserializeOwned;

use crate::agent::Agent;
use crate::blocking;
use crate::container::annotation;
use crate::drivers;
use crate::hooks::Hook;
use crate::{links, mounting, sandbox};

/// The grace of a container nobody knows; a `preStop` hook has no more.
const HOOK: Duration = Duration::from_secs(1);
/// Least time between the stop signal and SIGKILL (spec `§2.3` step 6).
const GRACE: Duration = Duration::from_secs(2);
/// What could not be taken down is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// The runtime's records by Pod UID.
pub(crate) type Records = BTreeMap<String, (Vec<SandboxStatus>, Vec<ContainerStatus>)>;

/// What there is of Pods on this node.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) records: Records,
    /// Pods with a directory.
    directories: Vec<String>,
    /// Log directories.
    logs: Vec<(String, PathBuf)>,
    /// Links to logs.
    links: Vec<PathBuf>,
}

/// Looks at what an earlier agent left. To be called before there are workers.
pub(crate) async fn look(agent: &Agent) -> Found {
    let directories = agent.volumes.pods().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "listing pods' directories");
        Vec::new()
    });
    Found {
        records: records(agent).await,
        directories,
        logs: logs(agent).await,
        links: links::list(agent).await,
    }
}

/// Asks the runtime for all it has.
pub(crate) async fn records(agent: &Agent) -> Records {
    let (sandboxes, containers) = tokio::join!(
        agent.runtime.list_sandboxes(None),
        agent.runtime.list_containers(None)
    );
    let mut records = Records::new();
    for sandbox in sandboxes {
        let uid = sandbox.metadata.uid.clone();
        records.entry(uid).or_default().0.push(sandbox);
    }
    for container in containers {
        let uid = container.pod_uid.clone();
        records.entry(uid).or_default().1.push(container);
    }
    records
}

/// Kills and removes what was found of every Pod that is not `known`.
pub(crate) async fn remove(agent: Arc<Agent>, found: Found, known: BTreeSet<String>) {
    let work = found
        .records
        .into_iter()
        .filter(|(uid, _)| !known.contains(uid))
        .map(|(uid, (sandboxes, containers))| {
            let agent = agent.clone();
            async move {
                tracing::info!(
                    pod = uid,
                    "removing what is left of a pod that is not in the API"
                );
                kill(&agent, &sandboxes, &containers).await;
            }
        });
    futures::future::join_all(work).await;
    let is_orphan = |uid: &&String| !known.contains(*uid);
    let directories = found.directories.iter().filter(is_orphan);
    futures::future::join_all(directories.map(|uid| tear_down(&agent, uid))).await;
    drivers::settle(&agent).await;
    let remove = |directory: PathBuf| blocking::run(move || std::fs::remove_dir_all(directory));
    for (uid, directory) in &found.logs {
        if is_orphan(&uid)
            && let Err(error) = remove(directory.clone()).await
        {
            tracing::warn!(directory = %directory.display(), %error, "removing an orphan's logs");
        }
    }
    links::sweep(found.links).await;
}

/// Takes an orphan's directory down, again and again until it is gone: nobody else would.
async fn tear_down(agent: &Agent, uid: &str) {
    while let Err(error) = mounting::tear_down(agent, uid).await {
        tracing::warn!(pod = uid, error, "taking down an orphan's directory");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn kill(agent: &Arc<Agent>, sandboxes: &[SandboxStatus], containers: &[ContainerStatus]) {
    let alive = containers
        .iter()
        .filter(|c| !matches!(c.state, ContainerState::Exited { .. }));
    futures::future::join_all(alive.map(|c| stop(agent, sandboxes, c))).await;
    for sandbox in sandboxes {
        if let Err(error) = agent.runtime.stop_sandbox(&sandbox.id).await {
            tracing::warn!(%error, "stopping an orphan's sandbox");
        }
        if let Err(error) = agent.runtime.remove_sandbox(&sandbox.id).await {
            tracing::warn!(%error, "removing an orphan's sandbox");
        }
    }
    let in_sandbox = |c: &ContainerStatus| sandboxes.iter().any(|s| s.id == c.sandbox_id);
    for container in containers.iter().filter(|c| !in_sandbox(c)) {
        if let Err(error) = agent.runtime.remove_container(&container.id, false).await {
            tracing::warn!(%error, "removing an orphan");
        }
    }
}

/// Stops a container, after its hook.
async fn stop(agent: &Arc<Agent>, sandboxes: &[SandboxStatus], record: &ContainerStatus) {
    let (pod, spec) = (pod_of(record), spec_of(record));
    // Which list of its Pod it was in is not known.
    let kind = ContainerKind::App;
    let member = Member { kind, spec: &spec };
    let message = format!("Stopping container {}", record.name);
    let killing = lifecycle::events::killing(kind, &record.name, &message);
    agent.recorder.record(&pod, killing);
    let in_sandbox = sandboxes.iter().find(|s| s.id == record.sandbox_id);
    let hook = Hook {
        agent,
        pod: &pod,
        member: &member,
        id: &record.id,
        pod_ips: in_sandbox.map_or(&[], |s| sandbox::ips(s, &agent.config)),
    };
    hook.pre_stop(HOOK).await;
    if let Err(error) = agent.runtime.stop_container(&record.id, GRACE).await {
        tracing::warn!(%error, "stopping an orphan");
    }
}

/// What a record says of its Pod.
fn pod_of(record: &ContainerStatus) -> Pod {
    let label = |what| record.labels.get(&sandbox::identity_label(what)).cloned();
    Pod {
        metadata: ObjectMeta {
            name: label("name"),
            namespace: label("namespace"),
            uid: label("uid"),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    }
}

/// What a record says of its container's spec.
fn spec_of(record: &ContainerStatus) -> Container {
    Container {
        name: record.name.clone(),
        lifecycle: Some(Lifecycle {
            pre_stop: noted(record, annotation::PRE_STOP),
            ..Lifecycle::default()
        }),
        ports: noted(record, annotation::PORTS),
        ..Container::default()
    }
}

/// A note that cannot be read is as good as none.
fn noted<T: DeserializeOwned>(record: &ContainerStatus, annotation: &str) -> Option<T> {
    serde_json::from_str(record.annotations.get(annotation)?).ok()
}

/// Log directories are named `<ns>_<pod>_<uid>`.
async fn logs(agent: &Agent) -> Vec<(String, PathBuf)> {
    let root = agent.config.log_root.clone();
    blocking::run(move || {
        // Without Pods there is no such directory.
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let uid = name.splitn(3, '_').nth(2)?;
                Some((uid.to_owned(), entry.path()))
            })
            .collect();
        found.sort();
        found
    })
    .await
}
