//! The heartbeat of a node whose API server is elsewhere: its Lease, renewed as upstream's agent does (KEP-589). A node beside its server
//! has none: it cannot be dead while somebody asks, and nothing is written when nothing changes.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

/// Where nodes have their Leases.
const NAMESPACE: &str = "kube-node-lease";
/// For how long a node is believed to be there (`nodeLeaseDurationSeconds`).
const SECONDS: i32 = 40;
/// Each quarter of that the Lease is renewed.
const EACH: Duration = Duration::from_secs(10);

/// Renews the Lease until `shutdown`, if there is to be one.
pub(crate) async fn run(agent: Arc<Agent>, shutdown: CancellationToken) {
    if !agent.config.has_lease {
        return;
    }
    let mut held = None;
    let mut ticks = interval(EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let renewing = timeout(EACH, renew(&agent, held.take()));
        tokio::select! {
            () = shutdown.cancelled() => return,
            renewed = renewing => match renewed {
                Ok(Ok(lease)) => held = Some(lease),
                Ok(Err(error)) => tracing::warn!(%error, "renewing the node's Lease"),
                Err(_) => tracing::warn!("renewing the node's Lease: no answer"),
            }
        }
    }
}

/// Renews the Lease as it is held, or as the server has it; one that is not there is made.
async fn renew(agent: &Agent, held: Option<Lease>) -> Result<Lease, kube::Error> {
    let api: Api<Lease> = Api::namespaced(agent.client.clone(), NAMESPACE);
    let name = &agent.config.node_name;
    if let Some(held) = held {
        match api
            .replace(name, &PostParams::default(), &renewed(agent, held))
            .await
        {
            // Somebody has changed or deleted it.
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
            done => return done,
        }
    }
    let lease = match api.get_opt(name).await? {
        Some(lease) => renewed(agent, lease),
        None => {
            let made = renewed(agent, new(agent).await?);
            return api.create(&PostParams::default(), &made).await;
        }
    };
    api.replace(name, &PostParams::default(), &lease).await
}

fn renewed(agent: &Agent, mut lease: Lease) -> Lease {
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(agent.config.node_name.clone()),
        lease_duration_seconds: Some(SECONDS),
        renew_time: Some(MicroTime(agent.now())),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

/// A Lease that goes with the Node, once there is one.
async fn new(agent: &Agent) -> Result<Lease, kube::Error> {
    let nodes: Api<Node> = Api::all(agent.client.clone());
    let name = &agent.config.node_name;
    let node = nodes.get_opt(name).await?;
    let uid = node.and_then(|node| node.metadata.uid);
    let owner = uid.map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid,
        ..OwnerReference::default()
    });
    Ok(Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: None,
    })
}
