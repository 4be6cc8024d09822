//! Waiting for Pods that have to go for the node's sake (spec `§2.9`, upstream's `killPodNow`).

use std::time::Duration;

use crate::agent::Agent;

/// The least that is waited for a Pod.
const LEAST: Duration = Duration::from_secs(10);

/// Waits until a Pod holds nothing any more; whether it does in time. One that does not is told of.
pub(crate) async fn in_time(agent: &Agent, uid: &str, grace_seconds: i64) -> bool {
    let grace = Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0));
    let patience = LEAST.max(grace.saturating_add(grace / 2));
    let has_left = agent.allocations.left(uid);
    if tokio::time::timeout(patience, has_left).await.is_ok() {
        return true;
    }
    tracing::warn!(pod = uid, "an evicted pod does not end");
    if let Some(view) = agent.views.follow(uid) {
        let pod = view.borrow().pod.clone();
        let event = lifecycle::events::grace_exceeded();
        agent.recorder.record(&pod, event);
    }
    false
}

/// Waits until all of these have left, each within its own grace, and longer if it takes longer.
pub(crate) async fn all(agent: &Agent, uids: &[String]) {
    let each = uids.iter().map(|uid| async move {
        let pod = agent
            .views
            .follow(uid)
            .map(|view| view.borrow().pod.clone());
        let grace = pod.map_or(0, |pod| lifecycle::termination::spec_grace(&pod));
        if !in_time(agent, uid, grace).await {
            agent.allocations.left(uid).await;
        }
    });
    futures::future::join_all(each).await;
}
