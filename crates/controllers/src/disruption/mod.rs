//! What disruption budgets allow (upstream's disruption controller): counts the Pods of each by [`lifecycle::budget`], when they or the
//! budget change and when an eviction that has come to nothing is no longer believed.
//!
//! Pods are watched only while there is a budget. A status is written if the budget is still the one it was counted for; whoever
//! was faster, an eviction, has changed the budget, which is counted again when its watch tells so.

mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use lifecycle::budget;
use ports::clock::Clock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A status that could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

type Watch<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Namespace and name.
type Key = (String, String);

/// Keeps the status of budgets until `shutdown`.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut changes: Watch<PodDisruptionBudget> =
        watcher(Api::all(client.clone()), Config::default())
            .default_backoff()
            .boxed();
    let mut pods: Option<Watch<Pod>> = None;
    let mut budgets = Budgets {
        client,
        clock,
        budgets: BTreeMap::new(),
        gone: BTreeSet::new(),
        pods: None,
        listed: BTreeMap::new(),
        due: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    loop {
        let next = budgets.due.values().min().copied();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = changes.next() => match event {
                Ok(event) => budgets.budget(event),
                Err(error) => tracing::warn!(%error, "watching disruption budgets"),
            },
            Some(event) = next_of(&mut pods) => match event {
                Ok(event) => budgets.pod(event),
                Err(error) => tracing::warn!(%error, "watching pods"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => budgets.count().await,
        }
        match (budgets.budgets.is_empty(), pods.is_some()) {
            (false, false) => {
                let all = Api::all(budgets.client.clone());
                pods = Some(watcher(all, Config::default()).default_backoff().boxed());
            }
            (true, true) => {
                pods = None;
                budgets.pods = None;
                budgets.listed.clear();
            }
            _ => {}
        }
    }
}

async fn next_of(pods: &mut Option<Watch<Pod>>) -> Option<Result<Event<Pod>, watcher::Error>> {
    match pods {
        Some(pods) => pods.next().await,
        None => std::future::pending().await,
    }
}

struct Budgets {
    client: Client,
    clock: Arc<dyn Clock>,
    budgets: BTreeMap<Key, PodDisruptionBudget>,
    /// Budgets that a list, not complete yet, has not named.
    gone: BTreeSet<Key>,
    /// Every Pod; `None` until they are known, or while there is no budget.
    pods: Option<BTreeMap<Key, Pod>>,
    /// Pods of a list that is not complete yet.
    listed: BTreeMap<Key, Pod>,
    /// When budgets have to be counted.
    due: BTreeMap<Key, Instant>,
    /// Reasons of the Events that told how a budget is.
    told: BTreeMap<Key, BTreeSet<&'static str>>,
}

impl Budgets {
    fn budget(&mut self, event: Event<PodDisruptionBudget>) {
        match event {
            Event::Init => self.gone = self.budgets.keys().cloned().collect(),
            Event::InitApply(budget) | Event::Apply(budget) => {
                let key = key(&budget);
                self.gone.remove(&key);
                self.budgets.insert(key.clone(), budget);
                self.due.insert(key, Instant::now());
            }
            Event::Delete(budget) => self.forget(&key(&budget)),
            Event::InitDone => {
                for key in std::mem::take(&mut self.gone) {
                    self.forget(&key);
                }
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        self.budgets.remove(key);
        self.due.remove(key);
        self.told.remove(key);
    }

    fn pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.insert(key(&pod), pod);
            }
            Event::InitDone => {
                self.pods = Some(std::mem::take(&mut self.listed));
                let now = Instant::now();
                let all = self.budgets.keys().cloned();
                self.due = all.map(|key| (key, now)).collect();
            }
            Event::Apply(pod) => {
                let Some(pods) = &mut self.pods else {
                    return;
                };
                let before = pods.insert(key(&pod), pod.clone());
                self.note(before.iter().chain([&pod]));
            }
            Event::Delete(pod) => {
                let before = self.pods.as_mut().and_then(|pods| pods.remove(&key(&pod)));
                self.note(before.iter().chain([&pod]));
            }
        }
    }

    /// Budgets of these Pods have to be counted.
    fn note<'a>(&mut self, pods: impl Iterator<Item = &'a Pod>) {
        for pod in pods {
            let namespace = pod.namespace().unwrap_or_default();
            let own = of_namespace(&self.budgets, &namespace);
            let own = own.filter(|(_, budget)| budget::selects(budget, pod));
            for (key, _) in own {
                self.due.insert(key.clone(), Instant::now());
            }
        }
    }

    /// Counts the budgets whose time has come.
    async fn count(&mut self) {
        let now = Instant::now();
        let over = self.due.iter().filter(|(_, due)| **due <= now);
        for key in over.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.due.remove(&key);
            // They are counted when the Pods are known.
            let (Some(pods), Some(budget)) = (&self.pods, self.budgets.get(&key)) else {
                continue;
            };
            let pods = of_namespace(pods, &key.0).map(|(_, pod)| pod);
            let time = self.clock.now();
            let seen = budget::look(budget, pods, time);
            if let Some(recheck) = seen.recheck {
                let wait = Duration::try_from(recheck.duration_since(time)).unwrap_or_default();
                self.due.insert(key.clone(), now + wait);
            }
            let budget = budget.clone();
            self.tell(&key, &budget, &seen).await;
            if budget.status.as_ref() == Some(&seen.status) {
                continue;
            }
            match self.write(budget, seen.status).await {
                Ok(written) => {
                    self.budgets.insert(key, written);
                }
                // It is gone.
                Err(kube::Error::Api(error)) if error.code == 404 => self.forget(&key),
                // It has changed meanwhile, and is counted when the watch says so.
                Err(kube::Error::Api(error)) if error.code == 409 => {}
                Err(error) => {
                    tracing::warn!(budget = key.1, %error, "writing what a budget allows");
                    self.due.insert(key, now + AGAIN);
                }
            }
        }
    }

    async fn write(
        &self,
        mut budget: PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<PodDisruptionBudget, kube::Error> {
        let namespace = budget.namespace().unwrap_or_default();
        budget.status = Some(status);
        // Its resourceVersion makes this conditional.
        Api::namespaced(self.client.clone(), &namespace)
            .replace_status(&budget.name_any(), &PostParams::default(), &budget)
            .await
    }
}

fn key<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What is in a namespace.
fn of_namespace<'a, T>(
    all: &'a BTreeMap<Key, T>,
    namespace: &str,
) -> impl Iterator<Item = (&'a Key, &'a T)> {
    let first = (namespace.to_owned(), String::new());
    let namespace = namespace.to_owned();
    all.range(first..)
        .take_while(move |((n, _), _)| *n == namespace)
}
