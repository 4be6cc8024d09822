//! What becomes of a volume (upstream's `syncVolume`).

use api::storage::VOLUME_PROTECTION;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeStatus};

use crate::object::{
    BY_CONTROLLER, PROVISIONED_BY, annotation, claim_ref, is_other_mode, name, phase_of_volume,
    protected, volume_name,
};
use crate::provision::PROVISIONER;
use crate::{Step, Words, World};

/// What is to be done with a volume next.
pub(crate) fn plan(world: &World<'_>, volume: &PersistentVolume) -> Option<Step> {
    let next = next(world, volume);
    // A directory goes before the volume that tells of it.
    if matches!(next, Some(Step::Remove(_))) {
        return next;
    }
    let is_held = phase_of_volume(volume) == "Bound";
    match protected(&volume.metadata, VOLUME_PROTECTION, is_held) {
        Some(metadata) => Some(Step::Volume(Box::new(PersistentVolume {
            metadata,
            ..volume.clone()
        }))),
        None => next,
    }
}

fn next(world: &World<'_>, volume: &PersistentVolume) -> Option<Step> {
    let uid = claim_ref(volume).and_then(|held| held.uid.as_deref());
    let (Some(held), Some(uid)) = (claim_ref(volume), uid.filter(|uid| !uid.is_empty())) else {
        return status(volume, "Available", None);
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let claim = world.claim(&text(&held.namespace), &text(&held.name));
    let claim = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid));
    let Some(claim) = claim else {
        return released(volume);
    };
    match volume_name(claim) {
        "" => waiting(volume, claim),
        named if named == name(&volume.metadata) => status(volume, "Bound", None),
        _ => elsewhere(volume),
    }
}

/// A volume that names a claim which has not taken it yet: the claim will.
fn waiting(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Step> {
    if !is_other_mode(claim, volume) {
        return None;
    }
    let named = name(&claim.metadata);
    let why = format!(
        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {named:?} due to incompatible volumeMode."
    );
    let words = Words::warning("VolumeMismatch", why);
    Some(Step::TellOfVolume(name(&volume.metadata).to_owned(), words))
}

/// A volume whose claim has another one.
fn elsewhere(volume: &PersistentVolume) -> Option<Step> {
    let is_made = annotation(&volume.metadata, PROVISIONED_BY).is_some();
    if is_made && policy(volume) == "Delete" {
        return released(volume);
    }
    let mut changed = volume.clone();
    let spec = changed.spec.get_or_insert_default();
    let annotations = changed.metadata.annotations.as_mut();
    let by_us = annotations.and_then(|annotations| annotations.remove(BY_CONTROLLER));
    match (by_us, spec.claim_ref.as_mut()) {
        // A user has put it aside for the claim, and so it stays.
        (None, Some(held)) => held.uid = None,
        _ => spec.claim_ref = None,
    }
    Some(Step::Volume(Box::new(changed)))
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// A volume whose claim is gone.
fn released(volume: &PersistentVolume) -> Option<Step> {
    if !["Released", "Failed"].contains(&phase_of_volume(volume)) {
        return match status(volume, "Released", None)? {
            Step::VolumeStatus(changed, _) => Some(Step::Release(changed)),
            other => Some(other),
        };
    }
    match policy(volume) {
        "Delete" => remove(volume),
        "Recycle" => {
            let why = "No recycler plugin found for the volume!";
            failed(volume, "VolumeFailedRecycle", why)
        }
        _ => None,
    }
}

fn remove(volume: &PersistentVolume) -> Option<Step> {
    let of_driver = volume.spec.as_ref().is_some_and(|s| s.csi.is_some());
    match annotation(&volume.metadata, PROVISIONED_BY) {
        Some(PROVISIONER) => Some(Step::Remove(Box::new(volume.clone()))),
        // Somebody else's business.
        Some(by) if !by.is_empty() && !by.starts_with("kubernetes.io/") => None,
        _ if of_driver => None,
        _ => {
            let name = name(&volume.metadata);
            let why = format!(
                "error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"
            );
            failed(volume, "VolumeFailedDelete", &why)
        }
    }
}

fn failed(volume: &PersistentVolume, reason: &'static str, why: &str) -> Option<Step> {
    match status(volume, "Failed", Some(why))? {
        Step::VolumeStatus(changed, _) => {
            let words = Words::warning(reason, why);
            Some(Step::VolumeStatus(changed, Some(words)))
        }
        other => Some(other),
    }
}

/// The volume in a phase, where it says something else. Since when is the server's business.
pub(crate) fn status(volume: &PersistentVolume, phase: &str, why: Option<&str>) -> Option<Step> {
    let before = volume.status.clone().unwrap_or_default();
    let message = why.map(str::to_owned);
    if (before.phase.as_deref(), &before.message) == (Some(phase), &message) {
        return None;
    }
    let status = PersistentVolumeStatus {
        phase: Some(phase.to_owned()),
        message,
        last_phase_transition_time: None,
        ..before
    };
    let changed = PersistentVolume {
        status: Some(status),
        ..volume.clone()
    };
    Some(Step::VolumeStatus(Box::new(changed), None))
}

/// What is to be written of a volume that could not be removed, unless it says so already.
pub fn not_removed(volume: &PersistentVolume, why: &str) -> Option<Step> {
    failed(volume, "VolumeFailedDelete", why)
}
