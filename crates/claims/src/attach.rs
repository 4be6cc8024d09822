//! Which volumes of drivers are attached to which nodes (upstream's attachdetach controller): a volume that a Pod on a node wants has an
//! object that asks for it, which the driver's attacher answers; the object goes when the node says that it does not use the volume any
//! more.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{AttachedVolume, Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{
    CSIDriver, VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::object::{is_claim_of, volume_name};
use crate::{Key, Needs, Words};

/// SHA-256, which who asks has to bring along.
pub type Digest = fn(&[u8]) -> Vec<u8>;

/// What there is.
pub struct World<'a> {
    /// All claims.
    pub claims: BTreeMap<&'a Key, &'a PersistentVolumeClaim>,
    /// All volumes, by name.
    pub volumes: BTreeMap<&'a str, &'a PersistentVolume>,
    /// All drivers that are described, by name.
    pub drivers: BTreeMap<&'a str, &'a CSIDriver>,
    /// All attachments, by name.
    pub attachments: BTreeMap<&'a str, &'a VolumeAttachment>,
    /// What Pods need, by key.
    pub pods: BTreeMap<&'a Key, &'a Needs>,
    /// What nodes say of their volumes, by name.
    pub nodes: BTreeMap<&'a str, &'a Held>,
    /// What attachments are named by.
    pub digest: Digest,
}

/// What a Node says of volumes: names such as `kubernetes.io/csi/DRIVER^HANDLE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Those its agent uses, or is about to (`volumesInUse`).
    pub in_use: BTreeSet<String>,
    /// Those that are attached (`volumesAttached`).
    pub attached: BTreeSet<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make this object.
    Attach(Box<VolumeAttachment>),
    /// Delete this object, if its node really does not use the volume.
    Detach {
        /// The object.
        name: String,
        /// The node.
        node: String,
        /// The volume, as the Node names it.
        volume: String,
    },
    /// Say on a Node which volumes are attached.
    Report {
        /// The node.
        node: String,
        /// The volumes.
        attached: Vec<AttachedVolume>,
    },
}

impl Held {
    /// What a Node says.
    pub fn of(node: &Node) -> Held {
        let status = node.status.as_ref();
        let in_use = status.and_then(|s| s.volumes_in_use.clone());
        let attached = status.and_then(|s| s.volumes_attached.as_deref());
        let attached = attached.unwrap_or_default().iter();
        Held {
            in_use: in_use.unwrap_or_default().into_iter().collect(),
            attached: attached.map(|volume| volume.name.clone()).collect(),
        }
    }
}

/// Whether volumes of a driver have to be attached to a node first. One nobody has described needs that.
pub fn is_required(driver: Option<&CSIDriver>) -> bool {
    driver.is_none_or(|driver| driver.spec.attach_required != Some(false))
}

/// The name of the object that tells of a volume attached to a node.
pub fn name(digest: Digest, handle: &str, driver: &str, node: &str) -> String {
    hashed(digest, &[handle, driver, node])
}

/// What Nodes call a driver's volume.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// What a driver is to call a volume that is of one Pod alone.
pub fn inline_handle(digest: Digest, pod_uid: &str, volume: &str) -> String {
    hashed(digest, &[pod_uid, volume])
}

fn hashed(digest: Digest, parts: &[&str]) -> String {
    let hash = digest(parts.concat().as_bytes());
    let hash = hash.iter().map(|byte| format!("{byte:02x}"));
    format!("csi-{}", hash.collect::<String>())
}

/// A volume on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place<'a> {
    volume: &'a str,
    driver: &'a str,
    handle: &'a str,
    node: &'a str,
}

impl<'a> World<'a> {
    /// What is to be done next.
    pub fn plan(&self) -> Vec<Step> {
        let wanted = self.wanted();
        let missing = wanted
            .iter()
            .filter(|(name, _)| !self.attachments.contains_key(name.as_str()))
            .map(|(name, place)| Step::Attach(Box::new(place.attachment(name))));
        let unwanted = self.attachments.values().filter_map(|found| {
            let name = found.metadata.name.as_deref().unwrap_or_default();
            let is_leaving = found.metadata.deletion_timestamp.is_some();
            let place = self.place(found).filter(|_| !is_leaving)?;
            let volume = unique_name(place.driver, place.handle);
            let is_used = self.nodes.get(place.node)?.in_use.contains(&volume);
            (!is_used && !wanted.contains_key(name)).then(|| Step::Detach {
                name: name.to_owned(),
                node: place.node.to_owned(),
                volume,
            })
        });
        let reports = self.nodes.iter().filter_map(|(node, held)| {
            let attached = self.attached(node);
            (attached != held.attached).then(|| Step::Report {
                node: (*node).to_owned(),
                attached: attached.into_iter().map(listed).collect(),
            })
        });
        missing.chain(unwanted).chain(reports).collect()
    }

    /// The Pods that want what an attachment is about, and what there is to tell them of how it has changed.
    pub fn tell(
        &self,
        before: Option<&VolumeAttachment>,
        after: &VolumeAttachment,
    ) -> Option<(Vec<&'a Key>, Words)> {
        let volume = after.spec.source.persistent_volume_name.as_deref()?;
        let is_attached = |a: &VolumeAttachment| a.status.as_ref().is_some_and(|s| s.attached);
        let error =
            |a: &VolumeAttachment| a.status.as_ref()?.attach_error.as_ref()?.message.clone();
        let before = before?;
        let words = if is_attached(after) && !is_attached(before) {
            let message = format!("AttachVolume.Attach succeeded for volume {volume:?} ");
            Words::normal("SuccessfulAttachVolume", message)
        } else {
            let why = error(after).filter(|why| error(before).as_ref() != Some(why))?;
            let message = format!("AttachVolume.Attach failed for volume {volume:?} : {why}");
            Words::warning("FailedAttachVolume", message)
        };
        let node = after.spec.node_name.as_str();
        let wants = |(key, needs): &(&&'a Key, &&'a Needs)| {
            needs.node == node
                && self
                    .volumes_of(key, needs)
                    .any(|(found, _)| found == volume)
        };
        let pods = self.pods.iter().filter(wants).map(|(key, _)| *key);
        Some((pods.collect(), words))
    }

    /// The objects there have to be, by name.
    fn wanted(&self) -> BTreeMap<String, Place<'a>> {
        let mut wanted = BTreeMap::new();
        for (key, needs) in &self.pods {
            let is_there = self.nodes.contains_key(needs.node.as_str());
            if needs.has_ended || !is_there {
                continue;
            }
            for (volume, found) in self.volumes_of(key, needs) {
                if let Some(place) = self.attachable(volume, found, &needs.node) {
                    wanted.insert(place.name(self.digest), place);
                }
            }
        }
        wanted
    }

    /// The volumes of a Pod's claims.
    fn volumes_of(
        &self,
        (namespace, _): &Key,
        needs: &'a Needs,
    ) -> impl Iterator<Item = (&'a str, &'a PersistentVolume)> {
        needs.claims.iter().filter_map(|claim| {
            let claim = self.claims.get(&(namespace.clone(), claim.clone()))?;
            let (name, volume) = self.volumes.get_key_value(volume_name(claim))?;
            is_claim_of(volume, claim).then_some((*name, *volume))
        })
    }

    fn attachable(
        &self,
        volume: &'a str,
        found: &'a PersistentVolume,
        node: &'a str,
    ) -> Option<Place<'a>> {
        let csi = found.spec.as_ref()?.csi.as_ref()?;
        let driver = self.drivers.get(csi.driver.as_str()).copied();
        is_required(driver).then_some(Place {
            volume,
            driver: &csi.driver,
            handle: &csi.volume_handle,
            node,
        })
    }

    /// What an attachment is about, if it is one of those that are made here.
    fn place(&self, found: &'a VolumeAttachment) -> Option<Place<'a>> {
        let volume = found.spec.source.persistent_volume_name.as_deref()?;
        let csi = self.volumes.get(volume)?.spec.as_ref()?.csi.as_ref()?;
        let place = Place {
            volume,
            driver: &csi.driver,
            handle: &csi.volume_handle,
            node: &found.spec.node_name,
        };
        (found.metadata.name.as_ref() == Some(&place.name(self.digest))).then_some(place)
    }

    /// What is attached to a node and stays.
    fn attached(&self, node: &str) -> BTreeSet<String> {
        let here = self.attachments.values().filter(|found| {
            let is_attached = found.status.as_ref().is_some_and(|s| s.attached);
            let stays = found.metadata.deletion_timestamp.is_none();
            found.spec.node_name == node && is_attached && stays
        });
        here.filter_map(|found| self.place(found))
            .map(|place| unique_name(place.driver, place.handle))
            .collect()
    }
}

fn listed(name: String) -> AttachedVolume {
    AttachedVolume {
        name,
        device_path: String::new(),
    }
}

impl Place<'_> {
    fn name(&self, digest: Digest) -> String {
        name(digest, self.handle, self.driver, self.node)
    }

    fn attachment(&self, name: &str) -> VolumeAttachment {
        VolumeAttachment {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: VolumeAttachmentSpec {
                attacher: self.driver.to_owned(),
                node_name: self.node.to_owned(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(self.volume.to_owned()),
                    ..VolumeAttachmentSource::default()
                },
            },
            status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As good as any other here.
    const DIGEST: Digest = |bytes| bytes.to_vec();

    fn read<T: for<'de> k8s_openapi::serde::Deserialize<'de>>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    /// One Pod that wants one volume.
    struct Scene {
        claim: (Key, PersistentVolumeClaim),
        volume: PersistentVolume,
        driver: Option<CSIDriver>,
        attachment: Option<VolumeAttachment>,
        pod: Option<(Key, Needs)>,
        held: Held,
    }

    impl Scene {
        fn new() -> Scene {
            let key = |name: &str| ("n".to_owned(), name.to_owned());
            Scene {
                claim: (
                    key("c"),
                    read(
                        json!({"metadata": {"namespace": "n", "name": "c", "uid": "u"}, "spec": {"volumeName": "v"}}),
                    ),
                ),
                volume: read(json!({"metadata": {"name": "v"}, "spec": {
                    "claimRef": {"namespace": "n", "name": "c", "uid": "u"},
                    "csi": {"driver": "d", "volumeHandle": "h"},
                }})),
                driver: None,
                attachment: None,
                pod: Some((
                    key("p"),
                    Needs {
                        uid: "p".to_owned(),
                        claims: vec!["c".to_owned()],
                        node: "m".to_owned(),
                        has_ended: false,
                    },
                )),
                held: Held::default(),
            }
        }

        fn attached(mut self, status: Value, leaves: bool) -> Scene {
            let mut found = json!({
                "metadata": {"name": name(DIGEST, "h", "d", "m")},
                "spec": {"attacher": "d", "nodeName": "m", "source": {"persistentVolumeName": "v"}},
                "status": status,
            });
            if leaves {
                found["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
            }
            self.attachment = Some(read(found));
            self
        }

        fn world(&self) -> World<'_> {
            let attached = self.attachment.iter();
            World {
                claims: [(&self.claim.0, &self.claim.1)].into(),
                volumes: [("v", &self.volume)].into(),
                drivers: self.driver.iter().map(|driver| ("d", driver)).collect(),
                attachments: attached
                    .map(|found| (found.metadata.name.as_deref().unwrap_or_default(), found))
                    .collect(),
                pods: self.pod.iter().map(|(key, needs)| (key, needs)).collect(),
                nodes: [("m", &self.held)].into(),
                digest: DIGEST,
            }
        }

        fn steps(&self) -> Vec<&'static str> {
            let name = |step: &Step| match step {
                Step::Attach(_) => "attach",
                Step::Detach { .. } => "detach",
                Step::Report { attached, .. } if attached.is_empty() => "report none",
                Step::Report { .. } => "report",
            };
            self.world().plan().iter().map(name).collect()
        }
    }

    #[test]
    fn what_pods_want_is_attached() {
        let mut scene = Scene::new();
        let [Step::Attach(made)] = &scene.world().plan()[..] else {
            panic!("{:?}", scene.steps());
        };
        assert_eq!(made.metadata.name, Some(name(DIGEST, "h", "d", "m")));
        assert_eq!((&*made.spec.attacher, &*made.spec.node_name), ("d", "m"));
        for (required, expected) in [(true, vec!["attach"]), (false, vec![])] {
            let driver = json!({"metadata": {"name": "d"}, "spec": {"attachRequired": required}});
            scene.driver = Some(read(driver));
            assert_eq!(scene.steps(), expected, "{required}");
        }
        let mut ended = Scene::new();
        ended.pod.as_mut().expect("a Pod").1.has_ended = true;
        let mut unplaced = Scene::new();
        unplaced.pod.as_mut().expect("a Pod").1.node.clear();
        let mut elsewhere = Scene::new();
        let other = json!({"namespace": "n", "name": "c", "uid": "other"});
        elsewhere.volume.spec.as_mut().expect("a spec").claim_ref = Some(read(other));
        for scene in [ended, unplaced, elsewhere] {
            assert_eq!(scene.steps(), Vec::<&str>::new());
        }
    }

    #[test]
    fn what_nodes_use_stays_attached() {
        let attached = || Scene::new().attached(json!({"attached": true}), false);
        let unique = unique_name("d", "h");
        assert_eq!(attached().steps(), ["report"]);
        let mut told = attached();
        told.held.attached = [unique.clone()].into();
        assert_eq!(told.steps(), Vec::<&str>::new());
        told.pod = None;
        assert_eq!(told.steps(), ["detach"]);
        told.held.in_use = [unique.clone()].into();
        assert_eq!(told.steps(), Vec::<&str>::new());
        // What leaves is not deleted again, nor told of as attached.
        let mut leaving = Scene::new().attached(json!({"attached": true}), true);
        leaving.held.attached = [unique].into();
        leaving.pod = None;
        assert_eq!(leaving.steps(), ["report none"]);
        // Somebody else's.
        let mut other = attached();
        other.pod = None;
        other.attachment.as_mut().expect("it").metadata.name = Some("mine".to_owned());
        assert_eq!(other.steps(), Vec::<&str>::new());
    }

    #[test]
    fn pods_are_told_of_what_changes() {
        let of = |status: Value| Scene::new().attached(status, false);
        let none = of(json!({"attached": false}));
        let failed = of(json!({"attached": false, "attachError": {"message": "no"}}));
        let done = of(json!({"attached": true}));
        for (before, after, expected) in [
            (&none, &failed, Some("FailedAttachVolume")),
            (&failed, &failed, None),
            (&failed, &done, Some("SuccessfulAttachVolume")),
            (&done, &done, None),
        ] {
            let world = after.world();
            let now = after.attachment.as_ref().expect("it");
            let told = world.tell(before.attachment.as_ref(), now);
            let told = told.map(|(pods, words)| {
                assert_eq!(pods.len(), 1);
                words.reason
            });
            assert_eq!(told, expected);
        }
    }
}
