//! When two templates are the same, and the name of one.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::HASH_LABEL;
use crate::hash;

/// Whether both make the same Pods, whatever label tells them apart.
pub(super) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a == b || canonical(a) == canonical(b)
}

/// A short word for a template; another one for each number of collisions.
pub(super) fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    hash::word(&canonical(template), collisions)
}

/// A template without its hash, in one order, and without what says nothing.
fn canonical(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
    }
    hash::pruned(serde_json::to_value(template).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_hash_is_not_part_of_the_template() {
        let plain = template(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}),
        );
        let mut marked = plain.clone();
        let labels = marked.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.into(), "5d4f".into());
        assert!(same(&plain, &marked));
        assert_eq!(hash(&plain, None), hash(&marked, None));
        assert_ne!(hash(&plain, None), hash(&plain, Some(1)));
        assert_ne!(hash(&plain, Some(1)), hash(&plain, Some(2)));
    }

    #[test]
    fn what_says_nothing_is_no_difference() {
        let plain = template(json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}}));
        let wordy = template(
            json!({"metadata": {}, "spec": {"containers": [{"name": "c", "args": []}], "tolerations": []}}),
        );
        let other = template(
            json!({"metadata": {}, "spec": {"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]}}),
        );
        assert!(same(&plain, &wordy));
        assert!(!same(&plain, &other));
    }
}
