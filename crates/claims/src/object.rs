//! What claims and volumes say of each other, and how.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use api::storage::CLASS_ANNOTATION;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// On a claim: it got a volume once.
pub(crate) const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On both: who wrote the binding down was not a user.
pub(crate) const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: where its Pod will run.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Writes an annotation, unless there is one; whether that changed anything.
pub(crate) fn annotate(meta: &mut ObjectMeta, key: &str, value: &str) -> bool {
    let all = meta.annotations.get_or_insert_default();
    if all.contains_key(key) {
        return false;
    }
    all.insert(key.to_owned(), value.to_owned());
    true
}

/// The object with or without a finalizer, where that is another than it is now.
pub(crate) fn protected(meta: &ObjectMeta, finalizer: &str, is_needed: bool) -> Option<ObjectMeta> {
    let all = meta.finalizers.as_deref().unwrap_or_default();
    let is_there = all.iter().any(|f| f == finalizer);
    let is_leaving = meta.deletion_timestamp.is_some();
    let mut changed = meta.clone();
    let finalizers = changed.finalizers.get_or_insert_default();
    match (is_leaving, is_there) {
        (true, true) if !is_needed => finalizers.retain(|f| f != finalizer),
        // What is on its way out takes no new ones.
        (false, false) => finalizers.push(finalizer.to_owned()),
        _ => return None,
    }
    Some(changed)
}

pub(crate) fn claim_spec(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimSpec {
    claim.spec.clone().unwrap_or_default()
}

/// The volume a claim names.
pub(crate) fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    name.unwrap_or_default()
}

/// The claim a volume names.
pub(crate) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

pub(crate) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let field = || claim.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&claim.metadata, CLASS_ANNOTATION)
        .or_else(field)
        .unwrap_or_default()
}

/// Whether a claim says something of its class, be it that it wants none.
pub(crate) fn has_class(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    annotation(&claim.metadata, CLASS_ANNOTATION).is_some()
        || spec.is_some_and(|s| s.storage_class_name.is_some())
}

pub(crate) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&volume.metadata, CLASS_ANNOTATION)
        .or_else(field)
        .unwrap_or_default()
}

pub(crate) fn phase_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    phase.unwrap_or_default()
}

pub(crate) fn phase_of_volume(volume: &PersistentVolume) -> &str {
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    phase.unwrap_or_default()
}

/// Bytes of storage; nothing is what cannot be read, which validation sees to.
pub(crate) fn storage(amounts: Option<&BTreeMap<String, Amount>>) -> Quantity {
    let amount = amounts.and_then(|amounts| amounts.get("storage"));
    let amount = amount.and_then(|amount| Quantity::try_from(amount).ok());
    amount.unwrap_or_else(|| Quantity::from_bytes(0))
}

pub(crate) fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    storage(resources.and_then(|r| r.requests.as_ref()))
}

pub(crate) fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|s| s.capacity.as_ref()))
}

/// How what is mounted looks to who uses it.
pub(crate) fn mode(mode: Option<&str>) -> &str {
    mode.unwrap_or("Filesystem")
}

pub(crate) fn is_other_mode(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    let there = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    mode(wanted) != mode(there)
}

/// Whether a volume names this claim: by its UID, or, where a user has put it aside for it, by name alone.
pub fn is_claim_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let meta = &claim.metadata;
    claim_ref(volume).is_some_and(|held| {
        let uid = held.uid.as_deref().unwrap_or_default();
        (&held.name, &held.namespace) == (&meta.name, &meta.namespace)
            && (uid.is_empty() || Some(uid) == meta.uid.as_deref())
    })
}

/// How a volume refers to its claim.
pub(crate) fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    let meta = &claim.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
