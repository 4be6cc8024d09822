//! Which nodes are still there: a node renews its Lease, and one that stops is said to be unknown, with its Pods not ready (upstream's
//! node lifecycle controller). What follows from that are taints ([`crate::conditions`]) and evictions ([`crate::taints`]).
//!
//! Only nodes that have a Lease are looked after: that beside the API server has none, and cannot be dead while somebody asks. Times are
//! those at which renewals are heard of, so clocks of nodes may differ. They are not kept: a later controller begins anew, as upstream's
//! does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::{Recorder, Words};
use futures::StreamExt;
use informer::{Heard, Mirror, Watch, watch};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, ResourceExt};
use lifecycle::node_events;
use ports::clock::Clock;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::pods;

/// Where nodes have their Leases.
const NAMESPACE: &str = "kube-node-lease";
/// Who the events are from, as upstream names it.
const COMPONENT: &str = "node-controller";
/// How long nothing may be heard of a node (upstream's `nodeMonitorGracePeriod`).
const GRACE: Duration = Duration::from_secs(50);
/// What could not be done is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// What an agent says of its node.
const TOLD: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Looks after nodes until `shutdown`.
pub(crate) async fn run(
    client: Client,
    recorder: &Recorder,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let mut leases: Watch<Lease> = watch(leases, Config::default());
    let mut beats = Beats {
        recorder: recorder.of(COMPONENT),
        client,
        clock,
        renewed: Mirror::default(),
        due: BTreeMap::new(),
    };
    loop {
        let next = beats.due.values().min().copied();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(event) = leases.next() => beats.hear(event),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                beats.look().await;
            }
        }
    }
}

struct Beats {
    recorder: Recorder,
    client: Client,
    clock: Arc<dyn Clock>,
    /// When nodes renewed their Leases last, by their own clocks.
    renewed: Mirror<Option<MicroTime>>,
    /// By when they have to do so again, by their names.
    due: BTreeMap<String, Instant>,
}

impl Beats {
    fn hear(&mut self, event: Result<Event<Lease>, watcher::Error>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => return tracing::warn!(%error, "watching Leases"),
        };
        let renewal = |lease: Lease| lease.spec.and_then(|spec| spec.renew_time);
        let due = Instant::now() + GRACE;
        match self.renewed.hear(event, renewal) {
            Heard::Nothing => {}
            Heard::One {
                key,
                old,
                is_there: true,
            } => {
                let now = self.renewed.get(&key).cloned();
                if old != now {
                    self.due.insert(key.1, due);
                }
            }
            Heard::One { key, .. } => {
                self.due.remove(&key.1);
            }
            // While nothing could be heard, nobody is to blame.
            Heard::All { .. } => {
                let all = self
                    .renewed
                    .iter()
                    .map(|((_, name), _)| (name.clone(), due));
                self.due = all.collect();
            }
        }
    }

    /// Looks at the nodes of which nothing was heard for too long.
    async fn look(&mut self) {
        let now = Instant::now();
        let over = self.due.iter().filter(|(_, due)| **due <= now);
        for name in over.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.due.remove(&name);
            match self.give_up(&name).await {
                Ok(()) => {}
                // It is gone, or has just said something.
                Err(error) if pods::is_moot(&error) => {}
                Err(error) => {
                    tracing::warn!(node = name, %error, "saying that nothing is heard of a node");
                    self.due.insert(name, now + AGAIN);
                }
            }
        }
    }

    /// Says of a node that nothing is known of it, and of its Pods that they are not ready.
    async fn give_up(&self, name: &str) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get(name).await?;
        let unknown = unknown(&node, self.clock.now());
        if !unknown.is_empty() {
            let patch = json!({
                "metadata": {"resourceVersion": node.resource_version()},
                "status": {"conditions": unknown},
            });
            let patch = Patch::Strategic(&patch);
            let params = PatchParams::default();
            nodes.patch_status(name, &params, &patch).await?;
            let words = node_events::readiness(name, false);
            let words = Words::normal(words.reason, words.message);
            self.recorder.record(of_node(&node), words);
        }
        self.pods_are_not_ready(name).await
    }

    async fn pods_are_not_ready(&self, node: &str) -> Result<(), kube::Error> {
        let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let api: Api<Pod> = Api::all(self.client.clone());
        for pod in api.list(&here).await? {
            if !is_ready(&pod) {
                continue;
            }
            let ready = json!({
                "type": "Ready", "status": "False", "lastTransitionTime": Time(self.clock.now()),
            });
            let status = json!({"conditions": [ready]});
            match pods::patch_status(&self.client, &pod, None, status).await {
                Err(error) if !pods::is_moot(&error) => return Err(error),
                Err(_) => continue,
                Ok(()) => {}
            }
            let words = Words::warning("NodeNotReady", "Node is not ready".to_owned());
            self.recorder.record(of_pod(&pod), words);
        }
        Ok(())
    }
}

/// The conditions of a node of which nothing is heard, those that say something else now.
fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let said = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let said: Vec<&NodeCondition> = said.into_iter().flatten().collect();
    let of = |kind: &&str| {
        let before = said.iter().find(|condition| condition.type_ == *kind);
        let [reason, message] = match before {
            Some(before) if before.status == "Unknown" => return None,
            Some(_) => ["NodeStatusUnknown", "Kubelet stopped posting node status."],
            None => [
                "NodeStatusNeverUpdated",
                "Kubelet never posted node status.",
            ],
        };
        let made = node.metadata.creation_timestamp.clone();
        let heard = before.map_or(made, |before| before.last_heartbeat_time.clone());
        Some(NodeCondition {
            type_: (*kind).to_owned(),
            status: "Unknown".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: heard,
            last_transition_time: Some(Time(now)),
        })
    };
    TOLD.iter().filter_map(of).collect()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Nodes go by their names for UIDs, as upstream has it.
fn of_node(node: &Node) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".into()),
        name: node.metadata.name.clone(),
        uid: node.metadata.name.clone(),
        ..ObjectReference::default()
    }
}

fn of_pod(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_no_more_is_unknown() {
        let node = |conditions: serde_json::Value| -> Node {
            let made = "2026-01-01T00:00:00Z";
            serde_json::from_value(json!({
                "metadata": {"name": "n", "creationTimestamp": made},
                "status": {"conditions": conditions},
            }))
            .expect("a Node")
        };
        let said = |kind: &str, status: &str| {
            let heard = "2026-01-02T00:00:00Z";
            json!({"type": kind, "status": status, "lastHeartbeatTime": heard})
        };
        let now: Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
        let told = unknown(
            &node(json!([
                said("Ready", "True"),
                said("PIDPressure", "Unknown")
            ])),
            now,
        );
        let shown: Vec<String> = told
            .iter()
            .map(|c| {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                let heard = c
                    .last_heartbeat_time
                    .as_ref()
                    .map(|at| at.0.strftime("%d").to_string());
                let turned = c.last_transition_time.as_ref().map(|at| at.0 == now);
                format!(
                    "{} {} {} {heard:?} {turned:?}",
                    c.type_,
                    c.status,
                    text(&c.reason)
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#"Ready Unknown NodeStatusUnknown Some("02") Some(true)"#,
                r#"MemoryPressure Unknown NodeStatusNeverUpdated Some("01") Some(true)"#,
                r#"DiskPressure Unknown NodeStatusNeverUpdated Some("01") Some(true)"#,
            ]
        );
        let all: Vec<_> = TOLD.iter().map(|kind| said(kind, "Unknown")).collect();
        assert!(unknown(&node(json!(all)), now).is_empty());
    }
}
