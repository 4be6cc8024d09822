//! What disruption budgets allow (upstream's disruption controller): counts the Pods of each by [`lifecycle::budget`], when they or the
//! budget change and when an eviction that has come to nothing is no longer believed.
//!
//! A Pod that was marked to be disrupted and was not is marked no more after a while.
//!
//! Pods, and the controllers that say how many there should be, are watched only while there is a budget. A status is written if the budget is still the one it was counted for; whoever
//! was faster, an eviction, has changed the budget, which is counted again when its watch tells so.

mod scale;
mod target;
mod tell;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use events::Recorder;
use futures::StreamExt;
use informer::{Heard, Key, Mirror, Wanted, Watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::PostParams;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use lifecycle::budget;
use ports::clock::Clock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use scale::{Change, News, Scales};

/// A status that could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the status of budgets until `shutdown`.
pub(crate) async fn run(
    client: Client,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let mut changes: Watch<PodDisruptionBudget> = watch_all(&client);
    let mut pods = Wanted::default();
    let mut scales = Wanted::default();
    let mut budgets = Budgets {
        recorder,
        client,
        clock,
        budgets: Mirror::default(),
        pods: Mirror::default(),
        scales: Scales::default(),
        targets: BTreeMap::new(),
        due: BTreeMap::new(),
        told: BTreeMap::new(),
    };
    loop {
        let next = budgets.due.values().chain(budgets.targets.values());
        let next = next.min().copied();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = changes.next() => match event {
                Ok(event) => budgets.budget(event),
                Err(error) => tracing::warn!(%error, "watching disruption budgets"),
            },
            Some(event) = pods.next() => match event {
                Ok(event) => budgets.pod(event),
                Err(error) => tracing::warn!(%error, "watching pods"),
            },
            Some(change) = scales.next() => match change {
                Ok(change) => budgets.scaled(change),
                Err(error) => tracing::warn!(%error, "watching controllers of pods"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                budgets.count().await;
                budgets.unmark().await;
            }
        }
        let is_needed = !budgets.budgets.is_empty();
        if scales.follow_if(is_needed, || scale::follow(&budgets.client)) {
            budgets.scales = Scales::default();
        }
        if pods.follow_if(is_needed, || watch_all(&budgets.client)) {
            budgets.pods = Mirror::default();
            budgets.targets.clear();
        }
    }
}

struct Budgets {
    recorder: Recorder,
    client: Client,
    clock: Arc<dyn Clock>,
    budgets: Mirror<PodDisruptionBudget>,
    /// Every Pod, while there is a budget.
    pods: Mirror<Pod>,
    /// What their controllers want.
    scales: Scales,
    /// When Pods that are marked to be disrupted have to be gone.
    targets: BTreeMap<Key, Instant>,
    /// When budgets have to be counted.
    due: BTreeMap<Key, Instant>,
    /// Reasons of the Events that told how a budget is.
    told: BTreeMap<Key, BTreeSet<Cow<'static, str>>>,
}

impl Budgets {
    fn budget(&mut self, event: Event<PodDisruptionBudget>) {
        match self.budgets.hear(event, |budget| budget) {
            Heard::Nothing => {}
            Heard::One { key, is_there, .. } if is_there => {
                self.due.insert(key, Instant::now());
            }
            Heard::One { key, .. } => self.forget(&key),
            Heard::All { vanished } => {
                for key in vanished {
                    self.forget(&key);
                }
                self.note_all();
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        self.due.remove(key);
        self.told.remove(key);
    }

    fn pod(&mut self, event: Event<Pod>) {
        match self.pods.hear(event, |pod| pod) {
            Heard::Nothing => {}
            Heard::One { key, old, .. } => {
                let either = old.iter().chain(self.pods.get(&key));
                self.due.extend(concerned(&self.budgets, either));
                self.note_target(&key);
            }
            Heard::All { .. } => {
                self.note_all();
                self.note_targets();
            }
        }
    }

    fn scaled(&mut self, change: Change) {
        let now = Instant::now();
        match self.scales.hear(change) {
            None => {}
            Some(News::All) => self.note_all(),
            Some(News::Namespace(namespace)) => {
                let of = self.budgets.of_namespace(&namespace);
                let due: Vec<(Key, Instant)> = of.map(|(key, _)| (key.clone(), now)).collect();
                self.due.extend(due);
            }
        }
    }

    fn note_all(&mut self) {
        let now = Instant::now();
        let all = self.budgets.iter();
        self.due.extend(all.map(|(key, _)| (key.clone(), now)));
    }

    /// Counts the budgets whose time has come.
    async fn count(&mut self) {
        let now = Instant::now();
        let over = self.due.iter().filter(|(_, due)| **due <= now);
        for key in over.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.due.remove(&key);
            // They are counted when the Pods and their controllers are known.
            let is_synced = self.pods.is_synced() && self.scales.is_synced();
            let Some(budget) = self.budgets.get(&key).filter(|_| is_synced) else {
                continue;
            };
            let pods = self.pods.of_namespace(&key.0).map(|(_, pod)| pod);
            let time = self.clock.now();
            let scale = |controller: &_| self.scales.of(&key.0, controller);
            let seen = budget::look(budget, pods, scale, time);
            if let Some(recheck) = seen.recheck {
                self.due.insert(key.clone(), now + until(recheck, time));
            }
            let budget = budget.clone();
            self.tell(&key, &budget, &seen);
            if budget.status.as_ref() == Some(&seen.status) {
                continue;
            }
            match self.write(budget, seen.status).await {
                Ok(written) => self.budgets.wrote(key, written),
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

/// How long it is until then.
fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

/// Budgets that have to be counted now because of these Pods.
fn concerned<'a>(
    budgets: &'a Mirror<PodDisruptionBudget>,
    pods: impl Iterator<Item = &'a Pod>,
) -> Vec<(Key, Instant)> {
    let now = Instant::now();
    pods.flat_map(|pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let own = budgets.of_namespace(namespace);
        own.filter(|(_, budget)| budget::selects(budget, pod))
            .map(move |(key, _)| (key.clone(), now))
    })
    .collect()
}
