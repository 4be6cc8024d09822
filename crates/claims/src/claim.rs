//! What becomes of a claim (upstream's `syncClaim`).

use std::collections::BTreeSet;

use api::storage::CLAIM_PROTECTION;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::find::{Index, mismatch};
use crate::object::{
    BY_CONTROLLER, COMPLETED, annotate, annotation, claim_ref, class_of_claim, has_class,
    is_claim_of, name, phase_of_claim, protected, reference, volume_name,
};
use crate::{Key, Step, Words, World, provision, volume};

/// What is to be done with a claim next.
pub(crate) fn plan(
    world: &World<'_>,
    index: &Index<'_>,
    taken: &BTreeSet<String>,
    key: &Key,
    claim: &PersistentVolumeClaim,
) -> Option<Step> {
    let is_held = world.uses.get(key).is_some_and(|found| found.is_held);
    if let Some(metadata) = protected(&claim.metadata, CLAIM_PROTECTION, is_held) {
        return Some(Step::Claim(Box::new(PersistentVolumeClaim {
            metadata,
            ..claim.clone()
        })));
    }
    if annotation(&claim.metadata, COMPLETED).is_some() {
        return bound(world, taken, claim);
    }
    match volume_name(claim) {
        "" => any(world, index, taken, key, claim),
        named => one(world, taken, key, claim, named),
    }
}

/// A claim that got a volume once keeps it, or has lost it for good.
fn bound(
    world: &World<'_>,
    taken: &BTreeSet<String>,
    claim: &PersistentVolumeClaim,
) -> Option<Step> {
    let lost = |reason, message: &str| {
        let told = Words::warning(reason, message);
        status(claim, "Lost", None).map(|step| tell(step, told))
    };
    let named = volume_name(claim);
    if named.is_empty() {
        let why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", why);
    }
    let Some(volume) = world.volumes.get(named) else {
        let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", why);
    };
    let holder = claim_ref(volume).map(|held| held.uid.as_deref());
    if holder.is_none_or(|uid| uid == claim.metadata.uid.as_deref()) {
        return bind(taken, claim, volume);
    }
    let why = "Two claims are bound to the same volume, this one is bound incorrectly";
    lost("ClaimMisbound", why)
}

/// A claim that takes any volume that suits it.
fn any(
    world: &World<'_>,
    index: &Index<'_>,
    taken: &BTreeSet<String>,
    key: &Key,
    claim: &PersistentVolumeClaim,
) -> Option<Step> {
    let class = class_of_claim(claim);
    let found = world.classes.get(class).copied();
    let is_wanted = world.uses.get(key).is_some_and(|found| found.is_wanted);
    let must_wait = found.is_some_and(is_delayed) && !is_wanted;
    if let Some(volume) = index.best(claim, must_wait, taken) {
        return bind(taken, claim, volume);
    }
    if let Some(step) = status(claim, "Pending", None) {
        return Some(step);
    }
    if !has_class(claim)
        && let Some(default) = provision::default_class(world)
    {
        let mut changed = claim.clone();
        let spec = changed.spec.get_or_insert_default();
        spec.storage_class_name = Some(default.to_owned());
        return Some(Step::Claim(Box::new(changed)));
    }
    if must_wait {
        let why = "waiting for first consumer to be created before binding";
        let words = Words::normal("WaitForFirstConsumer", why);
        return Some(Step::TellOfClaim(key.clone(), words));
    }
    if class.is_empty() {
        let why = "no persistent volumes available for this claim and no storage class is set";
        let words = Words::normal("FailedBinding", why);
        return Some(Step::TellOfClaim(key.clone(), words));
    }
    provision::plan(world, key, claim, found)
}

fn is_delayed(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// A claim that names its volume.
fn one(
    world: &World<'_>,
    taken: &BTreeSet<String>,
    key: &Key,
    claim: &PersistentVolumeClaim,
    named: &str,
) -> Option<Step> {
    let pending = || status(claim, "Pending", None);
    let tell = |words| Some(Step::TellOfClaim(key.clone(), words));
    let Some(volume) = world.volumes.get(named) else {
        return pending();
    };
    if is_claim_of(volume, claim) {
        return bind(taken, claim, volume);
    }
    if claim_ref(volume).is_some() {
        let why = format!("volume {named:?} already bound to a different claim.");
        return pending().or_else(|| tell(Words::warning("FailedBinding", why)));
    }
    match mismatch(volume, claim) {
        None => bind(taken, claim, volume),
        Some(why) => {
            let why = format!("Cannot bind to requested volume {named:?}: {why}");
            pending().or_else(|| tell(Words::warning("VolumeMismatch", why)))
        }
    }
}

/// What is left to do until both say that they belong together: the volume comes first, so that it is nobody else's.
fn bind(
    taken: &BTreeSet<String>,
    claim: &PersistentVolumeClaim,
    found: &PersistentVolume,
) -> Option<Step> {
    if taken.contains(name(&found.metadata)) {
        return None;
    }
    let is_named = claim_ref(found).is_some_and(|held| held.uid == claim.metadata.uid);
    if !is_named {
        let mut changed = found.clone();
        if !is_claim_of(found, claim) {
            annotate(&mut changed.metadata, BY_CONTROLLER, "yes");
        }
        let spec = changed.spec.get_or_insert_default();
        spec.claim_ref = Some(reference(claim));
        return Some(Step::Volume(Box::new(changed)));
    }
    if let Some(step) = volume::status(found, "Bound", None) {
        return Some(step);
    }
    let mut changed = claim.clone();
    let mut is_changed = false;
    if volume_name(claim) != name(&found.metadata) {
        let spec = changed.spec.get_or_insert_default();
        spec.volume_name = found.metadata.name.clone();
        annotate(&mut changed.metadata, BY_CONTROLLER, "yes");
        is_changed = true;
    }
    is_changed |= annotate(&mut changed.metadata, COMPLETED, "yes");
    if is_changed {
        return Some(Step::Claim(Box::new(changed)));
    }
    provision::grown(claim, found).or_else(|| status(claim, "Bound", Some(found)))
}

/// The claim with what it got, where it says something else.
fn status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<Step> {
    let before = claim.status.clone().unwrap_or_default();
    let spec = volume.and_then(|volume| volume.spec.as_ref());
    let is_new = phase_of_claim(claim) != phase;
    let is_directory = volume.is_some_and(provision::is_directory);
    let capacity = match spec {
        None => None,
        // Once bound, what there is changes as the volume grows, of which those tell who have it grow.
        Some(_) if !is_new && !is_directory => before.capacity.clone(),
        Some(spec) => spec.capacity.clone(),
    };
    let has_grown = !is_new && capacity != before.capacity;
    let class = match spec {
        None => None,
        Some(spec) if is_new && phase_of_claim(claim) == "Pending" => {
            spec.volume_attributes_class_name.clone()
        }
        Some(_) => before.current_volume_attributes_class_name.clone(),
    };
    let after = PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        access_modes: spec.and_then(|spec| spec.access_modes.clone()),
        capacity,
        current_volume_attributes_class_name: class,
        ..before.clone()
    };
    let changed = PersistentVolumeClaim {
        status: Some(after.clone()),
        ..claim.clone()
    };
    let words = has_grown.then(|| {
        let key = [&claim.metadata.namespace, &claim.metadata.name];
        let key = key
            .map(|part| part.as_deref().unwrap_or_default())
            .join("/");
        let message = format!("ExpandVolume succeeded for volume {key}");
        Words::normal("VolumeResizeSuccessful", message)
    });
    (after != before).then(|| Step::ClaimStatus(Box::new(changed), words))
}

fn tell(step: Step, words: Words) -> Step {
    match step {
        Step::ClaimStatus(claim, _) => Step::ClaimStatus(claim, Some(words)),
        other => other,
    }
}
