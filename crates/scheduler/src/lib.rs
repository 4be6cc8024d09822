//! The scheduler: gives every waiting Pod of `default-scheduler` the node that can take it, or says why none can.
//!
//! It decides by the filters that make sense on one machine (see [`fit`]) and leaves scoring and preemption to larger clusters. One
//! task watches Nodes, waiting Pods, the claims for storage they name, and what Pods hold of the nodes; a Pod is looked at when it
//! appears or changes, or a claim of it does, all of them when a node changes or something is left. Bindings are written side by side, so
//! that the next Pod does not wait for the disk; what is being bound holds its share already. A refusal is written once; that it still
//! holds when nodes or claims have changed is counted in its Event.

mod claims;
pub mod fit;
mod report;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::series::{SeriesPoster, SeriesRecorder};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use informer::{Heard, Watch, watch, watch_all};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use lifecycle::room::Room;
use lifecycle::share::Share;
use ports::clock::Clock;
use tokio_util::sync::CancellationToken;

use self::claims::{Claim, Claims, Storage, is_delayed};

/// The name Pods ask for in `spec.schedulerName`, and the component of its events.
pub const NAME: &str = "default-scheduler";

/// How long a binding waits that could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// Schedules until `shutdown`. A Pod whose binding was refused is tried again when it or a node changes.
pub async fn run(client: Client, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let (scheduler, poster) = Scheduler::new(client, clock);
    tokio::join!(scheduler.run(shutdown.clone()), poster.run(shutdown));
}

/// Binds Pods to nodes through the API.
struct Scheduler {
    client: Client,
    clock: Arc<dyn Clock>,
    recorder: SeriesRecorder,
    nodes: BTreeMap<String, Node>,
    claims: Claims,
    /// What is held of each node, also of one that is not known yet.
    rooms: BTreeMap<String, Room>,
    /// Where each Pod that has a node holds how much, by UID.
    held: BTreeMap<String, (String, Share)>,
    waiting: BTreeMap<String, Waiting>,
    binding: FuturesUnordered<BoxFuture<'static, Bound>>,
}

/// Which Pods are to be looked at.
enum Look {
    At(String),
    AtAll,
}

/// How a binding ended.
struct Bound {
    pod: Pod,
    node: String,
    result: Result<(), kube::Error>,
}

/// A Pod without a node.
struct Waiting {
    pod: Pod,
    /// Its binding is being written.
    is_binding: bool,
    /// What was last said about it; it is in its condition.
    refusal: Option<String>,
}

impl Scheduler {
    /// A scheduler that talks to the API through `client`, and who posts what it tells.
    fn new(client: Client, clock: Arc<dyn Clock>) -> (Self, SeriesPoster) {
        let told = clock.clone();
        let now = Arc::new(move || told.now());
        let instance = format!("{NAME}-0");
        let (recorder, poster) = events::series::new(client.clone(), now, NAME, &instance);
        let scheduler = Scheduler {
            client,
            clock,
            recorder,
            nodes: BTreeMap::new(),
            claims: Claims::default(),
            rooms: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            binding: FuturesUnordered::new(),
        };
        (scheduler, poster)
    }

    async fn run(mut self, shutdown: CancellationToken) {
        // One that has ended holds nothing.
        let alive = Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let mut nodes: Watch<Node> = watch_all(&self.client);
        let mut pods: Watch<Pod> = watch(Api::all(self.client.clone()), alive);
        let mut claims: Watch<PersistentVolumeClaim> = watch_all(&self.client);
        let mut classes: Watch<StorageClass> = watch_all(&self.client);
        let (mut nodes_known, mut pods_known) = (false, false);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = nodes.next() => match event {
                    Ok(event) => {
                        nodes_known |= matches!(event, Event::InitDone);
                        if self.node_event(event) && nodes_known && pods_known {
                            self.schedule_all().await;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "watching nodes"),
                },
                Some(event) = pods.next() => match event {
                    Ok(event) => {
                        match event {
                            Event::Init => pods_known = false,
                            Event::InitDone => pods_known = true,
                            _ => {}
                        }
                        let look = self.pod_event(event);
                        match look.filter(|_| nodes_known && pods_known) {
                            Some(Look::At(key)) => drop(self.schedule(&key).await),
                            Some(Look::AtAll) => self.schedule_all().await,
                            None => {}
                        }
                    }
                    Err(error) => tracing::warn!(%error, "watching pods"),
                },
                Some(event) = claims.next() => match event {
                    Ok(event) => {
                        let heard = self.claims.claims.hear(event, |claim| Claim::of(&claim));
                        self.storage_changed(heard, nodes_known && pods_known).await;
                    }
                    Err(error) => tracing::warn!(%error, "watching claims"),
                },
                Some(event) = classes.next() => match event {
                    Ok(event) => {
                        let heard = self.claims.classes.hear(event, |class| is_delayed(&class));
                        self.storage_changed(heard, nodes_known && pods_known).await;
                    }
                    Err(error) => tracing::warn!(%error, "watching classes of storage"),
                },
                Some(bound) = self.binding.next(), if !self.binding.is_empty() => self.bound(bound),
                else => return,
            }
        }
    }

    /// Looks at those again that may have waited for a claim.
    async fn storage_changed<T>(&mut self, heard: Heard<T>, is_known: bool) {
        if matches!(heard, Heard::Nothing) || !is_known || !self.claims.is_synced() {
            return;
        }
        let waiting = self.waiting.iter();
        let waiting = waiting.filter(|(_, waiting)| claims::has_some(&waiting.pod));
        let mut keys: Vec<_> = waiting
            .map(|(key, w)| (turn(&w.pod), key.clone()))
            .collect();
        keys.sort();
        for (_, key) in keys {
            self.schedule_again(&key).await;
        }
    }

    /// Where a Pod can go, if its storage is there; nothing where that is about to be.
    fn choose(&self, pod: &Pod) -> Option<Result<String, String>> {
        if claims::has_some(pod) {
            if !self.claims.is_synced() {
                return None;
            }
            match self.claims.look(pod) {
                Storage::Ready => {}
                Storage::Coming => return None,
                Storage::Missing(why) => return Some(Err(fit::on_none(self.nodes.len(), &why))),
            }
        }
        let nodes = self.nodes.iter();
        let nodes = nodes.filter_map(|(name, node)| Some((node, self.rooms.get(name)?)));
        Some(fit::choose(pod, nodes))
    }

    /// Takes in a node event; true if Pods should be looked at again.
    fn node_event(&mut self, event: Event<Node>) -> bool {
        match event {
            Event::Init => self.nodes.clear(),
            Event::InitApply(node) | Event::Apply(node) => {
                let name = node.name_any();
                let room = self.rooms.entry(name.clone()).or_default();
                room.resize(fit::allocatable(&node));
                let old = self.nodes.insert(name, node.clone());
                return old.is_none_or(|old| fit::differs(&old, &node));
            }
            Event::Delete(node) => {
                self.nodes.remove(&node.name_any());
            }
            Event::InitDone => return true,
        }
        false
    }

    /// Takes in a Pod event; which Pods to look at then.
    fn pod_event(&mut self, event: Event<Pod>) -> Option<Look> {
        match event {
            Event::Init => {
                self.waiting.clear();
                let held: Vec<String> = self.held.keys().cloned().collect();
                for uid in held {
                    self.leave(&uid);
                }
                None
            }
            Event::InitApply(pod) | Event::Apply(pod) => self.applied(pod),
            Event::Delete(pod) => {
                let key = key(&pod);
                self.waiting.remove(&key);
                self.leave(&key).then_some(Look::AtAll)
            }
            Event::InitDone => Some(Look::AtAll),
        }
    }

    fn applied(&mut self, pod: Pod) -> Option<Look> {
        let key = key(&pod);
        if let Some(node) = node_of(&pod) {
            self.waiting.remove(&key);
            let is_less = self.hold(&key, node, Share::held_by(&pod));
            return is_less.then_some(Look::AtAll);
        }
        if !is_ours(&pod) {
            self.waiting.remove(&key);
            return None;
        }
        let old = self.waiting.remove(&key);
        let is_same = |old: &Waiting| old.pod.metadata.generation == pod.metadata.generation;
        let waiting = Waiting {
            is_binding: old.as_ref().is_some_and(|old| old.is_binding),
            // What was said of another spec is said anew.
            refusal: old.filter(is_same).and_then(|old| old.refusal),
            pod,
        };
        self.waiting.insert(key.clone(), waiting);
        Some(Look::At(key))
    }

    /// A Pod holds so much of a node; true if it held something else before.
    fn hold(&mut self, uid: &str, node: &str, share: Share) -> bool {
        let place = (node.to_owned(), share);
        if self.held.get(uid) == Some(&place) {
            return false;
        }
        let is_less = self.leave(uid);
        let room = self.rooms.entry(place.0.clone()).or_default();
        room.hold(uid, place.1.clone());
        self.held.insert(uid.to_owned(), place);
        is_less
    }

    /// A Pod holds nothing any more; true if it did.
    fn leave(&mut self, uid: &str) -> bool {
        let Some((node, _)) = self.held.remove(uid) else {
            return false;
        };
        if let Some(room) = self.rooms.get_mut(&node) {
            room.leave(uid);
        }
        true
    }

    async fn schedule_all(&mut self) {
        let mut keys: Vec<_> = self
            .waiting
            .iter()
            .map(|(key, waiting)| (turn(&waiting.pod), key.clone()))
            .collect();
        keys.sort();
        for (_, key) in keys {
            self.schedule_again(&key).await;
        }
    }

    /// Looks at a Pod because of something else: what was said about it is said once more if it holds.
    async fn schedule_again(&mut self, key: &str) {
        if let Some(why) = self.schedule(key).await
            && let Some(waiting) = self.waiting.get(key)
        {
            report::failed(&self.recorder, &waiting.pod, &why);
        }
    }

    /// Gives a Pod its node, or says why none can take it; what was said already is returned.
    async fn schedule(&mut self, key: &str) -> Option<String> {
        let waiting = self.waiting.get(key).filter(|w| !w.is_binding)?;
        let choice = self.choose(&waiting.pod)?;
        let waiting = self.waiting.get_mut(key)?;
        match choice {
            Ok(node) => {
                waiting.is_binding = true;
                let (client, pod) = (self.client.clone(), waiting.pod.clone());
                self.hold(key, &node, Share::of(&pod));
                self.binding.push(Box::pin(async move {
                    let result = bind(&client, &pod, &node).await;
                    Bound { pod, node, result }
                }));
            }
            Err(refusal) if waiting.refusal.as_ref() != Some(&refusal) => {
                let now = self.clock.now();
                match report::refuse(&self.client, &waiting.pod, &refusal, now).await {
                    Ok(()) => {
                        report::failed(&self.recorder, &waiting.pod, &refusal);
                        waiting.refusal = Some(refusal);
                    }
                    Err(error) => tracing::warn!(pod = key, %error, "reporting that no node fits"),
                }
            }
            Err(refusal) => return Some(refusal),
        }
        None
    }

    fn bound(&mut self, bound: Bound) {
        let key = key(&bound.pod);
        match bound.result {
            Ok(()) => {
                self.waiting.remove(&key);
                report::scheduled(&self.recorder, &bound.pod, &bound.node);
            }
            Err(error) => {
                tracing::warn!(pod = key, %error, "binding");
                if let Some(waiting) = self.waiting.get_mut(&key) {
                    waiting.is_binding = false;
                    self.leave(&key);
                }
            }
        }
    }
}

/// Binds, however often it takes: only an answer of the server's ends it.
async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    loop {
        match report::bind(client, pod, node).await {
            Err(kube::Error::Api(refused)) if refused.code < 500 && refused.code != 429 => {
                return Err(kube::Error::Api(refused));
            }
            Err(error) => tracing::warn!(pod = key(pod), %error, "binding"),
            Ok(()) => return Ok(()),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn key(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Pods of higher priority go first, then those that have waited longer.
fn turn(pod: &Pod) -> (Reverse<i32>, Option<Time>) {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    (Reverse(priority), pod.metadata.creation_timestamp.clone())
}

/// The node a Pod is bound to.
fn node_of(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.node_name.as_deref()?;
    Some(name).filter(|name| !name.is_empty())
}

/// Whether a Pod waits for this scheduler: no node yet, not going away, no gates.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let scheduler = spec.scheduler_name.as_deref().unwrap_or(NAME);
    scheduler == NAME
        && spec.node_name.as_deref().unwrap_or_default().is_empty()
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && pod.metadata.deletion_timestamp.is_none()
}
