//! The kinds that quotas count, and what of their news is some to a quota.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::task::Poll;

use admission::quota;
use futures::StreamExt;
use informer::{Heard, Mirror, watch};
use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::watcher::{Config, Event};
use ports::clock::Clock;
use serde_json::Value;

use super::{Known, Objects, api_of, served, value_of};

/// Kinds whose objects count for more than being there.
const LOOKED_AT: [&str; 3] = ["pods", "services", "persistentvolumeclaims"];

/// Quotas that count a kind have to be counted.
pub(super) struct News {
    pub(super) kind: String,
    /// In one namespace; in all when it is not known what has changed.
    pub(super) namespace: Option<String>,
}

/// The watches, by kind.
#[derive(Default)]
pub(super) struct Followed(BTreeMap<String, One>);

/// One kind, with those of its objects that are looked at and are in a namespace with quotas.
struct One {
    watch: Objects,
    objects: Mirror<Option<Value>>,
}

impl Followed {
    /// Follows these kinds and no others.
    pub(super) fn keep(&mut self, client: &Client, kinds: &BTreeSet<String>) {
        self.0.retain(|kind, _| kinds.contains(kind));
        for kind in kinds {
            let Some(served) = served(kind).filter(|_| !self.0.contains_key(kind)) else {
                continue;
            };
            let one = One {
                watch: watch(api_of(client, served, ""), Config::default()),
                objects: Mirror::default(),
            };
            self.0.insert(kind.clone(), one);
        }
    }

    /// The next event that matters.
    pub(super) async fn next(&mut self, quotas: &Mirror<Known>, clock: &dyn Clock) -> News {
        loop {
            let (kind, event) = self.event().await;
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(%error, "watching {kind} that quotas count");
                    continue;
                }
            };
            if let Some(one) = self.0.get_mut(&kind)
                && let Some(namespace) = one.hear(&kind, event, quotas, clock)
            {
                return News { kind, namespace };
            }
        }
    }

    async fn event(&mut self) -> (String, <Objects as futures::Stream>::Item) {
        poll_fn(|context| {
            for (kind, one) in &mut self.0 {
                if let Poll::Ready(Some(event)) = one.watch.poll_next_unpin(context) {
                    return Poll::Ready((kind.clone(), event));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl One {
    /// The namespace in which something has become less, or may have; in all of them when a list was read.
    fn hear(
        &mut self,
        kind: &str,
        event: Event<DynamicObject>,
        quotas: &Mirror<Known>,
        clock: &dyn Clock,
    ) -> Option<Option<String>> {
        let keep = |object: DynamicObject| {
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            let is_counted = quotas.of_namespace(namespace).next().is_some();
            (is_counted && LOOKED_AT.contains(&kind)).then(|| value_of(&object))
        };
        match self.objects.hear(event, keep) {
            Heard::Nothing => None,
            Heard::All { .. } => Some(None),
            // What is made is charged at once.
            Heard::One {
                old: None,
                is_there: true,
                ..
            } => None,
            Heard::One {
                key,
                old: Some(old),
                is_there: true,
            } => {
                let new = self.objects.get(&key).and_then(Option::as_ref);
                let is_news = match (old, new) {
                    (Some(old), Some(new)) => quota::is_news(kind, &old, new, clock.now()),
                    (_, new) => new.is_some(),
                };
                is_news.then_some(Some(key.0))
            }
            Heard::One { key, .. } => Some(Some(key.0)),
        }
    }
}
