//! What a Deployment writes on its ReplicaSets: which revision of it they are, what it knew of its size when it last changed theirs,
//! and its own annotations.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::REVISION;
use super::fence::Fence;

/// Revisions a ReplicaSet was before, when the template is back to it.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many Pods the Deployment was to have.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many it could have with its surge.
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
/// What stays with the Deployment.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];
/// The longest history, in characters.
const LONGEST: usize = 2000;

type Annotations = BTreeMap<String, String>;

/// The number of an object's revision: zero without one, and none if it is not a number.
pub(super) fn revision(meta: &ObjectMeta) -> Option<i64> {
    let annotations = meta.annotations.as_ref();
    match annotations.and_then(|a| a.get(REVISION)) {
        Some(text) => text.parse().ok(),
        None => Some(0),
    }
}

/// The number after the highest.
pub(super) fn next_revision<'a>(old: impl Iterator<Item = &'a ReplicaSet>) -> i64 {
    let revisions = old.filter_map(|set| revision(&set.metadata));
    revisions.max().unwrap_or(0).max(0).saturating_add(1)
}

/// Makes the annotations of the newest ReplicaSet what they should be.
pub(super) fn mark(set: &mut ReplicaSet, deployment: &ObjectMeta, newest: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned().unwrap_or_default();
    let number = if old.is_empty() { Ok(0) } else { old.parse() };
    if number.is_ok_and(|n: i64| n < newest) {
        if annotations.contains_key(REVISION) {
            remember(annotations, &old);
        }
        annotations.insert(REVISION.to_owned(), newest.to_string());
    }
}

/// Adds a revision to the history, which loses its oldest where it becomes too long.
fn remember(annotations: &mut Annotations, revision: &str) {
    let history = annotations.entry(HISTORY.to_owned()).or_default();
    let mut all: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    all.push(revision);
    let length = |all: &[&str]| all.iter().map(|r| r.len() + 1).sum::<usize>() - 1;
    while all.len() > 1 && length(&all) > LONGEST {
        all.remove(0);
    }
    *history = all.join(",");
}

/// Notes the size of the Deployment on a ReplicaSet.
pub(super) fn note_size(set: &mut ReplicaSet, fence: Fence) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), fence.replicas.to_string());
    annotations.insert(MAXIMUM.to_owned(), fence.most().to_string());
}

/// How many Pods the Deployment was to have when it last sized this ReplicaSet.
pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED)
}

/// How many it could have then.
pub(super) fn maximum(set: &ReplicaSet) -> Option<i32> {
    number(set, MAXIMUM)
}

fn number(set: &ReplicaSet, key: &str) -> Option<i32> {
    let text = set.metadata.annotations.as_ref()?.get(key)?;
    text.parse().ok().filter(|n| *n >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(annotations: &[(&str, &str)]) -> ObjectMeta {
        let all = annotations.iter();
        let all = all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        ObjectMeta {
            annotations: Some(all.collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_template_that_is_back_is_the_newest_and_remembers_what_it_was() {
        let mut set = ReplicaSet {
            metadata: meta(&[(REVISION, "2"), ("kept", "x")]),
            ..ReplicaSet::default()
        };
        let deployment = meta(&[
            (REVISION, "4"),
            ("kubernetes.io/change-cause", "why"),
            (DESIRED, "9"),
        ]);
        mark(&mut set, &deployment, 5);
        let expected = [
            (REVISION, "5"),
            (HISTORY, "2"),
            ("kubernetes.io/change-cause", "why"),
            ("kept", "x"),
        ];
        assert_eq!(set.metadata, meta(&expected));
        mark(&mut set, &deployment, 7);
        let annotations = set.metadata.annotations.as_ref().unwrap();
        assert_eq!(
            (&*annotations[REVISION], &*annotations[HISTORY]),
            ("7", "2,5")
        );
        // An older number changes nothing, and nor does one that is none.
        let before = set.clone();
        mark(&mut set, &deployment, 3);
        assert_eq!(set, before);
        set.metadata = meta(&[(REVISION, "x")]);
        mark(&mut set, &ObjectMeta::default(), 3);
        assert_eq!(set.metadata, meta(&[(REVISION, "x")]));
    }

    #[test]
    fn a_history_loses_its_oldest() {
        let long = vec!["1234567"; 250].join(",");
        let mut annotations = Annotations::from([(HISTORY.to_owned(), long)]);
        remember(&mut annotations, "89");
        assert!(annotations[HISTORY].len() <= LONGEST);
        assert!(annotations[HISTORY].ends_with(",89"));
    }
}
