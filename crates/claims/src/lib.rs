//! Which claim for storage has which volume (upstream's persistentvolume controller, and those that protect claims and volumes).
//!
//! Everything here is a pure function: [`World::plan`] is given what there is, and says what has to be written next, at most one
//! thing of each object. A controller carries that out, and asks again until nothing is left. Nothing is remembered between two plans:
//! what has been decided stands in the objects, in upstream's annotations, so an engine that died in the middle goes on where it was.

pub mod attach;
mod claim;
mod ephemeral;
mod find;
mod object;
mod provision;
#[cfg(test)]
mod tests;
mod usage;
mod volume;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

pub use ephemeral::{check_made_with, made_with, not_made_with};
pub use object::is_claim_of;
pub use provision::{PROVISIONER, standard_class};
pub use usage::{Needs, uses};
pub use volume::not_removed;

/// Namespace, empty for what is in none, and name.
pub type Key = (String, String);

/// What is done with a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// A Pod that is bound to a node names it: it is not to go.
    pub is_held: bool,
    /// A Pod that has not ended wants it.
    pub is_wanted: bool,
}

/// What there is.
#[derive(Default)]
pub struct World<'a> {
    /// All claims.
    pub claims: BTreeMap<&'a Key, &'a PersistentVolumeClaim>,
    /// All volumes, by name.
    pub volumes: BTreeMap<&'a str, &'a PersistentVolume>,
    /// All classes, by name.
    pub classes: BTreeMap<&'a str, &'a StorageClass>,
    /// What Pods do with claims; of those that are not in here nothing.
    pub uses: BTreeMap<Key, Use>,
    /// The node volumes are made on, once it is there.
    pub node: Option<&'a str>,
}

/// What is told of an object, once for the same words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Words {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Words {
    fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Words {
            is_warning: false,
            reason,
            message: message.into(),
        }
    }

    fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Words {
            is_warning: true,
            reason,
            message: message.into(),
        }
    }
}

/// What is to be done. Objects are to be written as they are, if they are still of the revision they were.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Write a claim, but for its status.
    Claim(Box<PersistentVolumeClaim>),
    /// Write the status of a claim, and tell of it.
    ClaimStatus(Box<PersistentVolumeClaim>, Option<Words>),
    /// Write a volume, but for its status.
    Volume(Box<PersistentVolume>),
    /// Write the status of a volume, and tell of it.
    VolumeStatus(Box<PersistentVolume>, Option<Words>),
    /// Write the status of a volume whose claim is gone, if it really is.
    Release(Box<PersistentVolume>),
    /// Make this volume, of a directory that is to be made, for a claim.
    Provision {
        /// The claim.
        claim: Key,
        /// The volume, without its source.
        volume: Box<PersistentVolume>,
    },
    /// Remove the directory of a volume, then the volume, if its claim really is gone.
    Remove(Box<PersistentVolume>),
    /// Tell of a claim why it waits.
    TellOfClaim(Key, Words),
    /// Tell of a volume why it is not taken.
    TellOfVolume(String, Words),
}

impl Step {
    /// Whether it only says something.
    pub fn is_told_only(&self) -> bool {
        matches!(self, Step::TellOfClaim(..) | Step::TellOfVolume(..))
    }

    /// Whether no volume becomes free by it.
    fn leaves_volumes(&self) -> bool {
        self.is_told_only() || matches!(self, Step::Remove(_))
    }
}

impl World<'_> {
    /// What is to be done next: of each object one thing, volumes before claims.
    pub fn plan(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        // What is about to be written is not looked at a second time.
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for volume in self.volumes.values() {
            if let Some(step) = volume::plan(self, volume) {
                if !step.is_told_only() {
                    taken.insert(object::name(&volume.metadata).to_owned());
                }
                steps.push(step);
            }
        }
        // A volume that is about to become free may be what a claim waits for.
        let is_settled = steps.iter().all(Step::leaves_volumes);
        let index = find::Index::new(self);
        for (key, claim) in &self.claims {
            let Some(step) = claim::plan(self, &index, &taken, key, claim) else {
                continue;
            };
            let is_hasty = step.is_told_only() || matches!(step, Step::Provision { .. });
            if is_hasty && !is_settled {
                continue;
            }
            if let Step::Volume(volume) | Step::VolumeStatus(volume, _) = &step {
                taken.insert(object::name(&volume.metadata).to_owned());
            }
            steps.push(step);
        }
        steps
    }

    fn claim(&self, namespace: &str, name: &str) -> Option<&PersistentVolumeClaim> {
        let key = (namespace.to_owned(), name.to_owned());
        self.claims.get(&key).copied()
    }
}
