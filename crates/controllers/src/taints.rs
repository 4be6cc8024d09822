//! Who has to leave a node that has a NoExecute taint (upstream's taint-eviction-controller): Pods that do not tolerate it at once,
//! those that tolerate it for a while when that is over, unless the taint goes before.
//!
//! Pods are watched only while a node has such a taint. When the time began to run is not kept: a later controller begins anew, as
//! upstream's does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::fit::{self, Stay};
use events::{Recorder, Words};
use futures::StreamExt;
use informer::{Wanted, Watch, watch, watch_all};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use ports::clock::Clock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::pods;

/// Who the events are from.
const COMPONENT: &str = "taint-eviction-controller";
/// A Pod that could not be deleted is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Evicts Pods until `shutdown`.
pub(crate) async fn run(
    client: Client,
    recorder: &Recorder,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let mut nodes: Watch<Node> = watch_all(&client);
    let mut pods = Wanted::default();
    let mut evictions = Evictions {
        recorder: recorder.of(COMPONENT),
        client,
        clock,
        tainted: BTreeMap::new(),
        pods: BTreeMap::new(),
        due: BTreeMap::new(),
    };
    loop {
        let next = evictions.due.values().min().copied();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = nodes.next() => match event {
                Ok(event) => evictions.node(event).await,
                Err(error) => tracing::warn!(%error, "watching nodes"),
            },
            Some(event) = pods.next() => match event {
                Ok(event) => evictions.pod(event).await,
                Err(error) => tracing::warn!(%error, "watching pods"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => evictions.evict().await,
        }
        let bound = || {
            let bound = Config::default().fields("spec.nodeName!=");
            watch(Api::<Pod>::all(evictions.client.clone()), bound)
        };
        if pods.follow_if(!evictions.tainted.is_empty(), bound) {
            evictions.pods.clear();
        }
    }
}

struct Evictions {
    recorder: Recorder,
    client: Client,
    clock: Arc<dyn Clock>,
    /// Nodes with a NoExecute taint.
    tainted: BTreeMap<String, Node>,
    /// Bound Pods by UID, while there are such nodes.
    pods: BTreeMap<String, Pod>,
    /// When Pods have to leave, by UID.
    due: BTreeMap<String, Instant>,
}

impl Evictions {
    async fn node(&mut self, event: Event<Node>) {
        match event {
            Event::InitApply(node) | Event::Apply(node) => {
                let name = node.name_any();
                if fit::has_taint(&node, fit::NO_EXECUTE) {
                    self.tainted.insert(name.clone(), node);
                } else if self.tainted.remove(&name).is_none() {
                    return;
                }
                let here = |pod: &&Pod| node_of(pod) == name;
                let here = self.pods.values().filter(here).map(uid);
                for uid in here.collect::<Vec<_>>() {
                    self.judge(&uid).await;
                }
            }
            Event::Delete(node) => {
                self.tainted.remove(&node.name_any());
            }
            Event::Init | Event::InitDone => {}
        }
    }

    async fn pod(&mut self, event: Event<Pod>) {
        match event {
            Event::InitApply(pod) | Event::Apply(pod) => {
                let uid = uid(&pod);
                self.pods.insert(uid.clone(), pod);
                self.judge(&uid).await;
            }
            Event::Delete(pod) => {
                self.pods.remove(&uid(&pod));
                self.due.remove(&uid(&pod));
            }
            Event::Init => self.pods.clear(),
            Event::InitDone => {}
        }
    }

    /// Decides when a Pod has to leave.
    async fn judge(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else {
            return;
        };
        let stay = match self.tainted.get(node_of(pod)) {
            Some(node) if pod.metadata.deletion_timestamp.is_none() => fit::stay(pod, node),
            _ => Stay::Forever,
        };
        match stay {
            Stay::Forever => {
                if self.due.remove(uid).is_some() && pod.metadata.deletion_timestamp.is_none() {
                    self.tell(pod, "Cancelling deletion of Pod");
                }
            }
            Stay::For(seconds) => {
                let end = Instant::now() + Duration::from_secs(seconds);
                // Its time has begun to run before.
                let due = self.due.entry(uid.to_owned()).or_insert(end);
                *due = (*due).min(end);
            }
        }
    }

    /// Evicts who has to leave by now.
    async fn evict(&mut self) {
        let now = Instant::now();
        let over = self.due.iter().filter(|(_, due)| **due <= now);
        let over: Vec<String> = over.map(|(uid, _)| uid.clone()).collect();
        for uid in over {
            self.due.remove(&uid);
            let Some(pod) = self.pods.get(&uid) else {
                continue;
            };
            self.tell(pod, "Marking for deletion Pod");
            match self.delete(pod).await {
                Ok(()) => {}
                Err(error) if pods::is_moot(&error) => {}
                Err(error) => {
                    tracing::warn!(pod = uid, %error, "evicting");
                    self.due.insert(uid, now + AGAIN);
                }
            }
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), kube::Error> {
        let why = [
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        ];
        let target = pods::target(pod, Some(why), self.clock.now());
        let status = serde_json::json!({"conditions": [target]});
        pods::patch_status(&self.client, pod, None, status).await?;
        let namespace = pod.namespace().unwrap_or_default();
        let uid = pod.metadata.uid.clone();
        pods::delete(&self.client, &namespace, &pod.name_any(), uid, None).await
    }

    fn tell(&self, pod: &Pod, what: &str) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let message = format!("{what} {namespace}/{name}");
        let words = Words::normal("TaintManagerEviction", message);
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name),
            namespace: Some(namespace),
            ..ObjectReference::default()
        };
        self.recorder.record(about, words);
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn node_of(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}
