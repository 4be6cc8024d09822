//! Drivers of storage (CSI) on this node: what the API says of them ([`node`]), what they are asked for Pods ([`volume`]), and which of
//! their volumes are in use ([`in_use`]).
//!
//! One task hears of drivers that come and go. A driver that comes is told that it is registered once its CSINode says so.

mod in_use;
mod node;
pub(crate) mod volume;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use ports::drivers::{Driver, DriverEvent};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

pub(crate) use in_use::InUse;

/// What the API has of a driver that is gone is tried to be removed again after this.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Keeps what the API says of this node's drivers, until `shutdown`.
pub(crate) async fn run(agent: Arc<Agent>, shutdown: CancellationToken) {
    let Some(drivers) = agent.drivers.clone() else {
        return;
    };
    let mut events = drivers.follow();
    let follow = async {
        while let Some(event) = events.recv().await {
            // Only a node that the API knows has drivers.
            agent.every_pod_listed().await;
            hear(&agent, event).await;
            agent.drivers_changed.send_replace(());
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow => {}
    }
}

/// Has drivers take back what they have mounted for a Pod.
///
/// # Errors
/// What could not be taken back; it may be tried again.
pub(crate) async fn take_back(agent: &Agent, uid: &str) -> Result<(), String> {
    let Some(drivers) = &agent.drivers else {
        return Ok(());
    };
    let had_some = drivers.unmount(uid).await.map_err(|e| e.to_string())?;
    if had_some || agent.in_use.is_used_by(uid).await {
        agent.in_use.release(agent, drivers.as_ref(), uid).await?;
    }
    Ok(())
}

/// Says of volumes that they are not in use any more which a dead agent has left: its Pods are all known now.
pub(crate) async fn settle(agent: &Agent) {
    let Some(drivers) = &agent.drivers else {
        return;
    };
    while let Err(why) = agent.in_use.release(agent, drivers.as_ref(), "").await {
        tracing::warn!("saying which volumes are in use: {why}");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn hear(agent: &Agent, event: DriverEvent) {
    match event {
        DriverEvent::Came { driver, answer } => {
            let installed = install(agent, &driver).await;
            // It may have gone meanwhile, which is told next.
            let _ = answer.send(installed);
        }
        DriverEvent::Gone { name } => {
            while let Err(why) = uninstall(agent, &name).await {
                tracing::warn!(
                    driver = name,
                    "a driver that is gone stays in the API: {why}"
                );
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Notes a driver at the Node and at its CSINode, which is made with the first.
async fn install(agent: &Agent, driver: &Driver) -> Result<(), String> {
    let failed = |error: kube::Error| {
        format!("error updating CSINode object with CSI driver node info: {error}")
    };
    let unnoted = |error: kube::Error| {
        format!("error updating Node object with CSI driver node info: {error}")
    };
    let nodes: Api<Node> = Api::all(agent.client.clone());
    let name = &agent.config.node_name;
    let found = nodes.get(name).await.map_err(unnoted)?;
    if let Some(patch) = node::noted(&found, driver)? {
        let params = PatchParams::default();
        let patched = nodes.patch(name, &params, &Patch::Merge(&patch)).await;
        patched.map_err(unnoted)?;
    }
    let api: Api<CSINode> = Api::all(agent.client.clone());
    match api.get_opt(name).await.map_err(failed)? {
        None => {
            let made = node::with_first(&found, driver);
            let made = api.create(&PostParams::default(), &made).await;
            made.map(drop).map_err(failed)
        }
        Some(there) => match node::with(there, driver) {
            None => Ok(()),
            Some(changed) => {
                let written = api.replace(name, &PostParams::default(), &changed).await;
                written.map(drop).map_err(failed)
            }
        },
    }
}

/// Takes a driver off the Node and out of the CSINode.
async fn uninstall(agent: &Agent, driver: &str) -> Result<(), kube::Error> {
    let name = &agent.config.node_name;
    let nodes: Api<Node> = Api::all(agent.client.clone());
    let found = nodes.get(name).await?;
    if let Some(patch) = node::unnoted(&found, driver) {
        let params = PatchParams::default();
        nodes.patch(name, &params, &Patch::Merge(&patch)).await?;
    }
    let api: Api<CSINode> = Api::all(agent.client.clone());
    let there = api.get_opt(name).await?;
    if let Some(changed) = there.and_then(|there| node::without(there, driver)) {
        let params = PostParams::default();
        api.replace(name, &params, &changed).await?;
    }
    Ok(())
}
