//! The network's readiness: Pods of their own network wait for it, and the node says that it is missing (spec `§1.3` step 2).
//!
//! The runtime tells when it changes, so nobody asks again and again.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use lifecycle::{events, node_events};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::node;

/// A report that failed is tried again after this.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Why the node is not ready, as upstream's agent words what its runtime tells; `None` if it is.
pub(crate) fn unready(agent: &Agent) -> Option<String> {
    let why = agent.runtime.network_readiness().borrow().clone();
    why.as_deref().map(words)
}

fn words(why: &str) -> String {
    format!(
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: {why}"
    )
}

/// Returns when Pods can have a network of their own; that one waits for it is told once.
pub(crate) async fn wait(agent: &Agent, pod: &Pod) {
    let mut readiness = agent.runtime.network_readiness();
    let why = readiness.borrow_and_update().clone();
    let Some(why) = why else { return };
    let event = events::network_not_ready(&words(&why));
    agent.recorder.record(pod, event);
    // A runtime that ends tells nothing more, and nothing is started any more.
    let _ = readiness.wait_for(Option::is_none).await;
}

/// Keeps the node's condition `Ready` true to the network, until `shutdown`.
pub(crate) async fn run(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut readiness = agent.runtime.network_readiness();
    let mut listed = agent.listed.subscribe();
    let follow = async {
        // By then the node is registered, with what was so at that time.
        let _ = listed.wait_for(|listed| *listed).await;
        while readiness.changed().await.is_ok() {
            report(&agent).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow => {}
    }
}

async fn report(agent: &Agent) {
    let api: Api<Node> = Api::all(agent.client.clone());
    let name = &agent.config.node_name;
    loop {
        let unready = unready(agent);
        match node::report_readiness(&api, name, unready.as_deref(), agent.now()).await {
            Ok(true) => {
                let event = node_events::readiness(name, unready.is_none());
                return agent.recorder.record_node(name, event);
            }
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "reporting that the node is ready or not");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
