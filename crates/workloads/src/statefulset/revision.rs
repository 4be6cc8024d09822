//! Which revision Pods are updated to, and which they are updated from.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::Step;
use crate::history::{self, HASH_LABEL, Recipe};
use crate::object::name;

/// The revisions that Pods are of.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    /// Updated from; the newest as soon as all are.
    pub(super) current: &'a ControllerRevision,
    /// Updated to.
    pub(super) newest: &'a ControllerRevision,
}

/// The revision of the template.
pub(super) enum Newest<'a> {
    /// It is there, and the newest.
    Is(&'a ControllerRevision),
    /// It is not yet.
    Becomes(Box<Step>),
}

/// The revision of the set's template among those it owns, which are put in order. One that was the newest earlier becomes it again.
pub(super) fn newest<'a>(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    reference: &OwnerReference,
    revisions: &mut [&'a ControllerRevision],
) -> Newest<'a> {
    history::sort(revisions);
    let number = history::next_number(revisions.iter().copied());
    let is_last = |revision: &ControllerRevision| {
        let last = revisions.last();
        last.is_some_and(|last| std::ptr::eq(*last, revision))
    };
    match history::last_with(revisions, &spec.template) {
        Some(revision) if is_last(revision) => Newest::Is(revision),
        Some(revision) => {
            let again = ControllerRevision {
                revision: number,
                ..revision.clone()
            };
            Newest::Becomes(Box::new(Step::UpdateRevision(Box::new(again))))
        }
        None => {
            let recipe = Recipe {
                controller: &set.metadata,
                reference,
                template: &spec.template,
                label: HASH_LABEL,
                collisions: Some(collisions(set)),
                number,
            };
            Newest::Becomes(Box::new(Step::CreateRevision(Box::new(recipe.revision()))))
        }
    }
}

/// The revision that all Pods were updated to last.
pub(super) fn current<'a>(
    set: &StatefulSet,
    revisions: &[&'a ControllerRevision],
) -> Option<&'a ControllerRevision> {
    let current = set.status.as_ref()?.current_revision.as_deref()?;
    let mut revisions = revisions.iter().copied();
    revisions.find(|revision| name(&revision.metadata) == current)
}

/// How often a new revision had another's name.
pub(super) fn collisions(set: &StatefulSet) -> i32 {
    let status = set.status.as_ref();
    status.and_then(|s| s.collision_count).unwrap_or(0)
}
