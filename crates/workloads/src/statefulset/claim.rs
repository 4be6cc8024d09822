//! The claims of a set's Pods: made before a Pod, kept for the next of its name, and given to whom they are to go with
//! (`spec.persistentVolumeClaimRetentionPolicy`).

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::pods;
use crate::object::name;
use crate::owner;

/// The names of the volumes that are claims of the Pod of this ordinal, each with the name of the claim.
pub(super) fn names<'a>(
    spec: &'a StatefulSetSpec,
    set: &str,
    ordinal: i32,
) -> impl Iterator<Item = (&'a str, String)> {
    let templates = spec.volume_claim_templates.iter().flatten();
    templates.map(move |template| {
        let volume = name(&template.metadata);
        (volume, format!("{volume}-{set}-{ordinal}"))
    })
}

/// Whether a claim of this name is one of a Pod of the set, if it has such a Pod.
pub fn is_of(set: &StatefulSet, claim: &str) -> bool {
    let spec = set.spec.as_ref();
    let templates = spec.and_then(|spec| spec.volume_claim_templates.as_ref());
    templates.into_iter().flatten().any(|template| {
        let pod = claim.strip_prefix(name(&template.metadata));
        let pod = pod.and_then(|rest| rest.strip_prefix('-'));
        pod.is_some_and(|pod| pods::ordinal(name(&set.metadata), pod).is_some())
    })
}

/// The claims of the Pod of this ordinal as they are made.
pub(super) fn all(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    reference: &OwnerReference,
    ordinal: i32,
) -> Vec<PersistentVolumeClaim> {
    let templates = spec.volume_claim_templates.iter().flatten();
    let names = names(spec, name(&set.metadata), ordinal);
    let made = templates.zip(names).map(|(template, (_, name))| {
        let mut claim = template.clone();
        claim.metadata.name = Some(name);
        claim.metadata.namespace = set.metadata.namespace.clone();
        let selected = spec.selector.match_labels.iter().flatten();
        let selected = selected.map(|(k, v)| (k.clone(), v.clone()));
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(selected);
        claim.status = None;
        if Policy::of(spec).goes_with_set {
            let owners = claim.metadata.owner_references.get_or_insert_default();
            owners.push(reference.clone());
        }
        claim
    });
    made.collect()
}

/// With whom claims go.
#[derive(Clone, Copy)]
struct Policy {
    /// With their Pod when there are to be fewer Pods.
    goes_with_pod: bool,
    /// With the set, as long as they do not go with their Pod.
    goes_with_set: bool,
}

impl Policy {
    fn of(spec: &StatefulSetSpec) -> Self {
        let policy = spec.persistent_volume_claim_retention_policy.as_ref();
        let is_delete = |when: Option<&String>| when.is_some_and(|w| w == "Delete");
        Policy {
            goes_with_pod: is_delete(policy.and_then(|p| p.when_scaled.as_ref())),
            goes_with_set: is_delete(policy.and_then(|p| p.when_deleted.as_ref())),
        }
    }
}

/// Whether a claim of a Pod that is to be made is about to go: it is being deleted, or was given to the Pod before it. (Upstream makes
/// the Pod in the second case if the policy has changed since; the claim goes all the same.)
pub(super) fn is_leaving(pod: &str, claim: &PersistentVolumeClaim) -> bool {
    let pod = ObjectMeta {
        name: Some(pod.to_owned()),
        ..ObjectMeta::default()
    };
    claim.metadata.deletion_timestamp.is_some()
        || is_stale(&claim.metadata, &owner::reference("v1", "Pod", &pod))
}

/// A claim whose owners are to change.
pub(super) struct Mended {
    /// As it is to be.
    pub(super) claim: PersistentVolumeClaim,
    /// Something else controls it.
    pub(super) is_contested: bool,
}

/// The claim with the owners it is to have, if it has others. One that an earlier set or Pod of these names has left is not touched.
pub(super) fn mended(
    spec: &StatefulSetSpec,
    reference: &OwnerReference,
    pod: &Pod,
    is_condemned: bool,
    claim: &PersistentVolumeClaim,
) -> Option<Mended> {
    let (set, pod) = (reference, &owner::reference("v1", "Pod", &pod.metadata));
    let meta = &claim.metadata;
    if is_stale(meta, set) || is_stale(meta, pod) {
        return None;
    }
    let policy = Policy::of(spec);
    let owners = || meta.owner_references.iter().flatten();
    let is_ours = |owner: &OwnerReference| is_named(owner, set) || is_named(owner, pod);
    let others = || owners().filter(|owner| !is_ours(owner));
    let has_policy = policy.goes_with_pod || policy.goes_with_set;
    let is_contested = has_policy && others().any(|owner| owner.controller == Some(true));
    let to_pod = policy.goes_with_pod && is_condemned && !is_contested;
    let to_set = policy.goes_with_set && !to_pod && !is_contested;
    let has = |whose: &OwnerReference| owners().any(|owner| owner.uid == whose.uid);
    let is_plain = owners().any(|owner| {
        (owner.uid == set.uid || owner.uid == pod.uid) && owner.controller != Some(true)
    });
    if has(set) == to_set && has(pod) == to_pod && !is_plain {
        return None;
    }
    let mut wanted: Vec<OwnerReference> = others().cloned().collect();
    wanted.extend(to_set.then(|| set.clone()));
    wanted.extend(to_pod.then(|| pod.clone()));
    let mut claim = claim.clone();
    claim.metadata.owner_references = Some(wanted).filter(|w| !w.is_empty());
    Some(Mended {
        claim,
        is_contested,
    })
}

/// Whether an owner has the kind and name of another; it may be an earlier one.
fn is_named(owner: &OwnerReference, other: &OwnerReference) -> bool {
    (&owner.api_version, &owner.kind, &owner.name) == (&other.api_version, &other.kind, &other.name)
}

/// Whether the object's owner is an earlier one of the owner's name.
fn is_stale(object: &ObjectMeta, owner: &OwnerReference) -> bool {
    let mut owners = object.owner_references.iter().flatten();
    let found = owners.find(|o| is_named(o, owner));
    found.is_some_and(|o| o.uid != owner.uid)
}
