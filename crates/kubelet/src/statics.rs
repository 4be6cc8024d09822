//! Static Pods: those of manifests on the node itself. They run whether the API answers or not; what stands for each of them in the API
//! is made, kept right and removed here, and takes the Pod's status.
//!
//! Everything on the node bears the static Pod's own UID. `directory` tells which Pods there are to be, `names` who has a name, `mirror`
//! what the API is to hold. The dispatcher starts and ends workers as [`Order`]s say.

mod directory;
mod manifest;
mod mirror;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::pod::SOURCE;
use informer::{Key, key_of};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::Event;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::agent::Agent;
use mirror::{Done, Owner};
use names::Names;

/// After the API has refused something, it is asked again after this, and after twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Times the wait is doubled.
const DOUBLINGS: u32 = 6;

/// What the dispatcher is to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start a worker for this Pod.
    Start(Box<Pod>),
    /// Have the Pod of this UID end.
    End(String),
    /// Tell the Pod of this UID what stands for it in the API, if anything does.
    Tell(String, Option<Box<Pod>>),
}

/// The static Pods of one node.
pub(crate) struct Statics {
    agent: Arc<Agent>,
    names: Names,
    faces: BTreeMap<Key, Face>,
    /// Names of the list that is being read.
    listed: Option<BTreeSet<Key>>,
    /// The node, once the API knows it and what it holds for this node was listed.
    owner: Option<Owner>,
    is_listed: bool,
    asked: JoinSet<(Key, Answer)>,
}

/// What the API holds under a name.
#[derive(Debug, Default)]
struct Face {
    seen: Option<Pod>,
    /// UID of the last that is known to be gone.
    gone: Option<String>,
    /// The API is being asked, or left alone for a while.
    is_busy: bool,
    failures: u32,
}

/// How asking the API ended.
enum Answer {
    Done(Done),
    Failed(kube::Error),
    /// It was left alone for long enough.
    Again,
}

/// Tells which static Pods there are to be, at once and whenever that changes; `None` if there is no directory for them.
pub(crate) fn follow(agent: &Agent) -> Option<mpsc::UnboundedReceiver<Vec<Pod>>> {
    let path = agent.config.static_pod_path.clone()?;
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(directory::follow(
        path,
        agent.config.node_name.clone(),
        tell,
    ));
    Some(told)
}

/// Takes from a Pod of the API what it says about where it is from: only the agent knows.
pub(crate) fn is_from_the_api(pod: &mut Pod) {
    let annotations = pod.metadata.annotations.as_mut();
    if let Some(source) = annotations.and_then(|all| all.get_mut(SOURCE)) {
        "api".clone_into(source);
    }
}

impl Statics {
    /// Nobody's yet.
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Statics {
            agent,
            names: Names::default(),
            faces: BTreeMap::new(),
            listed: None,
            owner: None,
            is_listed: false,
            asked: JoinSet::new(),
        }
    }

    /// The API knows the node.
    pub(crate) fn registered(&mut self, node: &Node) {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        self.owner = Some(Owner {
            name: text(&node.metadata.name),
            uid: text(&node.metadata.uid),
        });
    }

    /// These are the Pods there are to be.
    pub(crate) fn want(&mut self, pods: Vec<Pod>) -> Vec<Order> {
        let orders = self.names.want(pods, self.agent.now());
        let orders = orders.into_iter().flat_map(|order| self.carry_on(order));
        orders.collect()
    }

    /// Whether this Pod is one of them, or still ends.
    pub(crate) fn runs(&self, uid: &str) -> bool {
        self.names.runs(uid)
    }

    /// Nothing is left of a Pod, which may be any.
    pub(crate) fn ended(&mut self, pod: &Pod) -> Vec<Order> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if !self.names.runs(uid) {
            return Vec::new();
        }
        let order = self.names.ended(uid, self.agent.now());
        let orders = order.into_iter().flat_map(|order| self.carry_on(order));
        let orders = orders.collect();
        self.ask(&key_of(pod));
        orders
    }

    /// Takes in what the API tells of Pods that stand for static ones, and when its list of all Pods begins and ends.
    pub(crate) fn hear(&mut self, event: &Event<Pod>) -> Vec<Order> {
        match event {
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(pod) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(key_of(pod));
                }
                self.found(pod)
            }
            Event::Apply(pod) => self.found(pod),
            Event::Delete(pod) => self.lost(&key_of(pod), pod.metadata.uid.as_deref()),
            Event::InitDone => self.all_listed(),
        }
    }

    /// Waits for answers of the API, and takes them in.
    pub(crate) async fn answered(&mut self) -> Vec<Order> {
        let (key, answer) = match self.asked.join_next().await {
            Some(Ok(answered)) => answered,
            Some(Err(error)) => {
                tracing::error!(%error, "asking for a mirror pod failed");
                return Vec::new();
            }
            None => return std::future::pending().await,
        };
        let face = self.faces.entry(key.clone()).or_default();
        face.is_busy = false;
        match answer {
            Answer::Done(done) => {
                face.failures = 0;
                let orders = match done {
                    Done::Created(pod) => self.found(&pod),
                    Done::Deleted(uid) => self.lost(&key, uid.as_deref()),
                };
                self.ask(&key);
                orders
            }
            Answer::Failed(error) => {
                let (namespace, name) = &key;
                let error = match &error {
                    kube::Error::Api(status) => status.message.clone(),
                    other => other.to_string(),
                };
                tracing::warn!(namespace, name, error, "the API refuses a mirror pod");
                let wait = FIRST_WAIT * (1 << face.failures);
                face.failures = DOUBLINGS.min(face.failures + 1);
                face.is_busy = true;
                self.asked.spawn(async move {
                    tokio::time::sleep(wait).await;
                    (key, Answer::Again)
                });
                Vec::new()
            }
            Answer::Again => {
                self.ask(&key);
                Vec::new()
            }
        }
    }

    /// A worker that begins is told what the API holds.
    fn carry_on(&mut self, order: names::Order) -> Vec<Order> {
        match order {
            names::Order::Start(pod) => {
                let key = key_of(&*pod);
                let told = self.tell(&key);
                self.ask(&key);
                std::iter::once(Order::Start(pod)).chain(told).collect()
            }
            names::Order::End(uid) => vec![Order::End(uid)],
        }
    }

    fn tell(&self, key: &Key) -> Option<Order> {
        let (pod, _) = self.names.holder(key)?;
        let seen = self.faces.get(key).and_then(|face| face.seen.as_ref());
        let own = seen.filter(|seen| mirror::stands_for(seen, pod));
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        Some(Order::Tell(uid, own.cloned().map(Box::new)))
    }

    fn found(&mut self, pod: &Pod) -> Vec<Order> {
        let key = key_of(pod);
        let face = self.faces.entry(key.clone()).or_default();
        if face.gone.is_some() && face.gone == pod.metadata.uid {
            // Old news.
            return Vec::new();
        }
        face.seen = Some(pod.clone());
        self.ask(&key);
        self.tell(&key).into_iter().collect()
    }

    fn lost(&mut self, key: &Key, uid: Option<&str>) -> Vec<Order> {
        let face = self.faces.entry(key.clone()).or_default();
        face.gone = uid.map(str::to_owned);
        let is_seen = |seen: &Pod| seen.metadata.uid.as_deref() == uid;
        if !face.seen.as_ref().is_some_and(is_seen) {
            return Vec::new();
        }
        face.seen = None;
        let told = self.tell(key);
        self.ask(key);
        told.into_iter().collect()
    }

    fn all_listed(&mut self) -> Vec<Order> {
        let listed = self.listed.take().unwrap_or_default();
        self.is_listed = true;
        let unheard = self.faces.iter().filter(|(key, _)| !listed.contains(*key));
        let unheard = unheard.filter_map(|(key, face)| {
            let seen = face.seen.as_ref()?;
            Some((key.clone(), seen.metadata.uid.clone()))
        });
        let unheard: Vec<_> = unheard.collect();
        let mut orders = Vec::new();
        for (key, uid) in unheard {
            orders.extend(self.lost(&key, uid.as_deref()));
        }
        let keys: BTreeSet<Key> = self
            .faces
            .keys()
            .cloned()
            .chain(self.names.keys())
            .collect();
        keys.iter().for_each(|key| self.ask(key));
        orders
    }

    /// Asks the API for what is missing or wrong under a name, unless it is being asked.
    fn ask(&mut self, key: &Key) {
        let Some(owner) = self.owner.as_ref().filter(|_| self.is_listed) else {
            return;
        };
        let holder = self.names.holder(key);
        let face = self.faces.entry(key.clone()).or_default();
        if face.is_busy {
            return;
        }
        let Some(step) = mirror::next(holder, face.seen.as_ref(), owner) else {
            if holder.is_none() {
                self.faces.remove(key);
            }
            return;
        };
        face.is_busy = true;
        let (client, key) = (self.agent.client.clone(), key.clone());
        self.asked.spawn(async move {
            let answer = match mirror::carry_out(client, step).await {
                Ok(done) => Answer::Done(done),
                Err(error) => Answer::Failed(error),
            };
            (key, answer)
        });
    }
}
