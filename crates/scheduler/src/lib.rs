//! The scheduler: gives every waiting Pod of `default-scheduler` the node that can take it, or says why none can.
//!
//! It decides by upstream's filters (see [`fit`]), has less important Pods make room for more important ones ([`preempt`]), and leaves
//! scoring to larger clusters. One task watches Nodes, waiting Pods, the claims for storage they name, and where Pods stand and what they hold
//! ([`cluster`]); a Pod is looked at when it appears or changes, or a claim of it does, all of them when a node changes or
//! something is left, those that mind their neighbours when one of these changes. Bindings are written side by side, so
//! that the next Pod does not wait for the disk; what is being bound holds its share already. A refusal is written once; that it still
//! holds when nodes or claims have changed is counted in its Event.

mod affinity;
mod claims;
mod cluster;
mod evict;
mod fit;
mod preempt;
mod report;
mod spread;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::series::{SeriesPoster, SeriesRecorder};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use informer::{Heard, Mirror, Watch, hear_each, watch, watch_all};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use lifecycle::share::Share;
use ports::clock::Clock;
use tokio_util::sync::CancellationToken;

use self::claims::{Claim, Claims, Storage, is_delayed};
use self::cluster::{Change, Cluster, Placed, priority};
use self::preempt::{Budget, Victims};

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
    cluster: Cluster,
    claims: Claims,
    waiting: BTreeMap<String, Waiting>,
    binding: FuturesUnordered<BoxFuture<'static, Bound>>,
    /// Pods that are being told to make room for one, whose UID is returned.
    evicting: FuturesUnordered<BoxFuture<'static, String>>,
}

/// Which Pods are to be looked at.
enum Look {
    At(String),
    /// At those that mind which others stand where.
    AtMinding,
    AtAll,
}

/// What becomes of a waiting Pod.
enum Choice {
    Node(String),
    /// No node takes it, for this reason; others may make room.
    None(String, Option<Victims>),
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
    /// Others are being told to make room for it.
    is_evicting: bool,
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
            cluster: Cluster::default(),
            claims: Claims::default(),
            waiting: BTreeMap::new(),
            binding: FuturesUnordered::new(),
            evicting: FuturesUnordered::new(),
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
        let mut namespaces: Watch<Namespace> = watch_all(&self.client);
        let mut budgets: Watch<PodDisruptionBudget> = watch_all(&self.client);
        let (mut known_namespaces, mut known_budgets) = (Mirror::default(), Mirror::default());
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
                            Some(Look::AtMinding) => self.schedule_those(minds).await,
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
                Some(event) = namespaces.next() => {
                    let known = &mut self.cluster.namespaces;
                    hear_each("Namespaces", &mut known_namespaces, event, |(_, name), namespace| {
                        match namespace {
                            Some(found) => known.insert(name, found.metadata.labels.unwrap_or_default()),
                            None => known.remove(&name),
                        };
                    });
                    if nodes_known && pods_known {
                        self.schedule_those(minds).await;
                    }
                }
                Some(event) = budgets.next() => {
                    let known = &mut self.cluster.budgets;
                    hear_each("PodDisruptionBudgets", &mut known_budgets, event, |key, budget| {
                        match budget {
                            Some(found) => known.insert(key, Budget::of(&found)),
                            None => known.remove(&key),
                        };
                    });
                }
                Some(bound) = self.binding.next(), if !self.binding.is_empty() => self.bound(bound),
                Some(key) = self.evicting.next(), if !self.evicting.is_empty() => {
                    if let Some(waiting) = self.waiting.get_mut(&key) {
                        waiting.is_evicting = false;
                    }
                    // They may be gone already.
                    self.schedule(&key).await;
                }
                else => return,
            }
        }
    }

    /// Looks at those again that may have waited for a claim.
    async fn storage_changed<T>(&mut self, heard: Heard<T>, is_known: bool) {
        if matches!(heard, Heard::Nothing) || !is_known || !self.claims.is_synced() {
            return;
        }
        self.schedule_those(claims::has_some).await;
    }

    /// Where a Pod can go, if its storage is there; nothing where that, or room, is about to be.
    fn choose(&self, pod: &Pod) -> Option<Choice> {
        let nodes = self.cluster.nodes().count();
        if claims::has_some(pod) {
            if !self.claims.is_synced() {
                return None;
            }
            match self.claims.look(pod) {
                Storage::Ready => {}
                Storage::Coming => return None,
                Storage::Missing(why) => {
                    return Some(Choice::None(fit::on_none(nodes, &why), None));
                }
            }
        }
        let obstacles = match fit::choose(pod, &self.cluster) {
            Ok(node) => return Some(Choice::Node(node)),
            Err(obstacles) => obstacles,
        };
        let mut tally = fit::Tally::default();
        obstacles.values().for_each(|o| tally.add(o.reasons()));
        let victims = preempt::victims(pod, &self.cluster, &obstacles);
        let (victims, unhelpful) = match victims {
            Ok(victims) => (Some(victims?), None),
            Err(why) => (None, Some(why)),
        };
        let why = fit::refusal(nodes, &tally.to_string(), unhelpful.as_deref());
        Some(Choice::None(why, victims))
    }

    /// Takes in a node event; true if Pods should be looked at again.
    fn node_event(&mut self, event: Event<Node>) -> bool {
        match event {
            Event::Init => self.cluster.forget_nodes(),
            Event::InitApply(node) | Event::Apply(node) => {
                return self.cluster.set_node(node.name_any(), node);
            }
            Event::Delete(node) => self.cluster.remove_node(&node.name_any()),
            Event::InitDone => return true,
        }
        false
    }

    /// Takes in a Pod event; which Pods to look at then.
    fn pod_event(&mut self, event: Event<Pod>) -> Option<Look> {
        match event {
            Event::Init => {
                self.waiting.clear();
                self.cluster.forget_pods();
                None
            }
            Event::InitApply(pod) | Event::Apply(pod) => self.applied(pod),
            Event::Delete(pod) => {
                let key = key(&pod);
                self.waiting.remove(&key);
                let withdrew = self.cluster.withdraw(&key);
                (self.cluster.leave(&key).is_some() || withdrew).then_some(Look::AtAll)
            }
            Event::InitDone => Some(Look::AtAll),
        }
    }

    fn applied(&mut self, pod: Pod) -> Option<Look> {
        let key = key(&pod);
        if let Some(node) = node_of(&pod) {
            self.waiting.remove(&key);
            let placed = Placed::of(&pod, node, Share::held_by(&pod));
            return match self.cluster.place(&key, placed) {
                Change::Nothing => None,
                Change::Company => Some(Look::AtMinding),
                Change::Room => Some(Look::AtAll),
            };
        }
        if !is_ours(&pod) {
            self.waiting.remove(&key);
            self.cluster.withdraw(&key);
            return None;
        }
        match preempt::nomination(&pod) {
            Some(node) => self.cluster.nominate(&pod, node),
            None => drop(self.cluster.withdraw(&key)),
        }
        let old = self.waiting.remove(&key);
        let is_same = |old: &Waiting| old.pod.metadata.generation == pod.metadata.generation;
        let waiting = Waiting {
            is_binding: old.as_ref().is_some_and(|old| old.is_binding),
            is_evicting: old.as_ref().is_some_and(|old| old.is_evicting),
            // What was said of another spec is said anew.
            refusal: old.filter(is_same).and_then(|old| old.refusal),
            pod,
        };
        self.waiting.insert(key.clone(), waiting);
        Some(Look::At(key))
    }

    async fn schedule_all(&mut self) {
        self.schedule_those(|_| true).await;
    }

    /// Looks again at those that wait and are so, in their turn.
    async fn schedule_those(&mut self, are_so: impl Fn(&Pod) -> bool) {
        let waiting = self.waiting.iter();
        let waiting = waiting.filter(|(_, waiting)| are_so(&waiting.pod));
        let mut keys: Vec<_> = waiting
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
        let is_free = |w: &&Waiting| !w.is_binding && !w.is_evicting;
        let waiting = self.waiting.get(key).filter(is_free)?;
        let choice = self.choose(&waiting.pod)?;
        let waiting = self.waiting.get_mut(key)?;
        match choice {
            Choice::Node(node) => {
                waiting.is_binding = true;
                let (client, pod) = (self.client.clone(), waiting.pod.clone());
                let placed = Placed::of(&pod, &node, Share::of(&pod));
                self.cluster.place(key, placed);
                self.binding.push(Box::pin(async move {
                    let result = bind(&client, &pod, &node).await;
                    Bound { pod, node, result }
                }));
                None
            }
            Choice::None(why, victims) => {
                let (pod, is_news) = (waiting.pod.clone(), waiting.refusal.as_ref() != Some(&why));
                if let Some(victims) = victims {
                    waiting.is_evicting = true;
                    self.make_room(&pod, &victims);
                    self.refuse(&pod, &why, Some(&victims.node)).await;
                } else if is_news {
                    self.refuse(&pod, &why, None).await;
                } else {
                    return Some(why);
                }
                None
            }
        }
    }

    /// Tells why no node takes a Pod, and for which it waits.
    async fn refuse(&mut self, pod: &Pod, why: &str, nominated: Option<&str>) {
        let now = self.clock.now();
        match report::refuse(&self.client, pod, why, nominated, now).await {
            Ok(()) => {
                report::failed(&self.recorder, pod, why);
                if let Some(waiting) = self.waiting.get_mut(&key(pod)) {
                    waiting.refusal = Some(why.to_owned());
                }
            }
            Err(error) => tracing::warn!(pod = key(pod), %error, "reporting that no node fits"),
        }
    }

    /// Has others leave a node for this Pod; who is less important waits for that node no longer.
    fn make_room(&mut self, pod: &Pod, victims: &Victims) {
        let less = |waiting: &&Waiting| priority(&waiting.pod) < priority(pod);
        let mut outdone = Vec::new();
        for waiting in self.waiting.values().filter(less) {
            let uid = key(&waiting.pod);
            if self.cluster.nomination(&uid) == Some(&victims.node) {
                self.cluster.withdraw(&uid);
                outdone.push(waiting.pod.clone());
            }
        }
        self.cluster.nominate(pod, &victims.node);
        let placed = self.cluster.placed();
        let leaving = placed.filter(|(uid, _)| victims.pods.iter().any(|victim| victim == uid));
        let leaving = leaving.filter(|(_, placed)| !placed.is_leaving);
        let leaving = leaving.map(|(uid, placed)| evict::Victim::of(uid, placed));
        let eviction = evict::Eviction {
            for_pod: key(pod),
            node: victims.node.clone(),
            victims: leaving.collect(),
            outdone,
        };
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let now = self.clock.now();
        self.evicting.push(Box::pin(async move {
            while !eviction.carry_out(&client, &recorder, now).await {
                tokio::time::sleep(AGAIN).await;
            }
            eviction.for_pod
        }));
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
                    self.cluster.leave(&key);
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
    (
        Reverse(priority(pod)),
        pod.metadata.creation_timestamp.clone(),
    )
}

/// Whether it matters to a Pod which others stand where.
fn minds(pod: &Pod) -> bool {
    affinity::is_minded(pod) || spread::is_minded(pod)
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
