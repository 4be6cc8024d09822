//! The volume that suits a claim best (upstream's `index.go` and `FindMatchingVolume`).

use std::collections::BTreeSet;

use api::quantity::Quantity;
use api::selector::Selector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::World;
use crate::object::{
    capacity, class_of_claim, class_of_volume, is_claim_of, is_other_mode, name, phase_of_volume,
    requested,
};

/// Volumes that may be taken, smallest first: of fewer modes, then of less room.
pub(crate) struct Index<'a> {
    volumes: Vec<Found<'a>>,
}

struct Found<'a> {
    modes: BTreeSet<&'a str>,
    capacity: Quantity,
    volume: &'a PersistentVolume,
}

impl<'a> Index<'a> {
    pub(crate) fn new(world: &World<'a>) -> Self {
        let volumes = world.volumes.values();
        let stays = volumes.filter(|volume| volume.metadata.deletion_timestamp.is_none());
        let mut volumes: Vec<Found<'a>> = stays
            .map(|volume| Found {
                modes: modes_of(volume),
                capacity: capacity(volume),
                volume,
            })
            .collect();
        // Stable: what is alike stays in the order of names.
        volumes.sort_by(|a, b| (a.modes.len(), &a.capacity).cmp(&(b.modes.len(), &b.capacity)));
        Index { volumes }
    }

    /// The volume that was put aside for a claim, or else, unless the claim has to wait, the smallest that is free and does.
    /// Those of `taken` are about to become somebody else's.
    pub(crate) fn best(
        &self,
        claim: &PersistentVolumeClaim,
        must_wait: bool,
        taken: &BTreeSet<String>,
    ) -> Option<&'a PersistentVolume> {
        let wanted = Wanted::new(claim)?;
        let mut suitable = self.volumes.iter().filter(|found| wanted.fits(found));
        let kept = suitable
            .clone()
            .find(|found| is_claim_of(found.volume, claim));
        let free = || {
            suitable.find(|found| {
                wanted.likes(found.volume) && !taken.contains(name(&found.volume.metadata))
            })
        };
        let found = match must_wait {
            true => kept,
            false => kept.or_else(free),
        };
        found.map(|found| found.volume)
    }
}

fn modes_of(volume: &PersistentVolume) -> BTreeSet<&str> {
    let modes = volume.spec.as_ref().and_then(|s| s.access_modes.as_ref());
    modes.into_iter().flatten().map(String::as_str).collect()
}

/// What a claim asks for.
struct Wanted<'a> {
    claim: &'a PersistentVolumeClaim,
    modes: Vec<&'a str>,
    size: Quantity,
    selector: Option<Selector>,
    attributes: &'a str,
}

impl<'a> Wanted<'a> {
    /// Nothing, where the selector cannot be read.
    fn new(claim: &'a PersistentVolumeClaim) -> Option<Self> {
        let spec = claim.spec.as_ref()?;
        let selector = spec.selector.as_ref();
        let selector = selector.map(|selector| Selector::from_object(Some(selector)));
        let attributes = spec.volume_attributes_class_name.as_deref();
        Some(Wanted {
            claim,
            modes: spec
                .access_modes
                .iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            size: requested(claim),
            selector: selector.transpose().ok()?,
            attributes: attributes.unwrap_or_default(),
        })
    }

    /// Whether a volume could serve the claim.
    fn fits(&self, found: &Found<'_>) -> bool {
        let spec = found.volume.spec.as_ref();
        let attributes = spec.and_then(|s| s.volume_attributes_class_name.as_deref());
        found.capacity >= self.size
            && self.modes.iter().all(|mode| found.modes.contains(mode))
            && !is_other_mode(self.claim, found.volume)
            && attributes.unwrap_or_default() == self.attributes
    }

    /// Whether a volume that nobody has is one that the claim asks for.
    fn likes(&self, volume: &PersistentVolume) -> bool {
        let selects = |selector: &Selector| selector.matches(&volume.metadata.labels);
        crate::object::claim_ref(volume).is_none()
            && phase_of_volume(volume) == "Available"
            && self.selector.as_ref().is_none_or(selects)
            && class_of_volume(volume) == class_of_claim(self.claim)
    }
}

/// Why a claim cannot have the volume that it names; upstream's words.
pub(crate) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let attributes = |class: Option<&String>| class.cloned().unwrap_or_default();
    let (wanted, there) = (claim.spec.as_ref(), volume.spec.as_ref());
    let wanted_class = wanted.and_then(|s| s.volume_attributes_class_name.as_ref());
    let there_class = there.and_then(|s| s.volume_attributes_class_name.as_ref());
    let modes = modes_of(volume);
    let mut asked = wanted
        .and_then(|s| s.access_modes.as_ref())
        .into_iter()
        .flatten();
    let why = if volume.metadata.deletion_timestamp.is_some() {
        let name = name(&volume.metadata);
        return Some(format!("the volume is marked for deletion {name:?}"));
    } else if capacity(volume) < requested(claim) {
        "requested PV is too small"
    } else if class_of_volume(volume) != class_of_claim(claim) {
        "storageClassName does not match"
    } else if attributes(wanted_class) != attributes(there_class) {
        "volumeAttributesClassName does not match"
    } else if is_other_mode(claim, volume) {
        "incompatible volumeMode"
    } else if !asked.all(|mode| modes.contains(mode.as_str())) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}
