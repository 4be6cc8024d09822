//! What is left of Pods that the API no longer knows: killed and removed once, when the agent has read the list of Pods (spec
//! `§2.7`). Later Pods are cleaned up by their own workers: nothing is looked for once there may be workers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ports::runtime::{ContainerState, ContainerStatus, SandboxStatus};

use crate::agent::Agent;
use crate::blocking;

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
    let remove = |directory: PathBuf| blocking::run(move || std::fs::remove_dir_all(directory));
    for (uid, directory) in &found.logs {
        if is_orphan(&uid)
            && let Err(error) = remove(directory.clone()).await
        {
            tracing::warn!(directory = %directory.display(), %error, "removing an orphan's logs");
        }
    }
}

/// Takes an orphan's directory down, again and again until it is gone: nobody else would.
async fn tear_down(agent: &Agent, uid: &str) {
    while let Err(error) = agent.volumes.teardown(uid).await {
        tracing::warn!(pod = uid, %error, "taking down an orphan's directory");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn kill(agent: &Agent, sandboxes: &[SandboxStatus], containers: &[ContainerStatus]) {
    let alive = containers
        .iter()
        .filter(|c| !matches!(c.state, ContainerState::Exited { .. }));
    let stops = alive.map(|c| agent.runtime.stop_container(&c.id, GRACE));
    for result in futures::future::join_all(stops).await {
        if let Err(error) = result {
            tracing::warn!(%error, "stopping an orphan");
        }
    }
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
