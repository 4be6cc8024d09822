//! The history of a controller's template, as ControllerRevisions: StatefulSets and DaemonSets keep theirs so (upstream's
//! `pkg/controller/history`). A revision holds a patch that sets the template back to what it was, which is how `kubectl rollout
//! undo` uses it; its number says which was the newest when.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::hash;
use crate::object::{by_age, name};
use crate::owner;

/// The label of a StatefulSet's revisions that says the word at the end of their names.
pub const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// The label that says which revision a Pod is made from: its name for Pods of StatefulSets, the word at the end of it for those of
/// DaemonSets, whose revisions have the label as well.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// How much of the controller's name is part of a revision's, at most.
const LONGEST_PREFIX: usize = 223;

/// What a new revision is made of.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// Whose it is; its annotations are the revision's as well.
    pub controller: &'a ObjectMeta,
    /// The controller's reference from what it owns.
    pub reference: &'a OwnerReference,
    /// What is to be kept; its labels are the revision's as well.
    pub template: &'a PodTemplateSpec,
    /// The label that says the revision's word: [`HASH_LABEL`] or [`REVISION_LABEL`].
    pub label: &'a str,
    /// How often a new revision had the name of another (`status.collisionCount`).
    pub collisions: Option<i32>,
    /// Its number.
    pub number: i64,
}

impl Recipe<'_> {
    /// The revision. If there is one of its name, and they are not [`is_same`], that is a collision.
    pub fn revision(&self) -> ControllerRevision {
        let data = data(self.template);
        let hash = hash::word(&data, self.collisions);
        let labels = self
            .template
            .metadata
            .as_ref()
            .and_then(|m| m.labels.clone());
        let mut labels = labels.unwrap_or_default();
        labels.insert(self.label.to_owned(), hash.clone());
        let owner = name(self.controller);
        let prefix = owner.get(..LONGEST_PREFIX).unwrap_or(owner);
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{prefix}-{hash}")),
                namespace: self.controller.namespace.clone(),
                labels: Some(labels),
                annotations: self.controller.annotations.clone(),
                owner_references: Some(vec![self.reference.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data)),
            revision: self.number,
        }
    }
}

/// What a revision keeps: a strategic merge patch that replaces a controller's template with this one.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Value::Object(fields) = &mut template {
        fields.insert("$patch".to_owned(), json!("replace"));
    }
    hash::pruned(json!({"spec": {"template": template}}))
}

/// The template that a revision keeps; `None` where it keeps something else.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let RawExtension(data) = revision.data.as_ref()?;
    let mut template = data.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Whether a revision keeps this template. What says nothing is no difference.
pub fn has_template(revision: &ControllerRevision, template: &PodTemplateSpec) -> bool {
    has_data(revision, &data(template))
}

/// The last of these revisions that keeps this template.
pub fn last_with<'a>(
    revisions: &[&'a ControllerRevision],
    template: &PodTemplateSpec,
) -> Option<&'a ControllerRevision> {
    let data = data(template);
    let mut last_first = revisions.iter().rev();
    last_first
        .find(|revision| has_data(revision, &data))
        .copied()
}

fn has_data(revision: &ControllerRevision, data: &Value) -> bool {
    let own = revision.data.as_ref();
    own.is_some_and(|RawExtension(own)| own == data || hash::pruned(own.clone()) == *data)
}

/// Whether `found` is what `wanted` was to become: of the same controller, with the same data.
pub fn is_same(found: &ControllerRevision, wanted: &ControllerRevision) -> bool {
    let owner = |meta| owner::controller_of(meta).map(|o| &o.uid);
    let data = wanted.data.as_ref().map(|RawExtension(data)| data);
    owner(&found.metadata) == owner(&wanted.metadata)
        && data.is_some_and(|data| has_data(found, &hash::pruned(data.clone())))
}

/// Revisions in the order of their numbers; of the same number by age and name.
pub fn sort(revisions: &mut [&ControllerRevision]) {
    revisions.sort_by(|a, b| {
        let by_number = a.revision.cmp(&b.revision);
        by_number.then_with(|| by_age(&a.metadata, &b.metadata))
    });
}

/// The number of the next revision after all of these; the first is 1.
pub fn next_number<'a>(revisions: impl IntoIterator<Item = &'a ControllerRevision>) -> i64 {
    let numbers = revisions.into_iter().map(|revision| revision.revision);
    numbers.max().unwrap_or(0).max(0).saturating_add(1)
}

/// Which of the revisions of the `past`, in their order, are to go so that `limit` of them are left. Those `in_use` stay, though they
/// count. A limit below zero is none.
///
/// StatefulSets count what is in use apart (they leave it out of `past`), DaemonSets do not.
pub fn surplus<'a>(
    past: &[&'a ControllerRevision],
    limit: i32,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Vec<&'a ControllerRevision> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let most = past.len().saturating_sub(limit);
    let idle = past.iter().copied().filter(|revision| !in_use(revision));
    idle.take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(image: &str) -> PodTemplateSpec {
        let value = json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image}], "volumes": [{"name": "v", "emptyDir": {}}]},
        });
        serde_json::from_value(value).unwrap()
    }

    fn revision(
        template: &PodTemplateSpec,
        number: i64,
        collisions: Option<i32>,
    ) -> ControllerRevision {
        let controller = ObjectMeta {
            name: Some("web".into()),
            namespace: Some("ns".into()),
            uid: Some("set".into()),
            annotations: Some([("kubernetes.io/change-cause".into(), "why".into())].into()),
            ..ObjectMeta::default()
        };
        let recipe = Recipe {
            reference: &owner::reference("apps/v1", "StatefulSet", &controller),
            controller: &controller,
            template,
            label: HASH_LABEL,
            collisions,
            number,
        };
        recipe.revision()
    }

    #[test]
    fn a_revision_keeps_the_template() {
        let made = revision(&pods("i"), 3, None);
        let data = json!({"spec": {"template": {
            "$patch": "replace",
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "emptyDir": {}}]},
        }}});
        assert_eq!(made.data, Some(RawExtension(data)));
        assert_eq!(template(&made), Some(pods("i")));
        let labels = made.metadata.labels.unwrap();
        assert_eq!(labels["app"], "web");
        let word = &labels[HASH_LABEL];
        assert_eq!(made.metadata.name, Some(format!("web-{word}")));
        assert_eq!(made.metadata.namespace.as_deref(), Some("ns"));
        assert_eq!(made.metadata.owner_references.unwrap()[0].uid, "set");
        assert_eq!(made.metadata.annotations.unwrap().len(), 1);
        assert_eq!(made.revision, 3);
        assert_eq!(template(&ControllerRevision::default()), None);
    }

    #[test]
    fn names_depend_on_the_template_and_collisions_alone() {
        let named = |image, number, collisions| {
            let made = revision(&pods(image), number, collisions);
            made.metadata.name.unwrap()
        };
        assert_eq!(named("i", 1, None), named("i", 2, None));
        assert_ne!(named("i", 1, None), named("j", 1, None));
        assert_ne!(named("i", 1, None), named("i", 1, Some(1)));
        assert_ne!(named("i", 1, Some(1)), named("i", 1, Some(2)));
        let controller = ObjectMeta {
            name: Some("n".repeat(253)),
            ..ObjectMeta::default()
        };
        let recipe = Recipe {
            reference: &owner::reference("apps/v1", "StatefulSet", &controller),
            controller: &controller,
            template: &pods("i"),
            label: HASH_LABEL,
            collisions: None,
            number: 1,
        };
        let long = recipe.revision().metadata.name.unwrap();
        assert!(long.len() <= 253 && long.starts_with(&"n".repeat(223)));
    }

    #[test]
    fn revisions_are_compared_by_what_they_keep() {
        let (old, new) = (
            revision(&pods("i"), 1, None),
            revision(&pods("i"), 2, Some(1)),
        );
        assert!(is_same(&old, &new) && has_template(&old, &pods("i")));
        assert!(!has_template(&old, &pods("j")));
        let both = [&old, &new];
        assert_eq!(last_with(&both, &pods("i")).map(|r| r.revision), Some(2));
        assert_eq!(last_with(&both, &pods("j")), None);
        let mut wordy = old.clone();
        let RawExtension(data) = wordy.data.as_mut().unwrap();
        data["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
        assert!(is_same(&wordy, &new), "as earlier servers wrote it");
        let mut other = old.clone();
        other.metadata.owner_references = None;
        assert!(!is_same(&other, &new), "nobody's is not the same yet");
    }

    #[test]
    fn the_oldest_go_and_those_in_use_stay() {
        let all: Vec<_> = [4, 2, 3, 1].map(|n| revision(&pods("i"), n, None)).into();
        let mut sorted: Vec<_> = all.iter().collect();
        sort(&mut sorted);
        let numbers =
            |of: &[&ControllerRevision]| of.iter().map(|r| r.revision).collect::<Vec<i64>>();
        assert_eq!(numbers(&sorted), [1, 2, 3, 4]);
        assert_eq!(next_number(&all), 5);
        assert_eq!(next_number([]), 1);
        let gone = |limit, in_use: fn(&ControllerRevision) -> bool| {
            numbers(&surplus(&sorted, limit, in_use))
        };
        assert_eq!(gone(2, |_| false), [1, 2]);
        assert_eq!(gone(2, |r| r.revision == 1), [2, 3]);
        assert_eq!(gone(0, |r| r.revision > 2), [1, 2]);
        assert!(gone(9, |_| false).is_empty() && gone(-1, |_| false).is_empty());
    }
}
