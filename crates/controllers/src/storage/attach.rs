//! Has volumes of drivers attached to nodes and detached (upstream's attachdetach controller). What is to be done is what
//! `claims::attach` says.
//!
//! A cluster without drivers has no CSINodes, and nothing else is followed then.

use std::collections::BTreeMap;
use std::time::Duration;

use claims::Needs;
use claims::attach::{Held, Step, World};
use events::Recorder;
use futures::StreamExt;
use futures::stream::select_all;
use informer::{Heard, Key, Mirror, Wanted, Watch, key_of, watch_all};
use k8s_openapi::api::core::v1::{
    AttachedVolume, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, VolumeAttachment};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{by_name, hear, spoken};

/// Who the Events are from, as upstream names it.
const COMPONENT: &str = "attachdetach-controller";
/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

type Told<K> = Result<Event<K>, watcher::Error>;

/// What is told while there are CSINodes.
enum News {
    Claim(Told<PersistentVolumeClaim>),
    Volume(Told<PersistentVolume>),
    Driver(Told<CSIDriver>),
    Attachment(Told<VolumeAttachment>),
    Pod(Told<Pod>),
    Node(Told<Node>),
}

/// What is known, by namespace and name.
#[derive(Default)]
struct Known {
    claims: Mirror<PersistentVolumeClaim>,
    volumes: Mirror<PersistentVolume>,
    drivers: Mirror<CSIDriver>,
    attachments: Mirror<VolumeAttachment>,
    pods: Mirror<Option<Needs>>,
    nodes: Mirror<Held>,
}

/// Has volumes attached until `shutdown`.
pub(crate) async fn run(client: Client, recorder: &Recorder, shutdown: CancellationToken) {
    let mut csi_nodes: Watch<CSINode> = watch_all(&client);
    let mut with_drivers: Mirror<()> = Mirror::default();
    let mut news = Wanted::default();
    let mut known = Known::default();
    let hands = Hands {
        recorder: recorder.of(COMPONENT),
        client: client.clone(),
    };
    let mut retry: Option<Instant> = None;
    let mut is_dirty = false;
    loop {
        if news.follow_if(!with_drivers.is_empty(), || follow(&client)) {
            known = Known::default();
        }
        if is_dirty && known.is_synced() {
            let is_done = tokio::select! {
                is_done = hands.settle(&mut known) => is_done,
                () = shutdown.cancelled() => return,
            };
            is_dirty = false;
            retry = (!is_done).then(|| Instant::now() + AGAIN);
        }
        let due = retry.unwrap_or_else(Instant::now);
        is_dirty |= tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(due), if retry.is_some() => true,
            Some(event) = csi_nodes.next() => match event {
                Ok(event) => !matches!(with_drivers.hear(event, |_| ()), Heard::Nothing),
                Err(error) => {
                    tracing::warn!(%error, "watching CSINodes");
                    false
                }
            },
            Some(event) = news.next() => known.hear(event, &hands),
        };
    }
}

fn follow(client: &Client) -> futures::stream::BoxStream<'static, News> {
    let all = [
        watch_all(client).map(News::Claim).boxed(),
        watch_all(client).map(News::Volume).boxed(),
        watch_all(client).map(News::Driver).boxed(),
        watch_all(client).map(News::Attachment).boxed(),
        watch_all(client).map(News::Pod).boxed(),
        watch_all(client).map(News::Node).boxed(),
    ];
    select_all(all).boxed()
}

impl Known {
    fn is_synced(&self) -> bool {
        self.claims.is_synced()
            && self.volumes.is_synced()
            && self.drivers.is_synced()
            && self.attachments.is_synced()
            && self.pods.is_synced()
            && self.nodes.is_synced()
    }

    /// Takes what a watch tells; whether that may change what is to be done.
    fn hear(&mut self, news: News, hands: &Hands) -> bool {
        match news {
            News::Claim(event) => hear("claims", &mut self.claims, event),
            News::Volume(event) => hear("volumes", &mut self.volumes, event),
            News::Driver(event) => hear("drivers", &mut self.drivers, event),
            News::Attachment(event) => {
                if let Ok(Event::Apply(after)) = &event {
                    let before = self.attachments.get(&key_of(after));
                    hands.tell(self, before, after);
                }
                hear("attachments", &mut self.attachments, event)
            }
            News::Pod(event) => looked(event, &mut self.pods, |pod: Pod| Needs::of(&pod)),
            News::Node(event) => looked(event, &mut self.nodes, |node: Node| Held::of(&node)),
        }
    }

    fn world(&self) -> World<'_> {
        let pods = self.pods.iter();
        World {
            claims: self.claims.iter().collect(),
            volumes: by_name(&self.volumes),
            drivers: by_name(&self.drivers),
            attachments: by_name(&self.attachments),
            pods: pods
                .filter_map(|(key, needs)| Some((key, needs.as_ref()?)))
                .collect(),
            nodes: by_name(&self.nodes),
            digest: |bytes| Sha256::digest(bytes).to_vec(),
        }
    }
}

/// Takes what a watch tells of objects of which little is kept; whether that is something else now.
fn looked<K, T>(event: Told<K>, known: &mut Mirror<T>, look: impl Fn(K) -> T) -> bool
where
    K: kube::Resource,
    T: PartialEq,
{
    let heard = match event {
        Ok(event) => known.hear(event, look),
        Err(error) => {
            tracing::warn!(%error, "watching who uses volumes of drivers");
            return false;
        }
    };
    match heard {
        Heard::Nothing => false,
        Heard::All { .. } => true,
        Heard::One { key, old, .. } => old.as_ref() != known.get(&key),
    }
}

/// What the controller does.
struct Hands {
    client: Client,
    recorder: Recorder,
}

impl Hands {
    /// Does what is planned. Whether nothing has failed; what is done changes what the watches tell.
    async fn settle(&self, known: &mut Known) -> bool {
        let mut is_done = true;
        for step in known.world().plan() {
            if let Err(error) = self.take(known, step).await {
                tracing::warn!(%error, "attaching volumes");
                is_done = false;
            }
        }
        is_done
    }

    async fn take(&self, known: &mut Known, step: Step) -> Result<(), kube::Error> {
        match step {
            Step::Attach(wanted) => {
                let api: Api<VolumeAttachment> = Api::all(self.client.clone());
                match api.create(&PostParams::default(), &wanted).await {
                    Ok(made) => known.attachments.wrote(key_of(&made), made),
                    // The watch will tell of it.
                    Err(kube::Error::Api(error)) if error.code == 409 => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            }
            Step::Detach { name, node, volume } => self.detach(&name, &node, &volume).await,
            Step::Report { node, attached } => self.report(known, node, attached).await,
        }
    }

    /// Deletes an attachment, unless its node has come to use it meanwhile.
    async fn detach(&self, name: &str, node: &str, volume: &str) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let seen = nodes.get_opt(node).await?;
        if seen.is_some_and(|seen| Held::of(&seen).in_use.contains(volume)) {
            return Ok(());
        }
        let api: Api<VolumeAttachment> = Api::all(self.client.clone());
        match api.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn report(
        &self,
        known: &mut Known,
        node: String,
        attached: Vec<AttachedVolume>,
    ) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = serde_json::json!({"status": {"volumesAttached": attached}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let written = api.patch_status(&node, &params, &patch).await?;
        known.nodes.wrote((String::new(), node), Held::of(&written));
        Ok(())
    }

    /// Tells Pods how an attachment that they wait for has changed.
    fn tell(&self, known: &Known, before: Option<&VolumeAttachment>, after: &VolumeAttachment) {
        let world = known.world();
        let Some((pods, words)) = world.tell(before, after) else {
            return;
        };
        let uids: BTreeMap<&Key, &str> = pods
            .into_iter()
            .filter_map(|key| Some((key, &*world.pods.get(key)?.uid)))
            .collect();
        for (key, uid) in uids {
            self.recorder
                .record(reference(key, uid), spoken(words.clone()));
        }
    }
}

fn reference((namespace, name): &Key, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}
