//! The dispatcher: one worker per Pod UID, and the watches and events that feed them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use futures::StreamExt;
use informer::{FoundService, Watch, key_of, watch, watch_services};
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
    let mut services = watch_services(&agent.client);
    let node = tokio::select! {
        () = shutdown.cancelled() => return,
        (node, ()) = async { tokio::join!(register(&agent), list_services(&agent, &mut services)) } => node,
    };
    let name = &agent.config.node_name;
    let this = Config::default().fields(&format!("metadata.name={name}"));
    let mut nodes = watch(Api::<Node>::all(agent.client.clone()), this);
    let mine = Config::default().fields(&format!("spec.nodeName={name}"));
    let mut pods = watch(Api::<Pod>::all(agent.client.clone()), mine);
    let mut dispatcher = Dispatcher {
        door: Door::new(agent.clone(), node),
        agent: agent.clone(),
        found,
        workers: HashMap::new(),
        tasks: JoinSet::new(),
        listed: None,
        newcomers: Vec::new(),
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            // Before there is a worker for every Pod that was found, nobody would hear of an end.
            event = events.recv(), if dispatcher.knows_its_pods() => match event {
                Ok(event) => dispatcher.runtime(event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "runtime events were missed; listing");
                    dispatcher.relist().await;
                }
                Err(RecvError::Closed) => return,
            },
            Some(event) = nodes.next() => match event {
                Ok(event) => dispatcher.door.node(event),
                Err(error) => tracing::warn!(%error, "watching the node"),
            },
            Some(event) = pods.next() => match event {
                Ok(event) => dispatcher.pod(event).await,
                Err(error) => tracing::warn!(%error, "watching pods"),
            },
            Some(event) = services.next() => match event {
                Ok(event) => service(&agent, event),
                Err(error) => tracing::warn!(%error, "watching services"),
            },
            Some((uid, eviction)) = evictions.recv() => dispatcher.evict(&uid, eviction),
            Some(ended) = dispatcher.tasks.join_next(), if !dispatcher.tasks.is_empty() => dispatcher.ended(ended),
            () = agent.images_changed.notified() => report_images(&agent).await,
        }
    }
}

async fn register(agent: &Agent) -> Node {
    let api: Api<Node> = Api::all(agent.client.clone());
    let name = &agent.config.node_name;
    agent.recorder.record_node(name, node_events::starting());
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

/// Pods start only once Services are known (spec `§9.2`).
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
    /// What was found at the start, for workers that do not exist yet.
    found: Found,
    workers: HashMap<String, mpsc::UnboundedSender<Message>>,
    tasks: JoinSet<String>,
    /// UIDs of the list that is being read.
    listed: Option<BTreeSet<String>>,
    /// Pods of that list which were never here: they take what the others leave.
    newcomers: Vec<Pod>,
}

impl Dispatcher {
    async fn pod(&mut self, event: watcher::Event<Pod>) {
        match event {
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
        match self.workers.get(&uid) {
            // The worker may be ending; then the Pod is gone already.
            Some(worker) => drop(worker.send(Message::Pod(Box::new(pod)))),
            None => self.start(uid, pod).await,
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
        self.workers.insert(uid.clone(), sender);
        let agent = self.agent.clone();
        self.tasks.spawn(async move {
            // They end within their grace; nothing of this Pod is there before.
            leaving::all(&agent, &victims).await;
            worker.run().await;
            uid
        });
    }

    /// A Pod has to go. One without a worker has gone.
    fn evict(&self, uid: &str, eviction: Eviction) {
        if let Some(worker) = self.workers.get(uid) {
            drop(worker.send(Message::Evict(Box::new(eviction))));
        }
    }

    /// A Pod has left the API. Who places Pods takes its room for free from now on, so the next that is let in must find it free:
    /// that does not wait until its worker hears of it.
    fn gone(&self, uid: &str) {
        self.agent.allocations.leave(uid);
        // A worker that is not there has nothing to hear.
        if let Some(worker) = self.workers.get(uid) {
            drop(worker.send(Message::Gone));
        }
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
        for uid in self.workers.keys().filter(|uid| !listed.contains(*uid)) {
            self.gone(uid);
        }
        self.agent.listed.send_replace(true);
        self.agent.allocations.whole();
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
        }
    }

    async fn relist(&mut self) {
        let mut records = orphans::records(&self.agent).await;
        for (uid, worker) in &self.workers {
            let (sandboxes, containers) = records.remove(uid).unwrap_or_default();
            drop(worker.send(Message::Records(sandboxes, containers)));
        }
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
            }
            Err(error) => tracing::error!(%error, "a pod's worker failed"),
        }
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
