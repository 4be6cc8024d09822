//! Deployments: Pods of one template after another (upstream's deployment controller). Each template has a ReplicaSet; a rollout moves
//! Pods from the old ones to the new one, by changing how many Pods each of them is to have.

mod annotation;
mod draft;
mod fence;
mod rollout;
mod scale;
mod status;
mod template;

use api::selector::Selector;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::owner::{self, Claim, Handover};
use draft::Draft;

/// The label that tells the Pods of one template from those of others.
pub const HASH_LABEL: &str = "pod-template-hash";
/// The annotation that numbers templates.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// What is to be done, in order. When a step fails, those after it are not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Take over a ReplicaSet nobody controls, or let one go that is not selected any more.
    HandOver(Handover),
    /// Make the ReplicaSet of a new template. If there is one of its name, that is [`Failure::Collision`],
    /// unless it is the Deployment's own, of this template.
    Create(Box<ReplicaSet>),
    /// Change a ReplicaSet, if it is still as it was seen.
    Update {
        /// As it is to be.
        set: Box<ReplicaSet>,
        /// How many Pods it was to have, if that changes.
        scaled_from: Option<i32>,
    },
    /// Delete a ReplicaSet of the past.
    Delete {
        /// Its name.
        set: String,
        /// Its UID: another of its name is left alone.
        uid: String,
    },
}

/// What has failed, while it is not to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The ReplicaSet of a new template could not be made.
    Create {
        /// The ReplicaSet's name.
        set: String,
        /// Why not.
        message: String,
    },
    /// Another ReplicaSet has the name of the new one, after so many collisions.
    Collision(i32),
}

impl std::fmt::Display for Failure {
    /// As the condition `Progressing` and an Event word it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Create { set, message } => {
                write!(f, "Failed to create new replica set {set:?}: {message}")
            }
            Failure::Collision(_) => f.write_str("Another replica set has the name"),
        }
    }
}

/// What is to be done about a Deployment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// First.
    pub steps: Vec<Step>,
    /// What its status and annotations should be when the steps have been taken, if they are others now.
    pub write: Option<Box<Deployment>>,
    /// When to look again if nothing happens: whether there was progress.
    pub wake: Option<Timestamp>,
}

/// Plans for `deployment`, whose controller reference from its ReplicaSets is `reference`. `sets` are the ReplicaSets of its namespace;
/// `has_pods` says whether there are Pods of the ReplicaSet of this UID that are not over.
pub fn plan(
    deployment: &Deployment,
    reference: &OwnerReference,
    sets: &[&ReplicaSet],
    has_pods: impl Fn(&str) -> bool,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Plan {
    let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
    let selector = selector.and_then(|s| Selector::from_object(Some(s)).ok());
    let Some(selector) = selector.filter(|s| !s.is_everything()) else {
        return Plan::default();
    };
    let mut claims = Vec::new();
    let mut owned = Vec::new();
    for set in sets {
        let claim = owner::claim(&deployment.metadata, &selector, &set.metadata);
        if claim == Claim::Owned {
            owned.push((*set).clone());
        }
        let handover = owner::hand_over(claim, &deployment.metadata, reference, &set.metadata);
        claims.extend(handover.map(Step::HandOver));
    }
    // What is taken over is looked at when it is its own.
    if !claims.is_empty() && failure.is_none() {
        return Plan {
            steps: claims,
            ..Plan::default()
        };
    }
    let mut draft = Draft::new(deployment, reference, owned, now);
    match failure {
        Some(failure) => draft.note(failure),
        None if deployment.metadata.deletion_timestamp.is_some() => draft.report(),
        None => {
            draft.note_pause();
            if draft.is_paused() || draft.is_scaling() {
                draft.resize();
            } else if draft.is_rolling() {
                draft.roll();
            } else {
                draft.recreate(has_pods);
            }
        }
    }
    draft.finish()
}

/// Whether this ReplicaSet is the one that `wanted` was to become: of the same controller, with the same template.
pub fn is_same_set(found: &ReplicaSet, wanted: &ReplicaSet) -> bool {
    let owner = |set| owner::controller_of(set).map(|o| o.uid.clone());
    let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|s| s.template.clone());
    let templates = template(found).zip(template(wanted));
    owner(&found.metadata) == owner(&wanted.metadata)
        && templates.is_some_and(|(a, b)| template::same(&a, &b))
}

#[cfg(test)]
mod tests;
