//! What the controller of storage does: writes, directories, Events.

use events::Recorder;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use api::storage::VOLUME_PROTECTION;
use claims::{PROVISIONER, Step, Words};
use informer::{Key, Mirror, key_of};
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use ports::volumes::Directories;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Known;

/// Who the Events are from, as upstream names it.
const COMPONENT: &str = "persistentvolume-controller";

/// Whether something was changed by it; what failed is logged and has to be tried again.
type Done = Result<bool, ()>;

/// Which write.
#[derive(Clone, Copy)]
enum Part {
    Main,
    Status,
}

pub(super) struct Hands {
    client: Client,
    recorder: Recorder,
    directories: Arc<dyn Directories>,
    /// What was said last of claims and, with an empty namespace, volumes.
    told: BTreeMap<Key, (Option<String>, Words)>,
}

impl Hands {
    pub(super) fn new(
        client: Client,
        recorder: &Recorder,
        directories: Arc<dyn Directories>,
    ) -> Self {
        Hands {
            recorder: recorder.of(COMPONENT),
            client,
            directories,
            told: BTreeMap::new(),
        }
    }

    /// Forgets what was told of what is gone.
    pub(super) fn forget_gone(&mut self, known: &Known) {
        self.told
            .retain(|key, _| known.claims.has(key) || known.volumes.has(key));
    }

    pub(super) async fn take(&mut self, known: &mut Known, step: Step) -> Done {
        match step {
            Step::Claim(claim) => {
                let api = self.claims(&claim.metadata);
                write(&api, &mut known.claims, Part::Main, &claim).await
            }
            Step::ClaimStatus(claim, words) => {
                let api = self.claims(&claim.metadata);
                let is_done = write(&api, &mut known.claims, Part::Status, &claim).await?;
                if let Some(words) = words.filter(|_| is_done) {
                    self.tell(&*claim, words);
                }
                Ok(is_done)
            }
            Step::Volume(volume) => {
                write(&self.volumes(), &mut known.volumes, Part::Main, &volume).await
            }
            Step::VolumeStatus(volume, words) => {
                let api = self.volumes();
                let is_done = write(&api, &mut known.volumes, Part::Status, &volume).await?;
                if let Some(words) = words.filter(|_| is_done) {
                    self.tell(&*volume, words);
                }
                Ok(is_done)
            }
            Step::Release(volume) => match self.is_claimed(&volume).await? {
                true => Ok(false),
                false => write(&self.volumes(), &mut known.volumes, Part::Status, &volume).await,
            },
            Step::Provision { claim, volume } => self.provision(known, &claim, *volume).await,
            Step::Remove(volume) => self.remove(known, &volume).await,
            Step::TellOfClaim(key, words) => {
                if let Some(claim) = known.claims.get(&key) {
                    self.tell(claim, words);
                }
                Ok(false)
            }
            Step::TellOfVolume(name, words) => {
                if let Some(volume) = known.volumes.get(&(String::new(), name)) {
                    self.tell(volume, words);
                }
                Ok(false)
            }
        }
    }

    fn claims(&self, meta: &ObjectMeta) -> Api<PersistentVolumeClaim> {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.client.clone(), namespace)
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    /// Tells of an object, unless these were the last words.
    fn tell<K: Resource<DynamicType = ()>>(&mut self, object: &K, words: Words) {
        let said = (object.meta().uid.clone(), words.clone());
        let before = self.told.insert(key_of(object), said.clone());
        if before.as_ref() == Some(&said) {
            return;
        }
        let meta = object.meta();
        let about = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        };
        self.recorder.record(about, super::spoken(words));
    }

    /// Whether the claim a volume is of is there: the watch may not have told of it yet.
    async fn is_claimed(&self, volume: &PersistentVolume) -> Result<bool, ()> {
        let held = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        let Some(held) = held else { return Ok(false) };
        let namespace = held.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(held.name.as_deref().unwrap_or_default()).await;
        let found = found.map_err(|error| {
            tracing::warn!(%error, volume = volume.name_any(), "looking for the claim of a volume");
        })?;
        // A claim that has another volume has no claim on this one.
        Ok(found.is_some_and(|claim| {
            let named = claim.spec.and_then(|spec| spec.volume_name);
            let named = named.unwrap_or_default();
            claim.metadata.uid == held.uid && (named.is_empty() || named == volume.name_any())
        }))
    }

    async fn provision(
        &mut self,
        known: &mut Known,
        key: &Key,
        mut volume: PersistentVolume,
    ) -> Done {
        let name = volume.name_any();
        let Some(claim) = known.claims.get(key).cloned() else {
            return Ok(false);
        };
        let spec = volume.spec.get_or_insert_default();
        let class = spec.storage_class_name.clone().unwrap_or_default();
        let place = match self.directories.make(&name).await {
            Ok(place) => place,
            Err(error) => {
                let why =
                    format!("Failed to provision volume with StorageClass {class:?}: {error}");
                self.tell(&claim, failure(why));
                return Err(());
            }
        };
        spec.host_path = Some(HostPathVolumeSource {
            path: place.to_string_lossy().into_owned(),
            type_: Some("Directory".into()),
        });
        match self.volumes().create(&PostParams::default(), &volume).await {
            Ok(made) => {
                known.volumes.wrote(key_of(&made), made);
                let message = format!("Successfully provisioned volume {name} using {PROVISIONER}");
                let words = Words {
                    is_warning: false,
                    reason: "ProvisioningSucceeded",
                    message,
                };
                self.tell(&claim, words);
                Ok(true)
            }
            // The watch will tell of it.
            Err(kube::Error::Api(error)) if error.code == 409 => Ok(false),
            Err(error) => {
                let (namespace, claimed) = key;
                let why = format!(
                    "Error creating provisioned PV object for claim {namespace}/{claimed}: {error}. Deleting the volume."
                );
                self.tell(&claim, failure(why));
                if let Err(error) = self.directories.remove(&name).await {
                    tracing::warn!(%error, name, "removing the directory of a volume");
                }
                Err(())
            }
        }
    }

    /// Removes the directory of a volume that nobody claims any more, then the volume.
    async fn remove(&mut self, known: &mut Known, volume: &PersistentVolume) -> Done {
        let name = volume.name_any();
        let api = self.volumes();
        let seen = api.get_opt(&name).await.map_err(|error| {
            tracing::warn!(%error, name, "looking at a volume");
        })?;
        // Somebody may have given it back, or to another claim.
        let is_same = seen.is_some_and(|seen| seen.resource_version() == volume.resource_version());
        if !is_same || self.is_claimed(volume).await? {
            return Ok(false);
        }
        if let Err(why) = self.empty(volume, &name).await {
            if let Some(step) = claims::not_removed(volume, &why) {
                Box::pin(self.take(known, step)).await?;
            }
            return Err(());
        }
        self.discard(known, volume, &name)
            .await
            .or_else(|error| match error {
                kube::Error::Api(error) if matches!(error.code, 404 | 409) => Ok(false),
                error => {
                    tracing::warn!(%error, name, "deleting a volume");
                    Err(())
                }
            })
    }

    async fn empty(&self, volume: &PersistentVolume, name: &str) -> Result<(), String> {
        let source = volume.spec.as_ref().and_then(|s| s.host_path.as_ref());
        let place = self.directories.path(name);
        if source.is_none_or(|source| Path::new(&source.path) != place) {
            return Err(format!("{PROVISIONER} has not made this volume"));
        }
        let removed = self.directories.remove(name).await;
        removed.map_err(|error| error.to_string())
    }

    async fn discard(
        &self,
        known: &mut Known,
        volume: &PersistentVolume,
        name: &str,
    ) -> Result<bool, kube::Error> {
        let api = self.volumes();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: volume.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = api.delete(name, &params).await?;
        if let Some(mut left) = deleted.left() {
            left.finalizers_mut().retain(|f| f != VOLUME_PROTECTION);
            let left = api.replace(name, &PostParams::default(), &left).await?;
            if !left.finalizers().is_empty() {
                known.volumes.wrote(key_of(&left), left);
                return Ok(true);
            }
        }
        known.volumes.forget(&key_of(volume));
        Ok(true)
    }
}

fn failure(message: String) -> Words {
    Words {
        is_warning: true,
        reason: "ProvisioningFailed",
        message,
    }
}

/// Writes an object that must still be what it was, and takes over what became of it.
async fn write<K>(api: &Api<K>, known: &mut Mirror<K>, part: Part, object: &K) -> Done
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let (name, params) = (object.name_any(), PostParams::default());
    let written = match part {
        Part::Main => api.replace(&name, &params, object).await,
        Part::Status => api.replace_status(&name, &params, object).await,
    };
    match written {
        Ok(written) => {
            let meta = written.meta();
            let is_gone = meta.deletion_timestamp.is_some() && written.finalizers().is_empty();
            match is_gone {
                true => known.forget(&key_of(&written)),
                false => known.wrote(key_of(&written), written),
            }
            Ok(true)
        }
        // It is gone, or another by now: the watch tells.
        Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => Ok(false),
        Err(error) => {
            tracing::warn!(%error, name, kind = %K::kind(&()), "writing what is bound");
            Err(())
        }
    }
}
