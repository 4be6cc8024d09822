//! Pods nobody looks after any more (upstream's pod-garbage-collector, spec `§2.6`): those that are bound to a node which does not
//! exist, and the oldest of those that are over when there are too many.
//!
//! A node that is missing may be on its way, or may come back under its name: its Pods are let be for [`QUARANTINE`], and the API is
//! asked once more before they go. Only such Pods and those that are over are watched. When a node began to be missing is not kept: a
//! later controller begins anew, as upstream's does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use informer::{Heard, Key, Mirror, Wanted, Watch, watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use ports::clock::Clock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::pods;

/// How long a node may be missing.
const QUARANTINE: Duration = Duration::from_secs(40);
/// A Pod that could not be removed is tried again after this.
const AGAIN: Duration = Duration::from_secs(20);
/// So many Pods that are over may stay; upstream's `--terminated-pod-gc-threshold`.
const MOST_OVER: usize = 12_500;

/// Removes such Pods until `shutdown`.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut nodes: Watch<Node> = watch_all(&client);
    let over = "status.phase!=Pending,status.phase!=Running,status.phase!=Unknown";
    let over = Config::default().fields(over);
    let mut over: Watch<Pod> = watch(Api::all(client.clone()), over);
    // Opened anew whenever there are other nodes.
    let mut strays = Wanted::default();
    let mut garbage = Garbage {
        client,
        clock,
        nodes: Mirror::default(),
        strays: Mirror::default(),
        missing: BTreeMap::new(),
        over: Mirror::default(),
        again: None,
    };
    loop {
        let next = garbage.next();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = nodes.next() => match event {
                Ok(event) => if garbage.node(event) {
                    strays.follow(garbage.watch_strays());
                },
                Err(error) => tracing::warn!(%error, "watching nodes"),
            },
            Some(event) = strays.next() => match event {
                Ok(event) => garbage.stray(event),
                Err(error) => tracing::warn!(%error, "watching pods of no node"),
            },
            Some(event) = over.next() => match event {
                Ok(event) => garbage.over(event).await,
                Err(error) => tracing::warn!(%error, "watching pods that are over"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => garbage.collect().await,
        }
    }
}

struct Garbage {
    client: Client,
    clock: Arc<dyn Clock>,
    nodes: Mirror<()>,
    /// Pods of nodes that were not there when they were listed, with the node.
    strays: Mirror<(String, Pod)>,
    /// Until when nodes with such Pods may be missing.
    missing: BTreeMap<String, Instant>,
    over: Mirror<Over>,
    /// When Pods that are over are looked at again, since some could not be deleted.
    again: Option<Instant>,
}

/// What there is to know of a Pod that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Over {
    /// It was evicted: such Pods go first.
    is_evicted: bool,
    created: Option<Timestamp>,
    uid: Option<String>,
}

impl Over {
    fn of(pod: &Pod) -> Self {
        let reason = pod.status.as_ref().and_then(|s| s.reason.as_deref());
        Over {
            is_evicted: reason == Some("Evicted"),
            created: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
            uid: pod.metadata.uid.clone(),
        }
    }
}

impl Garbage {
    fn next(&self) -> Option<Instant> {
        self.missing.values().copied().chain(self.again).min()
    }

    /// Whether other nodes are there now.
    fn node(&mut self, event: Event<Node>) -> bool {
        match self.nodes.hear(event, |_| ()) {
            Heard::Nothing => false,
            Heard::One { old, is_there, .. } => self.nodes.is_synced() && old.is_some() != is_there,
            Heard::All { .. } => true,
        }
    }

    /// Watches Pods that are bound to a node which is not there.
    fn watch_strays(&self) -> Watch<Pod> {
        let there = self.nodes.iter().map(|((_, name), ())| name.as_str());
        let elsewhere = std::iter::once("").chain(there);
        let elsewhere: Vec<String> = elsewhere.map(|n| format!("spec.nodeName!={n}")).collect();
        let config = Config::default().fields(&elsewhere.join(","));
        watch(Api::all(self.client.clone()), config)
    }

    fn stray(&mut self, event: Event<Pod>) {
        let with_node = |pod: Pod| (node_of(&pod).to_owned(), pod);
        if matches!(self.strays.hear(event, with_node), Heard::Nothing) {
            return;
        }
        let nodes: BTreeSet<&String> = self.strays.iter().map(|(_, (node, _))| node).collect();
        self.missing.retain(|node, _| nodes.contains(node));
        for node in nodes {
            let end = Instant::now() + QUARANTINE;
            self.missing.entry(node.clone()).or_insert(end);
        }
    }

    async fn over(&mut self, event: Event<Pod>) {
        match self.over.hear(event, |pod| Over::of(&pod)) {
            Heard::Nothing => {}
            Heard::One { .. } | Heard::All { .. } => self.thin_out().await,
        }
    }

    /// Removes what has been waited for long enough.
    async fn collect(&mut self) {
        let now = Instant::now();
        if self.again.is_some_and(|again| again <= now) {
            self.again = None;
            self.thin_out().await;
        }
        let due = self.missing.iter().filter(|(_, end)| **end <= now);
        let due: Vec<String> = due.map(|(node, _)| node.clone()).collect();
        for node in due {
            // Whatever fails, and whoever comes meanwhile: it is looked at again.
            self.missing.insert(node.clone(), now + AGAIN);
            match self.is_missing(&node).await {
                Ok(true) => self.remove_strays(&node).await,
                Ok(false) => {}
                Err(error) => tracing::warn!(node, %error, "looking for a node"),
            }
        }
    }

    async fn is_missing(&self, node: &str) -> Result<bool, kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes.get_opt(node).await?.is_none())
    }

    async fn remove_strays(&self, node: &str) {
        let of_node = self.strays.iter().filter(|(_, (of, _))| of == node);
        for (key, (_, pod)) in of_node {
            tracing::info!(
                namespace = key.0,
                pod = key.1,
                node,
                "removing a pod of no node"
            );
            let removed = match self.fail(pod).await {
                Ok(()) => self.delete(key, pod.metadata.uid.as_ref()).await,
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) => {}
                Err(error) if pods::is_moot(&error) => {}
                Err(error) => tracing::warn!(pod = key.1, %error, "removing a pod of no node"),
            }
        }
    }

    /// Says of a Pod that is not over that it has failed.
    async fn fail(&self, pod: &Pod) -> Result<(), kube::Error> {
        if api::pod::is_over(pod) {
            return Ok(());
        }
        let why = ["DeletionByPodGC", "PodGC: node no longer exists"];
        let target = pods::target(pod, Some(why), self.clock.now());
        let status = serde_json::json!({"phase": "Failed", "conditions": [target]});
        pods::patch_status(&self.client, pod, None, status).await
    }

    async fn delete(&self, key: &Key, uid: Option<&String>) -> Result<(), kube::Error> {
        pods::delete(&self.client, &key.0, &key.1, uid.cloned(), Some(0)).await
    }

    /// Deletes Pods that are over until few enough are left.
    async fn thin_out(&mut self) {
        for key in surplus(&self.over, MOST_OVER) {
            let uid = self.over.get(&key).and_then(|over| over.uid.clone());
            match self.delete(&key, uid.as_ref()).await {
                Ok(()) => {}
                Err(error) if pods::is_moot(&error) => {}
                Err(error) => {
                    tracing::warn!(pod = key.1, %error, "deleting a pod that is over");
                    self.again = Some(Instant::now() + AGAIN);
                }
            }
        }
    }
}

/// Pods that are too many: those that were evicted, then the oldest.
fn surplus(over: &Mirror<Over>, most: usize) -> Vec<Key> {
    let surplus = over.len().saturating_sub(most);
    if surplus == 0 {
        return Vec::new();
    }
    let mut all: Vec<_> = over.iter().collect();
    all.sort_by_key(|(key, over)| (!over.is_evicted, over.created, *key));
    let first = all.into_iter().take(surplus);
    first.map(|(key, _)| key.clone()).collect()
}

fn node_of(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn over(name: &str, created: &str, reason: &str) -> Pod {
        let pod = json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name, "creationTimestamp": created},
            "status": {"phase": "Failed", "reason": reason},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn mirror(pods: &[Pod]) -> Mirror<Over> {
        let mut mirror = Mirror::default();
        for pod in pods {
            mirror.hear(Event::Apply(pod.clone()), |pod| Over::of(&pod));
        }
        mirror
    }

    #[test]
    fn of_too_many_the_evicted_and_then_the_oldest_go() {
        let pods = [
            over("b", "2026-01-02T00:00:00Z", ""),
            over("c", "2026-01-01T00:00:00Z", ""),
            over("e", "2026-01-04T00:00:00Z", "Evicted"),
            over("a", "2026-01-02T00:00:00Z", ""),
        ];
        let over = mirror(&pods);
        let gone = |most| -> Vec<String> {
            let keys = surplus(&over, most).into_iter();
            keys.map(|(_, name)| name).collect()
        };
        assert_eq!(gone(4), [""; 0]);
        assert_eq!(gone(3), ["e"]);
        assert_eq!(gone(1), ["e", "c", "a"]);
        assert_eq!(gone(0), ["e", "c", "a", "b"]);
    }
}
