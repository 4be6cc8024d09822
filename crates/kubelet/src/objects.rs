//! ConfigMaps, Secrets and claims for storage that Pods refer to, and what tells of their volumes: read when needed, watched one by one while someone waits or mounts.
//!
//! One task per referenced object, shared by all Pods that refer to it, watches that single object and tells their workers when
//! it changes, and what it holds then. It ends with the last subscription. What a Pod starts with is always read from the API, so it
//! never starts with old contents.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The kinds of object a container's files and environment come from, or its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A claim for storage.
    Claim,
    /// What tells that a volume is attached to the node; it is in no namespace.
    Attachment,
}

impl Kind {
    /// The kind as texts write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
            Kind::Claim => "PersistentVolumeClaim",
            Kind::Attachment => "VolumeAttachment",
        }
    }

    /// The word of `… not found`: the kind in lower case.
    fn word(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
            Kind::Claim => "persistentvolumeclaim",
            Kind::Attachment => "volumeattachment",
        }
    }
}

/// A reference to an object of the Pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectRef {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
}

impl ObjectRef {
    pub(crate) fn new(kind: Kind, name: &str) -> Self {
        ObjectRef {
            kind,
            name: name.to_owned(),
        }
    }

    /// Upstream's words for an object that is not there.
    pub(crate) fn not_found(&self) -> String {
        format!("{} {:?} not found", self.kind.word(), self.name)
    }
}

/// What an object holds.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Content {
    /// `data` of a ConfigMap.
    text: BTreeMap<String, String>,
    /// `data` of a Secret, `binaryData` of a ConfigMap.
    binary: BTreeMap<String, Vec<u8>>,
    /// Whether [`Content::binary`] counts as text too.
    secret: bool,
    /// `metadata.resourceVersion`.
    version: Option<String>,
    /// `type` of a Secret.
    type_: String,
    /// `metadata.uid` of a Secret.
    uid: String,
    /// A claim, which holds nothing by itself.
    claim: Option<PersistentVolumeClaim>,
    /// What tells of an attached volume.
    attachment: Option<VolumeAttachment>,
}

impl Content {
    fn of_config_map(object: ConfigMap) -> Self {
        let binary = object
            .binary_data
            .unwrap_or_default()
            .into_iter()
            .map(|(k, v)| (k, v.0))
            .collect();
        let version = object.metadata.resource_version;
        Content {
            text: object.data.unwrap_or_default(),
            binary,
            version,
            ..Content::default()
        }
    }

    fn of_secret(object: Secret) -> Self {
        let binary = object
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(k, v)| (k, v.0))
            .collect();
        Content {
            binary,
            secret: true,
            version: object.metadata.resource_version,
            type_: object.type_.unwrap_or_default(),
            uid: object.metadata.uid.unwrap_or_default(),
            ..Content::default()
        }
    }

    pub(crate) fn of_claim(object: PersistentVolumeClaim) -> Self {
        Content {
            version: object.metadata.resource_version.clone(),
            claim: Some(object),
            ..Content::default()
        }
    }

    fn of_attachment(object: VolumeAttachment) -> Self {
        Content {
            version: object.metadata.resource_version.clone(),
            attachment: Some(object),
            ..Content::default()
        }
    }

    #[cfg(test)]
    pub(crate) fn from_texts<const N: usize>(texts: [(&str, &str); N]) -> Self {
        Content {
            text: texts
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            ..Content::default()
        }
    }

    #[cfg(test)]
    pub(crate) fn from_bytes<const N: usize>(bytes: [(&str, Vec<u8>); N]) -> Self {
        Content {
            binary: bytes.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            secret: true,
            ..Content::default()
        }
    }

    /// A value for an environment variable: `binaryData` of a ConfigMap does not count.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let secret = || {
            self.binary
                .get(key)
                .filter(|_| self.secret)
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        self.text.get(key).cloned().or_else(secret)
    }

    /// Every value for the environment, by key.
    pub(crate) fn texts(&self) -> Vec<(&str, String)> {
        let keys = self
            .text
            .keys()
            .chain(self.binary.keys().filter(|_| self.secret));
        keys.filter_map(|key| Some((key.as_str(), self.text(key)?)))
            .collect()
    }

    /// A file's bytes.
    pub(crate) fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.text
            .get(key)
            .map(String::as_bytes)
            .or_else(|| self.binary.get(key).map(Vec::as_slice))
    }

    /// `type` of a Secret.
    pub(crate) fn secret_type(&self) -> &str {
        &self.type_
    }

    /// `metadata.uid` of a Secret.
    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// The claim, if it is one.
    pub(crate) fn claim(&self) -> Option<&PersistentVolumeClaim> {
        self.claim.as_ref()
    }

    /// Its version, if the API said.
    pub(crate) fn version(&self) -> Option<String> {
        self.version.clone()
    }

    /// What tells of an attached volume, if it is that.
    pub(crate) fn attachment(&self) -> Option<&VolumeAttachment> {
        self.attachment.as_ref()
    }

    /// Every key that can be a file.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.text
            .keys()
            .chain(self.binary.keys())
            .map(String::as_str)
    }
}

/// Objects as they were read; `None` is one that does not exist.
#[derive(Default, Clone)]
pub(crate) struct Objects(BTreeMap<ObjectRef, Option<Arc<Content>>>);

impl Objects {
    #[cfg(test)]
    pub(crate) fn insert(&mut self, reference: ObjectRef, content: Option<Content>) {
        self.0.insert(reference, content.map(Arc::new));
    }

    /// What these subscriptions know by now.
    pub(crate) fn held_by(subscriptions: &[Subscription]) -> Self {
        let held = subscriptions.iter().filter_map(|subscription| {
            let content = subscription.seen.borrow().clone()?;
            Some((subscription.reference.clone(), content))
        });
        Objects(held.collect())
    }

    /// What was read, with the versions read.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&ObjectRef, Option<String>)> {
        self.0
            .iter()
            .map(|(reference, content)| (reference, version(content.as_ref()).map(str::to_owned)))
    }

    /// An object's content; `None` when it is missing and `optional`.
    ///
    /// # Errors
    /// Upstream's text when it is missing and not optional.
    pub(crate) fn get(
        &self,
        reference: &ObjectRef,
        optional: bool,
    ) -> Result<Option<&Content>, String> {
        match self.0.get(reference).and_then(Option::as_ref) {
            None if !optional => Err(reference.not_found()),
            found => Ok(found.map(Arc::as_ref)),
        }
    }
}

/// Reads all of these objects at once.
///
/// # Errors
/// The API's words, when it answers anything but the object or 404.
pub(crate) async fn read(
    client: &Client,
    namespace: &str,
    references: Vec<ObjectRef>,
) -> Result<Objects, String> {
    complete(client, namespace, references, Objects::default()).await
}

/// These objects: those that are held as they are, all others read at once.
///
/// # Errors
/// As those of [`read`].
pub(crate) async fn complete(
    client: &Client,
    namespace: &str,
    references: Vec<ObjectRef>,
    held: Objects,
) -> Result<Objects, String> {
    let Objects(mut held) = held;
    let (references, missing): (BTreeSet<ObjectRef>, BTreeSet<ObjectRef>) = references
        .into_iter()
        .partition(|reference| held.contains_key(reference));
    held.retain(|reference, _| references.contains(reference));
    let reads = missing.into_iter().map(|reference| async move {
        let content = match reference.kind {
            Kind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
                api.get_opt(&reference.name)
                    .await
                    .map(|o| o.map(Content::of_config_map))
            }
            Kind::Secret => {
                let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
                api.get_opt(&reference.name)
                    .await
                    .map(|o| o.map(Content::of_secret))
            }
            Kind::Claim => {
                let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
                let found = api.get_opt(&reference.name).await;
                found.map(|o| o.map(Content::of_claim))
            }
            Kind::Attachment => {
                let api: Api<VolumeAttachment> = Api::all(client.clone());
                let found = api.get_opt(&reference.name).await;
                found.map(|o| o.map(Content::of_attachment))
            }
        };
        content
            .map(|content| (reference, content.map(Arc::new)))
            .map_err(|e| e.to_string())
    });
    held.extend(futures::future::try_join_all(reads).await?);
    Ok(Objects(held))
}

type Key = (String, ObjectRef);
/// What a watch knows of an object: nothing yet, or its content, `None` when it does not exist.
type Seen = Option<Option<Arc<Content>>>;

fn version(content: Option<&Arc<Content>>) -> Option<&str> {
    content?.version.as_deref()
}

/// Watches single objects for workers.
pub(crate) struct Watches {
    client: Client,
    running: Mutex<HashMap<Key, Weak<Watched>>>,
}

/// An object under watch.
struct Watched {
    seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

/// A worker's interest in an object; ends when dropped.
pub(crate) struct Subscription {
    /// Keeps the task going.
    _watched: Arc<Watched>,
    reference: ObjectRef,
    seen: watch::Receiver<Seen>,
    /// The version that the worker knows.
    known: Option<String>,
}

impl Subscription {
    /// Returns when the object is no longer what the worker knows; from then on it knows that.
    pub(crate) async fn changed(&mut self) {
        let known = self.known.clone();
        let is_other = |seen: &Seen| {
            let seen = seen.as_ref();
            seen.is_some_and(|content| version(content.as_ref()) != known.as_deref())
        };
        let changed = self.seen.wait_for(is_other).await;
        let now =
            changed.map(|seen| version(seen.as_ref().and_then(Option::as_ref)).map(str::to_owned));
        match now {
            Ok(version) => self.known = version,
            // The task outlives its subscriptions; it can only be gone when everything is.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Watches {
    pub(crate) fn new(client: Client) -> Self {
        Watches {
            client,
            running: Mutex::default(),
        }
    }

    /// Begins to watch an object, or joins those who do. `known` is the version the worker has read (`None`: it was not there), so
    /// nothing that happened between that and this call is lost.
    pub(crate) fn subscribe(
        &self,
        namespace: &str,
        reference: &ObjectRef,
        known: Option<String>,
    ) -> Subscription {
        let key = (namespace.to_owned(), reference.clone());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = running
            .get(&key)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                running.retain(|_, watched| watched.strong_count() > 0);
                let watched = Arc::new(self.start(namespace, reference));
                running.insert(key, Arc::downgrade(&watched));
                watched
            });
        Subscription {
            reference: reference.clone(),
            seen: watched.seen.clone(),
            _watched: watched,
            known,
        }
    }

    fn start(&self, namespace: &str, reference: &ObjectRef) -> Watched {
        let (sender, seen) = watch::channel(None);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", reference.name));
        let (client, namespace) = (self.client.clone(), namespace.to_owned());
        let task = match reference.kind {
            Kind::ConfigMap => tokio::spawn(follow(
                Api::<ConfigMap>::namespaced(client, &namespace),
                only,
                Content::of_config_map,
                sender,
            )),
            Kind::Secret => tokio::spawn(follow(
                Api::<Secret>::namespaced(client, &namespace),
                only,
                Content::of_secret,
                sender,
            )),
            Kind::Claim => tokio::spawn(follow(
                Api::<PersistentVolumeClaim>::namespaced(client, &namespace),
                only,
                Content::of_claim,
                sender,
            )),
            Kind::Attachment => {
                let api = Api::<VolumeAttachment>::all(client);
                tokio::spawn(follow(api, only, Content::of_attachment, sender))
            }
        };
        Watched {
            seen,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn follow<K>(
    api: Api<K>,
    only: watcher::Config,
    content_of: fn(K) -> Content,
    sender: watch::Sender<Seen>,
) where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = informer::watch(api, only);
    let mut listed = None;
    while let Some(event) = events.next().await {
        let object = match event {
            Ok(Event::Init) => {
                listed = None;
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed = Some(object);
                continue;
            }
            Ok(Event::InitDone) => listed.take(),
            Ok(Event::Apply(object)) => Some(object),
            Ok(Event::Delete(_)) => None,
            Err(error) => {
                tracing::warn!(%error, "watching a referenced object");
                continue;
            }
        };
        let content = object.map(|object| Arc::new(content_of(object)));
        sender.send_if_modified(|seen| {
            let known = seen.as_ref().map(|content| version(content.as_ref()));
            let differs = known != Some(version(content.as_ref()));
            *seen = Some(content);
            differs
        });
    }
}
