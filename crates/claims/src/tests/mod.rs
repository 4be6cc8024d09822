//! A model of the API and of the controller, in which plans are played.

mod properties;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use crate::{Key, Needs, Step, Words, World, object, uses};

/// Rounds after which a plan must have come to its end.
const ROUNDS: usize = 40;

/// What there is, and what was told.
#[derive(Debug, Clone, Default)]
struct Model {
    claims: BTreeMap<Key, PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
    classes: BTreeMap<String, StorageClass>,
    pods: BTreeMap<Key, Needs>,
    told: BTreeSet<(String, Words)>,
    directories: BTreeSet<String>,
    made: u32,
}

fn key(name: &str) -> Key {
    ("d".to_owned(), name.to_owned())
}

impl Model {
    fn plan(&self) -> Vec<Step> {
        let pods = self
            .pods
            .iter()
            .map(|((namespace, _), needs)| (&**namespace, needs));
        let world = World {
            claims: self.claims.iter().collect(),
            volumes: self.volumes.iter().map(|(name, v)| (&**name, v)).collect(),
            classes: self.classes.iter().map(|(name, c)| (&**name, c)).collect(),
            uses: uses(pods),
            node: Some("n"),
        };
        world.plan()
    }

    /// Plans and does what is planned until there is nothing left.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let steps = self.plan();
            let is_done = steps.iter().all(Step::is_told_only);
            steps.into_iter().for_each(|step| self.take(step));
            if is_done {
                return;
            }
        }
        panic!("no end of it: {:?}", self.plan());
    }

    fn take(&mut self, step: Step) {
        let say = |told: &mut BTreeSet<_>, name: &str, words: Option<Words>| {
            told.extend(words.map(|words| (name.to_owned(), words)));
        };
        match step {
            Step::Claim(claim) => self.write_claim(*claim),
            Step::ClaimStatus(claim, words) => {
                say(&mut self.told, object::name(&claim.metadata), words);
                self.write_claim(*claim);
            }
            Step::Volume(volume) => self.write_volume(*volume),
            Step::VolumeStatus(volume, words) => {
                say(&mut self.told, object::name(&volume.metadata), words);
                self.write_volume(*volume);
            }
            Step::Release(volume) => self.write_volume(*volume),
            Step::Provision { mut volume, .. } => {
                let name = object::name(&volume.metadata).to_owned();
                let spec = volume.spec.get_or_insert_default();
                spec.host_path = Some(HostPathVolumeSource {
                    path: format!("/volumes/{name}"),
                    type_: None,
                });
                self.directories.insert(name.clone());
                self.volumes.insert(name, *volume);
            }
            Step::Remove(volume) => {
                let name = object::name(&volume.metadata);
                self.directories.remove(name);
                self.volumes.remove(name);
            }
            Step::TellOfClaim((_, name), words) => say(&mut self.told, &name, Some(words)),
            Step::TellOfVolume(name, words) => say(&mut self.told, &name, Some(words)),
        }
    }

    fn write_claim(&mut self, claim: PersistentVolumeClaim) {
        let meta = &claim.metadata;
        let key = key(object::name(meta));
        let is_kept = meta.finalizers.as_ref().is_some_and(|f| !f.is_empty());
        if meta.deletion_timestamp.is_some() && !is_kept {
            self.claims.remove(&key);
        } else {
            self.claims.insert(key, claim);
        }
    }

    fn write_volume(&mut self, volume: PersistentVolume) {
        let meta = &volume.metadata;
        let name = object::name(meta).to_owned();
        let is_kept = meta.finalizers.as_ref().is_some_and(|f| !f.is_empty());
        if meta.deletion_timestamp.is_some() && !is_kept {
            self.volumes.remove(&name);
        } else {
            self.volumes.insert(name, volume);
        }
    }

    fn claim(&mut self, name: &str, spec: Value) {
        self.made += 1;
        let mut claim = json!({"metadata": {"name": name, "namespace": "d", "uid": format!("u{}", self.made)},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}, "status": {"phase": "Pending"}});
        merge(&mut claim["spec"], spec);
        self.write_claim(serde_json::from_value(claim).expect("a claim"));
    }

    fn volume(&mut self, name: &str, spec: Value) {
        let mut volume = json!({"metadata": {"name": name}, "status": {"phase": "Pending"},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}, "persistentVolumeReclaimPolicy": "Retain"}});
        merge(&mut volume["spec"], spec);
        self.write_volume(serde_json::from_value(volume).expect("a volume"));
    }

    fn class(&mut self, name: &str, provisioner: &str, mode: &str) {
        let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "reclaimPolicy": "Delete", "volumeBindingMode": mode});
        let class = serde_json::from_value(class).expect("a class");
        self.classes.insert(name.to_owned(), class);
    }

    fn pod(&mut self, name: &str, claim: &str, is_placed: bool) {
        let needs = Needs {
            uid: name.to_owned(),
            claims: vec![claim.to_owned()],
            node: if is_placed { "node" } else { "" }.to_owned(),
            has_ended: false,
        };
        self.pods.insert(key(name), needs);
    }

    /// What a client's deletion does.
    fn delete_claim(&mut self, name: &str) {
        if let Some(mut claim) = self.claims.get(&key(name)).cloned() {
            claim.metadata.deletion_timestamp = Some(time());
            self.write_claim(claim);
        }
    }

    fn delete_volume(&mut self, name: &str) {
        if let Some(mut volume) = self.volumes.get(name).cloned() {
            volume.metadata.deletion_timestamp = Some(time());
            self.write_volume(volume);
        }
    }

    /// `Bound v`: phase and volume of a claim.
    fn shown(&self, name: &str) -> String {
        match self.claims.get(&key(name)) {
            None => "gone".to_owned(),
            Some(claim) => format!(
                "{} {}",
                object::phase_of_claim(claim),
                object::volume_name(claim)
            ),
        }
    }

    fn phase(&self, volume: &str) -> &str {
        self.volumes
            .get(volume)
            .map_or("gone", object::phase_of_volume)
    }

    /// What was told of an object, with its reasons.
    fn told_of(&self, name: &str) -> Vec<String> {
        let told = self.told.iter().filter(|(of, _)| of == name);
        told.map(|(_, words)| format!("{}: {}", words.reason, words.message))
            .collect()
    }
}

fn time() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    serde_json::from_value(json!("2026-01-02T03:04:05Z")).expect("a time")
}

fn merge(into: &mut Value, from: Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}
