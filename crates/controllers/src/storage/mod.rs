//! Gives claims for storage their volumes, and makes and removes volumes of directories (upstream's persistentvolume controller, and
//! those that protect claims and volumes). What is to be done is what crate `claims` says.

pub(crate) mod attach;
pub(crate) mod ephemeral;
mod hands;

use events::Recorder;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claims::{Needs, Step, World, uses};
use futures::StreamExt;
use informer::{Heard, Key, Mirror, Wanted, Watch, key_of, revision_of, watch_all};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use ports::volumes::Directories;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::hands::Hands;

/// What failed is tried again after this, then after twice as long.
const AGAIN: Duration = Duration::from_secs(1);
/// At most so long after.
const LATEST: Duration = Duration::from_secs(60);

/// What is known, by namespace and name.
#[derive(Default)]
struct Known {
    claims: Mirror<PersistentVolumeClaim>,
    volumes: Mirror<PersistentVolume>,
    classes: Mirror<StorageClass>,
    /// What Pods need, while there are claims.
    pods: Mirror<Option<Needs>>,
    /// The nodes, while there are claims.
    nodes: Mirror<()>,
}

/// Binds until `shutdown`.
pub(crate) async fn run(
    client: Client,
    recorder: &Recorder,
    directories: Arc<dyn Directories>,
    shutdown: CancellationToken,
) {
    let mut claims: Watch<PersistentVolumeClaim> = watch_all(&client);
    let mut volumes: Watch<PersistentVolume> = watch_all(&client);
    let mut classes: Watch<StorageClass> = watch_all(&client);
    let mut pods = Wanted::default();
    let mut nodes = Wanted::default();
    let mut hands = Hands::new(client.clone(), recorder, directories);
    let mut known = Known::default();
    let mut has_standard = false;
    let mut retry: Option<Instant> = None;
    let mut pause = AGAIN;
    let mut is_dirty = false;
    loop {
        let has_claims = !known.claims.is_empty();
        if pods.follow_if(has_claims, || watch_all::<Pod>(&client)) {
            known.pods = Mirror::default();
        }
        if nodes.follow_if(has_claims, || watch_all::<Node>(&client)) {
            known.nodes = Mirror::default();
        }
        if is_dirty && known.is_synced() {
            let is_done = tokio::select! {
                is_done = settle(&mut hands, &mut known) => is_done,
                () = shutdown.cancelled() => return,
            };
            if !has_standard {
                has_standard = keep_standard(&client).await;
            }
            is_dirty = false;
            (retry, pause) = match is_done && has_standard {
                true => (None, AGAIN),
                false => (Some(Instant::now() + pause), (pause * 2).min(LATEST)),
            };
        }
        let due = retry.unwrap_or_else(Instant::now);
        is_dirty |= tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(due), if retry.is_some() => true,
            Some(event) = claims.next() => hear("claims", &mut known.claims, event),
            Some(event) = volumes.next() => hear("volumes", &mut known.volumes, event),
            Some(event) = classes.next() => hear("classes of storage", &mut known.classes, event),
            Some(event) = pods.next() => known.hear_pod(event),
            Some(event) = nodes.next() => known.hear_node(event),
        };
    }
}

/// Makes the class that every cluster has; whether it is there.
async fn keep_standard(client: &Client) -> bool {
    let api: Api<StorageClass> = Api::all(client.clone());
    match api
        .create(&PostParams::default(), &claims::standard_class())
        .await
    {
        Ok(_) => true,
        Err(kube::Error::Api(error)) if error.code == 409 => true,
        Err(error) => {
            tracing::warn!(%error, "making the class of storage");
            false
        }
    }
}

/// Takes what a watch tells; whether that may change what is to be done. News that are older than what was written are none.
fn hear<K: Resource<DynamicType = ()> + Clone>(
    kind: &str,
    known: &mut Mirror<K>,
    event: Result<Event<K>, watcher::Error>,
) -> bool {
    match event {
        Err(error) => {
            tracing::warn!(%error, "watching {kind}");
            false
        }
        Ok(Event::Apply(object)) if is_old(known, &object) => false,
        Ok(event) => !matches!(known.hear(event, |object| object), Heard::Nothing),
    }
}

fn is_old<K: Resource>(known: &Mirror<K>, object: &K) -> bool {
    known.get(&key_of(object)).is_some_and(|found| {
        found.meta().uid == object.meta().uid && revision_of(found) >= revision_of(object)
    })
}

impl Known {
    fn is_synced(&self) -> bool {
        let users = self.pods.is_synced() && self.nodes.is_synced();
        self.claims.is_synced()
            && self.volumes.is_synced()
            && self.classes.is_synced()
            && (users || self.claims.is_empty())
    }

    fn hear_pod(&mut self, event: Result<Event<Pod>, watcher::Error>) -> bool {
        let heard = match event {
            Ok(event) => self.pods.hear(event, |pod| Needs::of(&pod)),
            Err(error) => {
                tracing::warn!(%error, "watching Pods");
                return false;
            }
        };
        match heard {
            Heard::Nothing => false,
            Heard::All { .. } => true,
            Heard::One { key, old, .. } => {
                old.flatten().as_ref() != self.pods.get(&key).and_then(Option::as_ref)
            }
        }
    }

    fn hear_node(&mut self, event: Result<Event<Node>, watcher::Error>) -> bool {
        let heard = match event {
            Ok(event) => self.nodes.hear(event, |_| ()),
            Err(error) => {
                tracing::warn!(%error, "watching nodes");
                return false;
            }
        };
        match heard {
            Heard::Nothing => false,
            Heard::All { .. } => true,
            Heard::One { old, is_there, .. } => old.is_some() != is_there,
        }
    }

    fn plan(&self) -> Vec<Step> {
        let pods = self.pods.iter();
        let pods = pods.filter_map(|((namespace, _), needs)| Some((&**namespace, needs.as_ref()?)));
        let world = World {
            claims: self.claims.iter().collect(),
            volumes: by_name(&self.volumes),
            classes: by_name(&self.classes),
            uses: uses(pods),
            node: self.nodes.iter().next().map(|((_, name), ())| &**name),
        };
        world.plan()
    }
}

/// What the rules have to say, as an Event.
fn spoken(words: claims::Words) -> events::Words {
    match words.is_warning {
        true => events::Words::warning(words.reason, words.message),
        false => events::Words::normal(words.reason, words.message),
    }
}

fn by_name<K>(known: &Mirror<K>) -> BTreeMap<&str, &K> {
    let all = known.iter();
    all.map(|((_, name), object): (&Key, &K)| (&**name, object))
        .collect()
}

/// Does what is planned, and plans again, until nothing changes any more. Whether nothing has failed.
async fn settle(hands: &mut Hands, known: &mut Known) -> bool {
    loop {
        let (mut is_changed, mut is_failed) = (false, false);
        for step in known.plan() {
            match hands.take(known, step).await {
                Ok(changed) => is_changed |= changed,
                Err(()) => is_failed = true,
            }
        }
        if is_failed || !is_changed {
            hands.forget_gone(known);
            return !is_failed;
        }
    }
}
