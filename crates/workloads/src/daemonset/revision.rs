//! The revisions of a DaemonSet: one for each template it has had. The newest number is the present template's.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use super::{Step, spec, template};
use crate::history::{self, REVISION_LABEL, Recipe};
use crate::object::name;

/// How many of the past are kept where nothing is said.
const LIMIT: i32 = 10;

/// What a DaemonSet has of revisions.
pub(super) struct History<'a> {
    /// The present template's.
    pub(super) current: Option<&'a ControllerRevision>,
    /// Those of other templates, the oldest first.
    past: Vec<&'a ControllerRevision>,
    /// What has to be done about them before Pods are looked at.
    pub(super) steps: Vec<Step>,
}

/// What the Pods of a revision are labelled with.
pub(super) fn hash(revision: &ControllerRevision) -> Option<&str> {
    label(&revision.metadata)
}

/// The revision that an object says it is of.
pub(super) fn label(meta: &ObjectMeta) -> Option<&str> {
    let label = meta.labels.as_ref()?.get(REVISION_LABEL)?;
    Some(label.as_str()).filter(|label| !label.is_empty())
}

impl<'a> History<'a> {
    /// Of a DaemonSet's own revisions and Pods.
    pub(super) fn new(
        set: &DaemonSet,
        reference: &OwnerReference,
        mut revisions: Vec<&'a ControllerRevision>,
        pods: &[&Pod],
    ) -> Self {
        history::sort(&mut revisions);
        let is_current = |r: &&ControllerRevision| history::has_template(r, template(set));
        let (mut same, past): (Vec<_>, Vec<_>) = revisions.into_iter().partition(is_current);
        let number = history::next_number(past.iter().copied());
        let current = same.pop();
        let unnamed = past.iter().chain(&same).chain(current.iter());
        let unnamed = unnamed.filter(|revision| hash(revision).is_none());
        let mut steps: Vec<Step> = unnamed.map(|revision| named(revision)).collect();
        match current {
            _ if !steps.is_empty() => {}
            None => {
                let recipe = Recipe {
                    controller: &set.metadata,
                    reference,
                    template: template(set),
                    label: REVISION_LABEL,
                    collisions: set.status.as_ref().and_then(|s| s.collision_count),
                    number,
                };
                steps.push(Step::CreateRevision(Box::new(recipe.revision())));
            }
            Some(current) if !same.is_empty() => steps = merge(current, &same, pods),
            Some(current) if current.revision < number => {
                let renumbered = ControllerRevision {
                    revision: number,
                    ..current.clone()
                };
                steps.push(Step::UpdateRevision(Box::new(renumbered)));
            }
            Some(_) => {}
        }
        History {
            current,
            past,
            steps,
        }
    }

    /// Deletes as many of the past as are too many. Those that there are Pods of stay.
    pub(super) fn truncate(&self, set: &DaemonSet, pods: &[&Pod]) -> Vec<Step> {
        let in_use: BTreeSet<&str> = pods.iter().filter_map(|pod| label(&pod.metadata)).collect();
        let is_in_use = |r: &ControllerRevision| hash(r).is_some_and(|h| in_use.contains(h));
        let limit = spec(set).revision_history_limit.unwrap_or(LIMIT);
        let gone = history::surplus(&self.past, limit, is_in_use);
        gone.into_iter().map(delete).collect()
    }
}

/// A revision that says nothing for Pods to say gets its name for that, which is no other's.
fn named(revision: &ControllerRevision) -> Step {
    let mut revision = revision.clone();
    let name = revision.metadata.name.clone().unwrap_or_default();
    let labels = revision.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), name);
    Step::UpdateRevision(Box::new(revision))
}

/// Leaves only one of several revisions of the present template.
fn merge(kept: &ControllerRevision, others: &[&ControllerRevision], pods: &[&Pod]) -> Vec<Step> {
    let old: BTreeSet<&str> = others
        .iter()
        .filter_map(|revision| hash(revision))
        .collect();
    let kept = hash(kept);
    let is_of_others = |pod: &&&Pod| {
        let own = label(&pod.metadata);
        own != kept && own.is_some_and(|own| old.contains(own))
    };
    let moved = pods.iter().filter(is_of_others).map(|pod| Step::Relabel {
        pod: name(&pod.metadata).to_owned(),
        patch: json!({"metadata": {"uid": pod.metadata.uid, "labels": {REVISION_LABEL: kept}}}),
    });
    moved.chain(others.iter().map(|r| delete(r))).collect()
}

fn delete(revision: &ControllerRevision) -> Step {
    Step::DeleteRevision {
        revision: name(&revision.metadata).to_owned(),
        uid: revision.metadata.uid.clone().unwrap_or_default(),
    }
}
