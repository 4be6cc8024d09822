//! Whether the claims for storage that a Pod names have their volumes (upstream's filter plugin VolumeBinding), as a pure function.

use std::borrow::Cow;

use api::owner::controller_of;
use informer::{Key, Mirror};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

/// What matters of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    phase: String,
    volume: String,
    class: String,
    is_leaving: bool,
    /// The UID of its controller.
    controller: Option<String>,
}

/// Claims, and whether each class waits for a Pod.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) claims: Mirror<Claim>,
    pub(crate) classes: Mirror<bool>,
}

/// What a Pod's claims mean for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// They have their volumes.
    Ready,
    /// They will have, as the Pod is there.
    Coming,
    /// Somebody has to do something first; upstream's words.
    Missing(String),
}

impl Claim {
    pub(crate) fn of(claim: &PersistentVolumeClaim) -> Self {
        let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        Claim {
            phase: text(status.and_then(|s| s.phase.as_ref())),
            volume: text(spec.and_then(|s| s.volume_name.as_ref())),
            class: text(spec.and_then(|s| s.storage_class_name.as_ref())),
            is_leaving: claim.metadata.deletion_timestamp.is_some(),
            controller: controller_of(&claim.metadata).map(|owner| owner.uid.clone()),
        }
    }
}

/// Whether volumes of a class are not bound before a Pod wants them.
pub(crate) fn is_delayed(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The names of the claims a Pod has storage by, each with whether it is made with the Pod.
fn named(pod: &Pod) -> impl Iterator<Item = (Cow<'_, str>, bool)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| {
        let claim = api::pod::claim_of(name, volume)?;
        Some((claim, volume.ephemeral.is_some()))
    })
}

/// Whether a Pod has storage by claims.
pub(crate) fn has_some(pod: &Pod) -> bool {
    named(pod).next().is_some()
}

impl Claims {
    pub(crate) fn is_synced(&self) -> bool {
        self.claims.is_synced() && self.classes.is_synced()
    }

    pub(crate) fn look(&self, pod: &Pod) -> Storage {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let (mut is_coming, mut is_unbound) = (false, false);
        for (name, is_made) in named(pod) {
            let key: Key = (namespace.clone(), name.clone().into_owned());
            let missing =
                |why: &str| Storage::Missing(format!("persistentvolumeclaim {name:?} {why}"));
            let Some(claim) = self.claims.get(&key) else {
                return match is_made {
                    true => Storage::Missing(format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                    )),
                    false => missing("not found"),
                };
            };
            if claim.phase == "Lost" {
                let volume = &claim.volume;
                return missing(&format!(
                    "bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim.is_leaving {
                return missing("is being deleted");
            }
            if is_made && claim.controller != pod.metadata.uid {
                return Storage::Missing(::claims::not_made_with(&pod.metadata, &name));
            }
            let class: Key = (String::new(), claim.class.clone());
            if claim.phase != "Bound" {
                match self.classes.get(&class) {
                    Some(true) => is_coming = true,
                    _ => is_unbound = true,
                }
            }
        }
        match (is_unbound, is_coming) {
            (true, _) => Storage::Missing(UNBOUND.to_owned()),
            (false, true) => Storage::Coming,
            (false, false) => Storage::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;

    fn claims(all: &[Value]) -> Claims {
        let mut claims = Claims::default();
        for claim in all {
            let claim = serde_json::from_value(claim.clone()).expect("a claim");
            claims
                .claims
                .hear(Event::Apply(claim), |claim: PersistentVolumeClaim| {
                    Claim::of(&claim)
                });
        }
        let class = json!({"metadata": {"name": "later"}, "provisioner": "a.b/c", "volumeBindingMode": "WaitForFirstConsumer"});
        let class: StorageClass = serde_json::from_value(class).expect("a class");
        claims
            .classes
            .hear(Event::Apply(class), |class| is_delayed(&class));
        claims
    }

    fn claim(name: &str, phase: &str, class: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "d"}, "spec": {"volumeName": "v", "storageClassName": class}, "status": {"phase": phase}})
    }

    #[test]
    fn pods_wait_for_their_claims() {
        let mut leaving = claim("leaving", "Bound", "");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        let claims = claims(&[
            claim("ok", "Bound", ""),
            claim("waits", "Pending", "now"),
            claim("later", "Pending", "later"),
            claim("lost", "Lost", ""),
            leaving,
        ]);
        let missing = |why: &str| Storage::Missing(why.to_owned());
        for (names, expected) in [
            (vec![], Storage::Ready),
            (vec!["ok"], Storage::Ready),
            (vec!["ok", "later"], Storage::Coming),
            (vec!["later", "waits", "ok"], missing(UNBOUND)),
            (
                vec!["waits", "none"],
                missing("persistentvolumeclaim \"none\" not found"),
            ),
            (
                vec!["lost"],
                missing(
                    "persistentvolumeclaim \"lost\" bound to non-existent persistentvolume \"v\"",
                ),
            ),
            (
                vec!["leaving"],
                missing("persistentvolumeclaim \"leaving\" is being deleted"),
            ),
        ] {
            let volumes: Vec<Value> = names
                .iter()
                .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
                .collect();
            let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [], "volumes": volumes}});
            let pod = serde_json::from_value(pod).expect("a Pod");
            assert_eq!(claims.look(&pod), expected, "{names:?}");
        }
    }

    #[test]
    fn what_comes_with_a_pod_is_its_own() {
        let mut own = claim("p-data", "Bound", "");
        own["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]);
        let claims = claims(&[own, claim("q-data", "Bound", "")]);
        let waits = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"r-data\"";
        let other = "PVC d/q-data was not created for pod d/q (pod is not owner)";
        for (name, expected) in [
            ("p", Storage::Ready),
            ("q", Storage::Missing(other.to_owned())),
            ("r", Storage::Missing(waits.to_owned())),
        ] {
            let volume = json!({"name": "data", "ephemeral": {}});
            let pod = json!({"metadata": {"name": name, "namespace": "d", "uid": "u"}, "spec": {"containers": [], "volumes": [volume]}});
            let pod = serde_json::from_value(pod).expect("a Pod");
            assert_eq!(claims.look(&pod), expected, "{name}");
        }
    }
}
