//! What Deployments and their ReplicaSets say of each other.

use serde_json::Value;

use crate::connect::{JSON, Server};
use crate::output::percent;
use crate::pods::selector_of;

/// Holds the number of a rollout, of a Deployment and of the ReplicaSet it made.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Tells ReplicaSets of one Deployment apart; a Deployment's own template has none.
const HASH: &str = "pod-template-hash";

/// The number of a rollout; `None` if there is none, or if it is none.
pub(crate) fn revision(object: &Value) -> Option<i64> {
    object["metadata"]["annotations"][REVISION]
        .as_str()?
        .parse()
        .ok()
}

/// The ReplicaSets that a Deployment controls.
pub(crate) async fn replica_sets(
    server: &Server,
    deployment: &Value,
) -> anyhow::Result<Vec<Value>> {
    controlled(server, deployment, "/apis/apps/v1", "replicasets").await
}

/// The objects of a kind that a workload selects and controls.
pub(crate) async fn controlled(
    server: &Server,
    owner: &Value,
    group: &str,
    plural: &str,
) -> anyhow::Result<Vec<Value>> {
    let namespace = owner["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = format!("{group}/namespaces/{namespace}/{plural}");
    let selector = selector_of(owner).unwrap_or_default();
    let query = format!("labelSelector={}", percent(&selector));
    let mut list = server.list(&path, &query, JSON).await?;
    let items = list["items"].as_array_mut().map(std::mem::take);
    let mut items = items.unwrap_or_default();
    items.retain(|item| is_controlled_by(item, owner));
    Ok(items)
}

fn is_controlled_by(object: &Value, owner: &Value) -> bool {
    object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|reference| {
            reference["controller"] == true && reference["uid"] == owner["metadata"]["uid"]
        })
}

/// Whether two templates make the same Pods.
pub(crate) fn is_same_template(one: &Value, other: &Value) -> bool {
    bare(one) == bare(other)
}

/// A template without what only ReplicaSets' have.
pub(crate) fn bare(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template["metadata"].as_object_mut() {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        metadata.retain(|_, value| {
            !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty())
        });
    }
    template
}

/// The ReplicaSet of a Deployment's template (the oldest, if there are several), and the others that have Pods or not.
pub(crate) fn new_and_old<'s>(
    deployment: &Value,
    sets: &'s [Value],
) -> (Option<&'s Value>, Vec<&'s Value>) {
    let mut sorted: Vec<&Value> = sets.iter().collect();
    let text = |set: &Value, field: &str| set["metadata"][field].as_str().map(str::to_owned);
    sorted.sort_by_cached_key(|set| (text(set, "creationTimestamp"), text(set, "name")));
    let wanted = &deployment["spec"]["template"];
    let place = sorted
        .iter()
        .position(|set| is_same_template(&set["spec"]["template"], wanted));
    let new = place.map(|place| sorted.remove(place));
    (new, sorted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(name: &str, made: &str, revision: Option<&str>, image: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": made, "annotations": {REVISION: revision}},
            "spec": {"template": {"metadata": {"labels": {"app": "web", HASH: name}, "creationTimestamp": null}, "spec": {"image": image}}}})
    }

    fn name(set: Option<&Value>) -> Option<&str> {
        set?["metadata"]["name"].as_str()
    }

    #[test]
    fn the_new_set_has_the_template() {
        let deployment = json!({"spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"image": "b"}}}});
        let sets = [
            set("late", "2026-01-03T00:00:00Z", Some("4"), "b"),
            set("b", "2026-01-02T00:00:00Z", Some("3"), "b"),
            set("a", "2026-01-01T00:00:00Z", Some("2"), "a"),
        ];
        let (new, old) = new_and_old(&deployment, &sets);
        assert_eq!(name(new), Some("b"));
        let old: Vec<_> = old.into_iter().map(|set| name(Some(set))).collect();
        assert_eq!(old, [Some("a"), Some("late")]);
        assert_eq!(new_and_old(&deployment, &sets[2..]).0, None);
    }
}
