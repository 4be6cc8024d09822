//! The dispatcher: one worker per Pod UID, and the watches and events that feed them.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use api::pod::is_mirror;
use futures::StreamExt;
use futures::future::{Fuse, FutureExt};
use informer::{FoundService, Wanted, Watch, key_of, watch, watch_services};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::runtime::watcher::{self, Config};
use lifecycle::{Eviction, node_events};
use ports::runtime::RuntimeEvent;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::door::Door;
use crate::leaving;
use crate::network;
use crate::node;
use crate::orphans::{self, Found};
use crate::records::Records;
use crate::statics::{self, Order, Statics};
use crate::worker::{Message, Worker};

/// The UID of a Pod that has to go, and why.
pub(crate) type Evicted = (String, Eviction);

/// Runs the agent. Who has to go for the node's sake is told by `evictions`.
pub(crate) async fn run(
    agent: Arc<Agent>,
    mut evictions: mpsc::UnboundedReceiver<Evicted>,
    shutdown: CancellationToken,
) {
    let mut events = agent.runtime.events();
    let found = orphans::look(&agent).await;
    let mut dispatcher = tokio::select! {
        () = shutdown.cancelled() => return,
        dispatcher = Dispatcher::new(agent.clone(), found) => dispatcher,
    };
    // Static Pods need no API. All of them have workers before what is left of others is removed.
    let mut manifests = statics::follow(&agent);
    if let Some(manifests) = &mut manifests {
        let pods = tokio::select! {
            () = shutdown.cancelled() => return,
            pods = manifests.recv() => pods,
        };
        dispatcher.manifests(pods.unwrap_or_default()).await;
    }
    let name = &agent.config.node_name;
    let this = Config::default().fields(&format!("metadata.name={name}"));
    let mut nodes = watch(Api::<Node>::all(agent.client.clone()), this);
    let mine = Config::default().fields(&format!("spec.nodeName={name}"));
    let mut pods = watch(Api::<Pod>::all(agent.client.clone()), mine);
    let mut services = Wanted::default();
    let mut is_registered = false;
    let mut beginning = Box::pin(begin(agent.clone()));
    let mut presence = Presence::default();
    let mut registering = pin!(Fuse::terminated());
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => dispatcher.runtime(event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "runtime events were missed; listing");
                    dispatcher.relist().await;
                }
                Err(RecvError::Closed) => return,
            },
            (node, watched) = &mut beginning, if !is_registered => {
                dispatcher.registered(node);
                services.follow(watched);
                is_registered = true;
            }
            Some(event) = nodes.next(), if is_registered => match event {
                Ok(event) => {
                    if presence.hear(&event) {
                        registering.set(register(&agent).fuse());
                    }
                    dispatcher.door.node(event);
                }
                Err(error) => tracing::warn!(%error, "watching the node"),
            },
            node = &mut registering => dispatcher.door.registered(node),
            Some(event) = pods.next(), if is_registered => match event {
                Ok(event) => dispatcher.pod(event).await,
                Err(error) => tracing::warn!(%error, "watching pods"),
            },
            Some(event) = services.next() => match event {
                Ok(event) => service(&agent, event),
                Err(error) => tracing::warn!(%error, "watching services"),
            },
            Some((uid, eviction)) = evictions.recv() => dispatcher.evict(&uid, eviction),
            Some(pods) = next_manifests(&mut manifests) => dispatcher.manifests(pods).await,
            orders = dispatcher.statics.answered() => dispatcher.obey(orders).await,
            Some(ended) = dispatcher.tasks.join_next(), if !dispatcher.tasks.is_empty() => dispatcher.ended(ended).await,
            () = agent.images_changed.notified() => report_images(&agent).await,
        }
    }
}

/// What Pods of the API wait for: that the node is known there, and Services are known here (spec `§9.2`).
async fn begin(agent: Arc<Agent>) -> (Node, Watch<FoundService>) {
    let mut services = watch_services(&agent.client);
    let name = &agent.config.node_name;
    agent.recorder.record_node(name, node_events::starting());
    let (node, ()) = tokio::join!(register(&agent), list_services(&agent, &mut services));
    agent.in_use.seed(&node).await;
    (node, services)
}

async fn next_manifests(
    manifests: &mut Option<mpsc::UnboundedReceiver<Vec<Pod>>>,
) -> Option<Vec<Pod>> {
    match manifests {
        Some(manifests) => manifests.recv().await,
        None => None,
    }
}

/// Whether the API knows the node, and something of it.
#[derive(Default)]
struct Presence {
    /// The list that is being read has it.
    is_listed: bool,
}

impl Presence {
    /// Whether what an event says is that the node has to be registered again: it was deleted, or nothing was heard of it for a while.
    fn hear(&mut self, event: &watcher::Event<Node>) -> bool {
        match event {
            watcher::Event::Init => {
                self.is_listed = false;
                false
            }
            watcher::Event::InitApply(node) => {
                self.is_listed = true;
                node::is_unknown(node)
            }
            watcher::Event::InitDone => !self.is_listed,
            watcher::Event::Apply(node) => node::is_unknown(node),
            watcher::Event::Delete(_) => true,
        }
    }
}

async fn register(agent: &Agent) -> Node {
    let api: Api<Node> = Api::all(agent.client.clone());
    let name = &agent.config.node_name;
    let pressures = agent.pressures().await;
    loop {
        let images = agent.images.list_images().await.unwrap_or_default();
        let unready = network::unready(agent);
        let registered = node::register(
            &api,
            &agent.config,
            &images,
            &pressures,
            unready.as_deref(),
            agent.now(),
        );
        match registered.await {
            Ok((before, node)) => {
                for event in node_events::registered(before.as_ref(), &node) {
                    agent.recorder.record_node(name, event);
                }
                return node;
            }
            Err(error) => {
                tracing::warn!(%error, "registering the node");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn report_images(agent: &Agent) {
    let api: Api<Node> = Api::all(agent.client.clone());
    let images = agent.images.list_images().await.unwrap_or_default();
    if let Err(error) = node::report_images(&api, &agent.config.node_name, &images).await {
        tracing::warn!(%error, "reporting images");
    }
}

async fn list_services(agent: &Agent, services: &mut Watch<FoundService>) {
    while let Some(event) = services.next().await {
        match event {
            Ok(event) => {
                let done = matches!(event, watcher::Event::InitDone);
                service(agent, event);
                if done {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "listing services"),
        }
    }
}

fn service(agent: &Agent, event: watcher::Event<FoundService>) {
    let mut services = agent
        .services
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    match event {
        watcher::Event::Init => services.clear(),
        watcher::Event::InitApply(s) | watcher::Event::Apply(s) => {
            services.insert(key_of(&s), informer::service_of(s));
        }
        watcher::Event::Delete(s) => {
            services.remove(&key_of(&s));
        }
        watcher::Event::InitDone => {}
    }
}

struct Dispatcher {
    agent: Arc<Agent>,
    door: Door,
    statics: Statics,
    /// What was found at the start, for workers that do not exist yet.
    found: Found,
    /// What happened since to Pods whose workers do not exist yet.
    early: HashMap<String, Vec<RuntimeEvent>>,
    workers: HashMap<String, mpsc::UnboundedSender<Message>>,
    tasks: JoinSet<Arc<Pod>>,
    /// UIDs of the list that is being read.
    listed: Option<BTreeSet<String>>,
    /// Pods of that list which were never here: they take what the others leave.
    newcomers: Vec<Pod>,
}

impl Dispatcher {
    /// Without workers yet.
    async fn new(agent: Arc<Agent>, found: Found) -> Self {
        let node = node::unregistered(&agent.config, &agent.pressures().await, agent.now());
        Dispatcher {
            door: Door::new(agent.clone(), node),
            statics: Statics::new(agent.clone()),
            agent,
            found,
            early: HashMap::new(),
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            listed: None,
            newcomers: Vec::new(),
        }
    }

    /// The API knows the node.
    fn registered(&mut self, node: Node) {
        self.statics.registered(&node);
        self.door.registered(node);
    }

    /// These are the static Pods there are to be.
    async fn manifests(&mut self, pods: Vec<Pod>) {
        let orders = self.statics.want(pods);
        self.obey(orders).await;
    }

    async fn obey(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Start(pod) => self.start(uid(&pod), *pod).await,
                Order::End(uid) => self.send(&uid, Message::End),
                Order::Tell(uid, mirror) => self.send(&uid, Message::Mirror(mirror)),
            }
        }
    }

    /// Tells a worker. One that is not there, or is ending, has nothing to hear.
    fn send(&self, uid: &str, message: Message) {
        if let Some(worker) = self.workers.get(uid) {
            drop(worker.send(message));
        }
    }

    async fn pod(&mut self, mut event: watcher::Event<Pod>) {
        let is_about_mirrors = match &mut event {
            watcher::Event::Init | watcher::Event::InitDone => true,
            watcher::Event::InitApply(pod)
            | watcher::Event::Apply(pod)
            | watcher::Event::Delete(pod) => {
                statics::is_from_the_api(pod);
                is_mirror(pod)
            }
        };
        if is_about_mirrors {
            let orders = self.statics.hear(&event);
            self.obey(orders).await;
        }
        match event {
            watcher::Event::InitApply(pod)
            | watcher::Event::Apply(pod)
            | watcher::Event::Delete(pod)
                if is_mirror(&pod) => {}
            watcher::Event::Init => {
                self.listed = Some(BTreeSet::new());
                self.newcomers.clear();
            }
            watcher::Event::InitApply(pod) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(uid(&pod));
                }
                if self.is_new(&pod) {
                    self.newcomers.push(pod);
                } else {
                    self.upsert(pod).await;
                }
            }
            watcher::Event::Apply(pod) => self.upsert(pod).await,
            watcher::Event::Delete(pod) => self.gone(&uid(&pod)),
            watcher::Event::InitDone => self.all_listed().await,
        }
    }

    /// Whether a Pod is to be let in: nothing of it was made, nothing reported, and it is not over.
    fn is_new(&self, pod: &Pod) -> bool {
        let uid = uid(pod);
        let has_sandbox = |found: &Found| {
            let records = found.records.get(&uid);
            records.is_some_and(|(sandboxes, _)| !sandboxes.is_empty())
        };
        let status = pod.status.as_ref();
        !self.workers.contains_key(&uid)
            && !has_sandbox(&self.found)
            && status.is_none_or(|s| s.start_time.is_none())
            && !api::pod::is_over(pod)
    }

    async fn upsert(&mut self, pod: Pod) {
        let uid = uid(&pod);
        if self.workers.contains_key(&uid) {
            self.send(&uid, Message::Pod(Box::new(pod)));
        } else {
            self.start(uid, pod).await;
        }
    }

    async fn start(&mut self, uid: String, pod: Pod) {
        let admitted = if self.is_new(&pod) {
            self.door.admit(&pod).await
        } else {
            Ok(Vec::new())
        };
        let (sandboxes, containers) = self.found.records.remove(&uid).unwrap_or_default();
        let (sender, inbox) = mpsc::unbounded_channel();
        let mut worker = Worker::new(
            self.agent.clone(),
            pod,
            Records::new(sandboxes, containers),
            inbox,
        );
        let victims = match admitted {
            Ok(victims) => {
                worker.begin_allocated();
                victims
            }
            Err(rejection) => {
                worker.refuse(&rejection);
                Vec::new()
            }
        };
        for victim in &victims {
            self.evict(victim, lifecycle::preempt::preempted());
        }
        for event in self.early.remove(&uid).unwrap_or_default() {
            // Its inbox is right here.
            drop(sender.send(Message::Runtime(event)));
        }
        self.workers.insert(uid, sender);
        let agent = self.agent.clone();
        let pod = worker.pod();
        self.tasks.spawn(async move {
            // They end within their grace; nothing of this Pod is there before.
            leaving::all(&agent, &victims).await;
            worker.run().await;
            pod
        });
    }

    /// A Pod has to go. One without a worker has gone.
    fn evict(&self, uid: &str, eviction: Eviction) {
        self.send(uid, Message::Evict(Box::new(eviction)));
    }

    /// A Pod has left the API. Who places Pods takes its room for free from now on, so the next that is let in must find it free:
    /// that does not wait until its worker hears of it.
    fn gone(&self, uid: &str) {
        self.agent.allocations.leave(uid);
        self.send(uid, Message::Gone);
    }

    /// Whether the Pods of this node have been listed, and each has its worker.
    fn knows_its_pods(&self) -> bool {
        *self.agent.listed.borrow()
    }

    async fn all_listed(&mut self) {
        let Some(listed) = self.listed.take() else {
            return;
        };
        let mut newcomers = std::mem::take(&mut self.newcomers);
        newcomers.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        for pod in newcomers {
            self.upsert(pod).await;
        }
        let is_listed = |uid: &String| listed.contains(uid) || self.statics.runs(uid);
        for uid in self.workers.keys().filter(|uid| !is_listed(uid)) {
            self.gone(uid);
        }
        self.agent.listed.send_replace(true);
        self.agent.allocations.whole();
        self.early.clear();
        let orphans = std::mem::take(&mut self.found);
        let known: BTreeSet<String> = self.workers.keys().cloned().collect();
        tokio::spawn(orphans::remove(self.agent.clone(), orphans, known));
    }

    fn runtime(&mut self, event: RuntimeEvent) {
        let uid = match &event {
            RuntimeEvent::Container(status) => &status.pod_uid,
            RuntimeEvent::ContainerRemoved { pod_uid, .. }
            | RuntimeEvent::LogGrown { pod_uid, .. } => pod_uid,
            RuntimeEvent::Sandbox(status) => &status.metadata.uid,
        };
        if let Some(worker) = self.workers.get(uid) {
            drop(worker.send(Message::Runtime(event)));
        } else if !self.knows_its_pods() {
            self.early.entry(uid.clone()).or_default().push(event);
        }
    }

    async fn relist(&mut self) {
        let mut records = orphans::records(&self.agent).await;
        for (uid, worker) in &self.workers {
            let (sandboxes, containers) = records.remove(uid).unwrap_or_default();
            drop(worker.send(Message::Records(sandboxes, containers)));
        }
        if !self.knows_its_pods() {
            self.early.clear();
            self.found.records = records;
        }
    }

    async fn ended(&mut self, ended: Result<Arc<Pod>, tokio::task::JoinError>) {
        match ended {
            Ok(pod) => {
                self.workers.remove(&uid(&pod));
                let orders = self.statics.ended(&pod);
                self.obey(orders).await;
            }
            Err(error) => tracing::error!(%error, "a pod's worker failed"),
        }
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
