//! Objects whose owners are gone (upstream's garbage collector), and deletions that wait for dependents or let them stay.
//!
//! One task watches the metadata of every kind that can be deleted but Events, and tells a [`Graph`] of it. What that wants looked at is
//! done by [`work`], some at a time: it asks the API about the object and all its owners and says with each deletion and change which
//! version it means. What fails is tried again, later each time. Nothing is done before every kind has been listed once, or could not be.

mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use events::{Recorder, Words};
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use informer::watch;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::watcher::{self, Config, Event};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use work::{Known, Result};
use workloads::garbage::{Graph, Key, Kind, Object};

/// Works under way at once, as upstream's `--concurrent-gc-syncs`.
const AT_ONCE: usize = 20;
/// What has failed is tried again after this, then after twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// The longest it has to wait.
const LONGEST: Duration = Duration::from_secs(300);

/// The watches of all kinds.
type Watches = SelectAll<BoxStream<'static, (Kind, watcher::Result<Event<Known>>)>>;

/// Collects garbage until `shutdown`.
pub(crate) async fn run(client: Client, recorder: &Recorder, shutdown: CancellationToken) {
    let mut watches: Watches = Kind::followed().map(|kind| follow(&client, kind)).collect();
    let mut unlisted: BTreeSet<Kind> = Kind::followed().collect();
    let mut graph = Graph::default();
    let mut works = FuturesUnordered::new();
    let mut late = Late::default();
    let recorder = recorder.of("garbage-collector-controller");
    loop {
        while unlisted.is_empty()
            && works.len() < AT_ONCE
            && let Some((key, work)) = graph.take()
        {
            let done = work::carry_out(client.clone(), work);
            works.push(async move { (key, done.await) });
        }
        if works.is_empty() {
            late.forget();
        }
        let next = late.next();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some((kind, event)) = watches.next() => {
                if !matches!(event, Ok(Event::Init | Event::InitApply(_))) {
                    unlisted.remove(&kind);
                }
                hear(&mut graph, kind, event);
            }
            Some((key, done)) = works.next(), if !works.is_empty() => {
                if let Key::Owner(owner) = &key && done.as_ref().is_ok_and(|done| done.is_elsewhere) {
                    tell(&recorder, &graph, owner);
                }
                land(&mut graph, &mut late, key, done);
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                late.due().into_iter().for_each(|key| graph.again(key));
            }
        }
    }
}

fn follow(
    client: &Client,
    kind: Kind,
) -> BoxStream<'static, (Kind, watcher::Result<Event<Known>>)> {
    let events = watch(work::api(client, kind, ""), Config::default());
    events.map(move |event| (kind, event)).boxed()
}

fn hear(graph: &mut Graph, kind: Kind, event: watcher::Result<Event<Known>>) {
    match event {
        Ok(Event::Init) => graph.list_begins(kind),
        Ok(Event::InitApply(object) | Event::Apply(object)) => graph.hear(kind, &object.metadata),
        Ok(Event::InitDone) => graph.list_ends(kind),
        Ok(Event::Delete(object)) => graph.gone(object.metadata.uid.as_deref().unwrap_or_default()),
        Err(error) => {
            let kind = kind.resource().plural;
            tracing::warn!(%error, "watching {kind} and their owners");
        }
    }
}

fn land(graph: &mut Graph, late: &mut Late, key: Key, done: Result) {
    match done {
        Ok(done) => {
            late.tries.remove(&key);
            graph.landed(key, done.outcome);
        }
        Err(error) => {
            tracing::warn!(%error, ?key, "collecting garbage");
            graph.failed(&key);
            late.put_off(key);
        }
    }
}

/// Tells of those that name an object of another namespace as their owner.
fn tell(recorder: &Recorder, graph: &Graph, owner: &Object) {
    for object in graph.naming(owner) {
        let resource = object.kind.resource();
        let namespace = &object.namespace;
        let about = ObjectReference {
            api_version: Some(resource.group_version().to_string()),
            kind: Some(resource.gvk.kind.into()),
            namespace: Some(namespace.clone()).filter(|n| !n.is_empty()),
            name: Some(object.name.clone()),
            uid: Some(object.uid.to_string()),
            ..ObjectReference::default()
        };
        let words = Words::warning(
            "OwnerRefInvalidNamespace",
            format!(
                "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
                owner.kind.resource().group_version(),
                owner.kind.resource().gvk.kind,
                owner.name,
                owner.uid,
            ),
        );
        recorder.record(about, words);
    }
}

/// What has failed, how often, and when it is tried again.
#[derive(Default)]
struct Late {
    tries: BTreeMap<Key, (u32, Option<Instant>)>,
}

impl Late {
    fn put_off(&mut self, key: Key) {
        let (tries, due) = self.tries.entry(key).or_default();
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(*tries));
        *due = Some(Instant::now() + wait.min(LONGEST));
        *tries += 1;
    }

    fn next(&self) -> Option<Instant> {
        self.tries.values().filter_map(|(_, due)| *due).min()
    }

    /// What has to be tried now.
    fn due(&mut self) -> Vec<Key> {
        let now = Instant::now();
        let mut over = Vec::new();
        for (key, (_, due)) in &mut self.tries {
            if due.is_some_and(|due| due <= now) {
                *due = None;
                over.push(key.clone());
            }
        }
        over
    }

    /// Forgets what nobody wants to try any more.
    fn forget(&mut self) {
        self.tries.retain(|_, (_, due)| due.is_some());
    }
}
