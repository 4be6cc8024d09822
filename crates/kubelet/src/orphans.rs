//! What is left of Pods that the API no longer knows: killed and removed once, when the agent has read the list of Pods (spec
//! `§2.7`). Later Pods are cleaned up by their own workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ports::runtime::{ContainerState, ContainerStatus, SandboxStatus};

use crate::agent::Agent;

/// Least time between the stop signal and SIGKILL (spec `§2.3` step 6).
const GRACE: Duration = Duration::from_secs(2);

/// Kills and removes these records, then the directories and logs of every Pod that is not `known`.
pub(crate) async fn remove(
    agent: Arc<Agent>,
    records: BTreeMap<String, (Vec<SandboxStatus>, Vec<ContainerStatus>)>,
    known: BTreeSet<String>,
) {
    let work = records
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
    match agent.volumes.pods().await {
        Ok(uids) => {
            for uid in uids.iter().filter(|uid| !known.contains(*uid)) {
                if let Err(error) = agent.volumes.teardown(uid).await {
                    tracing::warn!(pod = uid, %error, "taking down an orphan's directory");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "listing pods' directories"),
    }
    remove_logs(&agent, &known).await;
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
async fn remove_logs(agent: &Agent, known: &BTreeSet<String>) {
    let Ok(mut entries) = tokio::fs::read_dir(&agent.config.log_root).await else {
        return;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name().to_string_lossy().into_owned();
        let orphan = name
            .splitn(3, '_')
            .nth(2)
            .is_some_and(|uid| !known.contains(uid));
        if orphan && let Err(error) = tokio::fs::remove_dir_all(entry.path()).await {
            tracing::warn!(dir = name, %error, "removing an orphan's logs");
        }
    }
}
