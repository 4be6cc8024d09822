//! Keeps what Pods may receive and send as policies have it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::{Fuse, FutureExt};
use informer::{Key, Mirror, Wanted, hear_each, watch_all};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use nat::policy::Change;
use netplan::policy::State;
use ports::network::{Filter, Gate, PodName};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::AGAIN;

/// The guard of one node's Pods.
pub struct Guard {
    client: Client,
    filter: Arc<dyn Filter>,
    is_open: Arc<AtomicBool>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

/// Where Pods wait for their [`Guard`].
#[derive(Debug, Clone)]
pub struct Waiting {
    ask: mpsc::UnboundedSender<Asked>,
    /// There are no policies, so that nobody needs to be asked.
    is_open: Arc<AtomicBool>,
}

/// A Pod that waits.
#[derive(Debug)]
struct Asked {
    key: Key,
    uid: String,
    addresses: Vec<IpAddr>,
    pass: oneshot::Sender<()>,
}

#[async_trait]
impl Gate for Waiting {
    async fn pass(&self, pod: &PodName<'_>, addresses: &[IpAddr]) {
        if self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let (pass, passed) = oneshot::channel();
        let asked = Asked {
            key: (pod.namespace.to_owned(), pod.name.to_owned()),
            uid: pod.uid.to_owned(),
            addresses: addresses.to_owned(),
            pass,
        };
        // An engine that ends starts no containers.
        if self.ask.send(asked).is_err() || passed.await.is_err() {
            std::future::pending().await
        }
    }
}

impl Guard {
    /// A guard that learns from the API through `client`, and where Pods wait for it.
    pub fn new(client: Client, filter: Arc<dyn Filter>) -> (Self, Waiting) {
        let (ask, asked) = mpsc::unbounded_channel();
        let is_open = Arc::<AtomicBool>::default();
        let guard = Guard {
            client,
            filter,
            is_open: Arc::clone(&is_open),
            asked,
        };
        (guard, Waiting { ask, is_open })
    }

    /// Keeps what is let through right until `shutdown`. It stays so then: Pods go on without the engine.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut policies = watch_all::<NetworkPolicy>(&self.client);
        let (mut pods, mut namespaces) = (Wanted::default(), Wanted::default());
        let mut world = World::new();
        let mut change = std::pin::pin!(Fuse::terminated());
        let mut is_idle = true;
        loop {
            if is_idle && world.is_known() {
                let next = world.next();
                if next.is_empty() {
                    world.let_pass();
                } else {
                    is_idle = false;
                    change.set(carry_out(&*self.filter, next).fuse());
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(asked) = self.asked.recv() => world.waiting.push(asked),
                Some(event) = policies.next() => {
                    let state = &mut world.state;
                    hear_each("NetworkPolicies", &mut world.policies, event, |key, policy| {
                        state.policy(key, policy.as_ref());
                    });
                }
                Some(event) = namespaces.next() => {
                    let state = &mut world.state;
                    hear_each("Namespaces", &mut world.namespaces, event, |key, namespace| {
                        state.namespace(&key.1, namespace.as_ref());
                    });
                }
                Some(event) = pods.next() => {
                    let state = &mut world.state;
                    hear_each("Pods", &mut world.pods, event, |key, pod| {
                        state.pod(key, pod.as_ref());
                    });
                }
                is_done = &mut change => {
                    is_idle = true;
                    if is_done {
                        world.let_pass();
                    } else {
                        world.state.again();
                    }
                }
            }
            // Pods matter while there are policies.
            let is_needed = !world.policies.is_empty();
            let is_open = world.policies.is_synced() && !is_needed;
            self.is_open.store(is_open, Ordering::Relaxed);
            let all_namespaces = || watch_all::<Namespace>(&self.client);
            let ends = [
                pods.follow_if(is_needed, || watch_all::<Pod>(&self.client)),
                namespaces.follow_if(is_needed, all_namespaces),
            ];
            if ends.contains(&true) {
                world.forget();
            }
        }
    }
}

/// What the guard knows.
struct World {
    state: State,
    policies: Mirror<()>,
    pods: Mirror<()>,
    namespaces: Mirror<()>,
    /// Pods that wait until what they are bound to is known.
    waiting: Vec<Asked>,
    /// Those that wait until it is carried out.
    passing: Vec<oneshot::Sender<()>>,
}

impl World {
    fn new() -> Self {
        World {
            state: State::new(),
            policies: Mirror::default(),
            pods: Mirror::default(),
            namespaces: Mirror::default(),
            waiting: Vec::new(),
            passing: Vec::new(),
        }
    }

    /// The last policy is gone.
    fn forget(&mut self) {
        self.state = State::new();
        self.pods = Mirror::default();
        self.namespaces = Mirror::default();
    }

    /// Whether every watch has told all there is.
    fn is_known(&self) -> bool {
        let beside = self.pods.is_synced() && self.namespaces.is_synced();
        self.policies.is_synced() && (beside || self.policies.is_empty())
    }

    /// What is to be carried out next, so that all who can may pass.
    fn next(&mut self) -> Change {
        self.waiting.retain(|asked| !asked.pass.is_closed());
        for asked in std::mem::take(&mut self.waiting) {
            if self.policies.is_empty() {
                self.passing.push(asked.pass);
            } else if self.state.knows(&asked.key, &asked.uid) {
                self.state.tell(&asked.key, &asked.uid, &asked.addresses);
                self.passing.push(asked.pass);
            } else {
                self.waiting.push(asked);
            }
        }
        self.state.take()
    }

    /// Everything that was asked for is carried out.
    fn let_pass(&mut self) {
        for pass in self.passing.drain(..) {
            // Who does not wait any more needs no answer.
            let _ = pass.send(());
        }
    }
}

/// Whether the change was carried out; if it was not, some time has passed.
async fn carry_out(filter: &dyn Filter, change: Change) -> bool {
    let Err(error) = filter.change(change).await else {
        return true;
    };
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        "letting through what policies do"
    );
    sleep(AGAIN).await;
    false
}
