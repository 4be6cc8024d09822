//! HorizontalPodAutoscalers (upstream's horizontal controller): each looks at its target when it is new or has changed, and every
//! [`autoscaler::PERIOD`] from then on, as what Pods use is told by nobody. [`workloads::autoscaler`] decides; the target is given its
//! size through its Scale.
//!
//! Nothing runs by the clock while there is no autoscaler, and nothing but autoscalers is followed: the Pods of a target are listed when
//! it is looked at.

mod look;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::selector::Selector;
use events::{Recorder, Type, Words};
use futures::StreamExt;
use futures::future::join_all;
use informer::{Heard, Key, Mirror, Watch, watch_all};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::PostParams;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use ports::clock::Clock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use workloads::autoscaler::{self, Memory};
use workloads::job::News;

use look::{Look, look};

/// Who the events are from.
const COMPONENT: &str = "horizontal-pod-autoscaler";
/// Tries to write a status that others change at the same time.
const TRIES: usize = 3;

/// Keeps targets at their sizes until `shutdown`.
pub(crate) async fn run(
    client: Client,
    recorder: &Recorder,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let mut changes: Watch<HorizontalPodAutoscaler> = watch_all(&client);
    let mut autoscalers = Autoscalers {
        recorder: recorder.of(COMPONENT),
        client,
        clock,
        known: Mirror::default(),
        kept: BTreeMap::new(),
        due: BTreeMap::new(),
    };
    loop {
        let next = autoscalers.due.values().min().copied();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(event) = changes.next() => match event {
                Ok(event) => autoscalers.hear(event),
                Err(error) => tracing::warn!(%error, "watching autoscalers"),
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                autoscalers.scale().await;
            }
        }
    }
}

/// What is remembered of an autoscaler.
#[derive(Default)]
struct Kept {
    memory: Memory,
    /// Which Pods its target had when it was last looked at.
    selector: Option<Selector>,
}

struct Autoscalers {
    recorder: Recorder,
    client: Client,
    clock: Arc<dyn Clock>,
    known: Mirror<HorizontalPodAutoscaler>,
    kept: BTreeMap<Key, Kept>,
    /// When to look at targets.
    due: BTreeMap<Key, Instant>,
}

impl Autoscalers {
    fn hear(&mut self, event: Event<HorizontalPodAutoscaler>) {
        let now = Instant::now();
        match self.known.hear(event, |autoscaler| autoscaler) {
            Heard::Nothing => {}
            Heard::One {
                key,
                old,
                is_there: true,
            } => {
                let spec = self.known.get(&key).map(|new| &new.spec);
                if spec != old.as_ref().map(|old| &old.spec) {
                    self.due.insert(key, now);
                }
            }
            Heard::One { key, .. } => self.forget(&key),
            Heard::All { vanished } => {
                vanished.iter().for_each(|key| self.forget(key));
                let all = self.known.iter();
                self.due.extend(all.map(|(key, _)| (key.clone(), now)));
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        self.due.remove(key);
        self.kept.remove(key);
    }

    /// Looks at the targets whose time has come, at all of them together, and gives them their sizes.
    async fn scale(&mut self) {
        let now = Instant::now();
        let over = self.due.iter().filter(|(_, due)| **due <= now);
        let over: Vec<Key> = over.map(|(key, _)| key.clone()).collect();
        let again = now + Duration::try_from(autoscaler::PERIOD).unwrap_or_default();
        let mut looks = Vec::new();
        for key in over {
            self.due.insert(key.clone(), again);
            if let Some(autoscaler) = self.known.get(&key) {
                let autoscaler = autoscaler.clone();
                let client = &self.client;
                looks.push(async move {
                    let seen = look(client, &autoscaler).await;
                    (key, autoscaler, seen)
                });
            }
        }
        for (key, autoscaler, seen) in join_all(looks).await {
            self.decide(key, autoscaler, seen).await;
        }
    }

    async fn decide(&mut self, key: Key, autoscaler: HorizontalPodAutoscaler, look: Look) {
        self.kept.entry(key.clone()).or_default().selector = look.selector();
        let rivals = self.rivals(&key, &look);
        let mut memory = std::mem::take(&mut self.kept.entry(key.clone()).or_default().memory);
        let plan = autoscaler::plan(&autoscaler, look.seen(&rivals), &mut memory, self.now());
        self.tell(&autoscaler, &plan.news);
        let done = match &plan.rescale {
            Some(rescale) => look.resize(rescale.replicas).await,
            None => Ok(()),
        };
        let done = match &done {
            Ok(()) => Ok(()),
            Err(why) => Err(why.as_str()),
        };
        let (status, news) = plan.carried_out(&autoscaler, done, &mut memory, self.now());
        self.tell(&autoscaler, &news);
        self.kept.entry(key.clone()).or_default().memory = memory;
        if autoscaler.status.as_ref() != Some(&status) {
            self.report(key, autoscaler, status).await;
        }
    }

    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// The autoscalers whose targets have one of these Pods.
    fn rivals(&self, key: &Key, look: &Look) -> Vec<Key> {
        let pods = look.pods.iter();
        let labels: Vec<_> = pods.filter_map(|p| p.metadata.labels.as_ref()).collect();
        let has_one = |kept: &Kept| {
            let selector = kept.selector.as_ref();
            selector.is_some_and(|s| labels.iter().any(|labels| s.matches(*labels)))
        };
        let rivals = self.kept.iter().filter(|(other, kept)| {
            let is_there = self.known.has(other) && other.0 == key.0;
            *other == key || (is_there && has_one(kept))
        });
        rivals.map(|(other, _)| other.clone()).collect()
    }

    fn tell(&self, autoscaler: &HorizontalPodAutoscaler, news: &[News]) {
        for News {
            type_,
            reason,
            message,
        } in news
        {
            let mut words = Words::normal(reason.clone(), message);
            if *type_ == Type::Warning.name() {
                words.type_ = Type::Warning;
            }
            self.recorder.record(reference(autoscaler), words);
        }
    }

    /// Writes a status. The autoscaler may have changed meanwhile; nobody else writes this.
    async fn report(
        &mut self,
        key: Key,
        mut autoscaler: HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
    ) {
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &key.0);
        for _ in 0..TRIES {
            autoscaler.status = Some(status.clone());
            let params = PostParams::default();
            let error = match api.replace_status(&key.1, &params, &autoscaler).await {
                Ok(written) => {
                    // What was changed besides is heard of, and looked at then.
                    if self.known.get(&key).map(|known| &known.spec) == Some(&written.spec) {
                        self.known.wrote(key, written);
                    }
                    return;
                }
                Err(error) => error,
            };
            match error {
                kube::Error::Api(error) if error.code == 404 => return,
                kube::Error::Api(error) if error.code == 409 => match api.get(&key.1).await {
                    Ok(now) if now.uid() == autoscaler.uid() => autoscaler = now,
                    _ => return,
                },
                error => {
                    tracing::warn!(autoscaler = key.1, %error, "reporting what was scaled");
                    let message = error.to_string();
                    let words = Words::warning("FailedUpdateStatus", message);
                    return self.recorder.record(reference(&autoscaler), words);
                }
            }
        }
    }
}

fn reference(autoscaler: &HorizontalPodAutoscaler) -> ObjectReference {
    ObjectReference {
        api_version: Some("autoscaling/v2".into()),
        kind: Some("HorizontalPodAutoscaler".into()),
        name: Some(autoscaler.name_any()),
        namespace: autoscaler.namespace(),
        uid: autoscaler.uid(),
        resource_version: autoscaler.resource_version(),
        field_path: None,
    }
}
