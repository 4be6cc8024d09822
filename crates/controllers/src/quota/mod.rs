//! What is used of quotas (upstream's resource quota controller): counts it by [`admission::quota`] when a quota is new or wants other
//! things counted, and when something goes, ends or changes. What is made, and grows, is charged by the API itself.
//!
//! Nothing is counted from what a watch has told: a quota is read, then everything that it counts, then its status is written if it is
//! as it was read. Whatever is charged in between changes the quota, so that nothing is ever forgotten; it is counted again then.
//!
//! The kinds that quotas count are watched only while there is such a quota.

mod followed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use admission::quota;
use api::resource::{RESOURCES, Resource as Served};
use futures::StreamExt;
use informer::{Heard, Key, Mirror, Watch, watch};
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use ports::clock::Clock;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::followed::{Followed, News};
use crate::words;

/// What could not be counted is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// The kind itself, as `GroupResource` prints it.
const QUOTAS: &str = "resourcequotas";

/// Keeps the status of quotas until `shutdown`.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let Some(kind) = served(QUOTAS) else {
        return;
    };
    let mut changes = watch(api_of(&client, kind, ""), Config::default());
    let mut quotas = Quotas {
        client,
        clock,
        known: Mirror::default(),
        followed: Followed::default(),
        due: BTreeMap::new(),
    };
    loop {
        let next = quotas.due.values().min().copied();
        // What has happened is heard before anything is counted: once for all of it.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(event) = changes.next() => match event {
                Ok(event) => quotas.hear(event),
                Err(error) => tracing::warn!(%error, "watching quotas"),
            },
            news = quotas.followed.next(&quotas.known, &*quotas.clock) => quotas.note(news),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                quotas.count_next().await;
            }
        }
    }
}

/// A kind by its name, if it is served in namespaces.
fn served(kind: &str) -> Option<&'static Served> {
    let mut all = RESOURCES.iter();
    all.find(|r| r.namespaced && r.is_stored() && r.group_resource().to_string() == kind)
}

/// The objects of a kind in one namespace, or in all.
fn api_of(client: &Client, kind: &Served, namespace: &str) -> Api<DynamicObject> {
    let words = words(kind);
    match namespace {
        "" => Api::all_with(client.clone(), &words),
        namespace => Api::namespaced_with(client.clone(), namespace, &words),
    }
}

/// An object as the rules read it.
fn value_of(object: &DynamicObject) -> Value {
    // What was read as JSON can be written as such.
    serde_json::to_value(object).unwrap_or_default()
}

/// What is known of a quota.
struct Known {
    spec: Value,
    /// The kinds that it counts.
    kinds: BTreeSet<String>,
}

struct Quotas {
    client: Client,
    clock: Arc<dyn Clock>,
    known: Mirror<Known>,
    followed: Followed,
    /// When quotas have to be counted.
    due: BTreeMap<Key, Instant>,
}

impl Quotas {
    fn hear(&mut self, event: Event<DynamicObject>) {
        let mut is_stale = false;
        let heard = self.known.hear(event, |object| {
            let quota = value_of(&object);
            let kinds = quota::kinds(&quota);
            is_stale = quota::is_stale(&quota);
            let spec = quota["spec"].clone();
            Known { spec, kinds }
        });
        let now = Instant::now();
        match heard {
            Heard::Nothing => return,
            Heard::One {
                key,
                old,
                is_there: true,
            } => {
                let spec = self.known.get(&key).map(|known| &known.spec);
                if is_stale || spec != old.as_ref().map(|old| &old.spec) {
                    self.due.insert(key, now);
                }
            }
            Heard::One { key, .. } => {
                self.due.remove(&key);
            }
            Heard::All { vanished } => {
                for key in &vanished {
                    self.due.remove(key);
                }
                let all = self.known.iter();
                self.due.extend(all.map(|(key, _)| (key.clone(), now)));
            }
        }
        let kinds = self.known.iter().flat_map(|(_, known)| &known.kinds);
        self.followed.keep(&self.client, &kinds.cloned().collect());
    }

    /// The quotas that count a kind have to be counted, in one namespace or in all.
    fn note(&mut self, news: News) {
        let now = Instant::now();
        let all = self.known.iter().filter(|((namespace, _), known)| {
            let is_there = news
                .namespace
                .as_ref()
                .is_none_or(|changed| changed == namespace);
            is_there && known.kinds.contains(&news.kind)
        });
        self.due.extend(all.map(|(key, _)| (key.clone(), now)));
    }

    /// Counts one quota whose time has come.
    async fn count_next(&mut self) {
        let now = Instant::now();
        let mut over = self.due.iter().filter(|(_, due)| **due <= now);
        let Some(key) = over.next().map(|(key, _)| key.clone()) else {
            return;
        };
        self.due.remove(&key);
        match count(&self.client, &*self.clock, &key).await {
            Ok(None) => {}
            Ok(Some(again)) => {
                let wait = Duration::try_from(again.duration_since(self.clock.now()));
                self.due.insert(key, now + wait.unwrap_or_default() + AGAIN);
            }
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            // It was charged meanwhile.
            Err(kube::Error::Api(error)) if error.code == 409 => {
                self.due.insert(key, now);
            }
            Err(error) => {
                tracing::warn!(quota = key.1, %error, "counting what is used of a quota");
                self.due.insert(key, now + AGAIN);
            }
        }
    }
}

/// Reads a quota and what it counts, and writes what is used; when that changes by itself, if it does.
async fn count(
    client: &Client,
    clock: &dyn Clock,
    (namespace, name): &Key,
) -> Result<Option<Timestamp>, kube::Error> {
    let Some(kind) = served(QUOTAS) else {
        return Ok(None);
    };
    let quotas = api_of(client, kind, namespace);
    let mut quota = quotas.get(name).await?;
    let seen = value_of(&quota);
    let mut objects = BTreeMap::new();
    for kind in quota::kinds(&seen) {
        let Some(served) = served(&kind) else {
            continue;
        };
        let listed = api_of(client, served, namespace);
        let listed = listed.list(&ListParams::default()).await?;
        objects.insert(kind, listed.items.iter().map(value_of).collect());
    }
    let (status, again) = quota::count(&seen, &objects, clock.now());
    if !quota::is_same(&status, &seen["status"]) {
        quota.data["status"] = status;
        // Its resourceVersion makes this conditional.
        quotas
            .replace_status(name, &PostParams::default(), &quota)
            .await?;
    }
    Ok(again)
}

/// The watch of a kind.
type Objects = Watch<DynamicObject>;
