//! What stands for a static Pod in the API: an object with its spec that nobody runs, whose status is the static Pod's (upstream's mirror
//! Pods).

use api::pod::MIRROR;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::manifest::HASH;
use crate::report;

/// What the API is to be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// To make this object.
    Create(Box<Pod>),
    /// To delete this one at once.
    Delete(Box<Pod>),
}

/// What the API holds then.
#[derive(Debug)]
pub(super) enum Done {
    Created(Box<Pod>),
    /// The object of this UID is not there any more.
    Deleted(Option<String>),
}

/// The node, which owns what stands for its Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) uid: String,
}

/// What is to be done about what stands for the `holder` of a name, who may be ending. `seen` is what the API holds under the name.
pub(super) fn next(
    holder: Option<(&Pod, bool)>,
    seen: Option<&Pod>,
    owner: &Owner,
) -> Option<Step> {
    match (holder, seen) {
        (Some((pod, is_ending)), Some(seen)) => {
            let is_deleted = seen.metadata.deletion_timestamp.is_some();
            let is_other = !stands_for(seen, pod) && !is_ending;
            (is_deleted || is_other).then(|| Step::Delete(Box::new(seen.clone())))
        }
        (Some((pod, false)), None) => Some(Step::Create(Box::new(of(pod, owner)))),
        (Some((_, true)), None) | (None, None) => None,
        (None, Some(seen)) => Some(Step::Delete(Box::new(seen.clone()))),
    }
}

/// Whether it was made for this Pod, as it is.
pub(super) fn stands_for(mirror: &Pod, pod: &Pod) -> bool {
    let hash = api::pod::annotation(pod, HASH);
    hash.is_some() && api::pod::annotation(mirror, MIRROR) == hash
}

/// What stands for a static Pod.
fn of(pod: &Pod, owner: &Owner) -> Pod {
    let meta = &pod.metadata;
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    if let Some(hash) = annotations.get(HASH).cloned() {
        annotations.insert(MIRROR.to_owned(), hash);
    }
    let node = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    Pod {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![node]),
            ..ObjectMeta::default()
        },
        spec: pod.spec.clone(),
        status: None,
    }
}

/// Asks the API.
///
/// # Errors
/// Whatever it answers, except that what is to be deleted is not there any more.
pub(super) async fn carry_out(client: Client, step: Step) -> Result<Done, kube::Error> {
    match step {
        Step::Create(pod) => {
            let api = api(client, &pod);
            let made = api.create(&PostParams::default(), &pod).await?;
            Ok(Done::Created(Box::new(made)))
        }
        Step::Delete(pod) => {
            let uid = pod.metadata.uid.clone();
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: uid.clone(),
                    ..Preconditions::default()
                }),
                ..DeleteParams::default()
            }
            .grace_period(0);
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match api(client, &pod).delete(name, &params).await {
                Err(error) if !report::is_gone(&error) => Err(error),
                _ => Ok(Done::Deleted(uid)),
            }
        }
    }
}

fn api(client: Client, pod: &Pod) -> Api<Pod> {
    let namespace = pod.metadata.namespace.as_deref();
    Api::namespaced(client, namespace.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner() -> Owner {
        Owner {
            name: "n".to_owned(),
            uid: "node".to_owned(),
        }
    }

    fn pod(hash: &str) -> Pod {
        let pod = json!({"metadata": {"name": "a-n", "namespace": "default", "uid": hash, "labels": {"x": "y"},
            "annotations": {HASH: hash, "kubernetes.io/config.source": "file"}}, "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running"}});
        serde_json::from_value(pod).unwrap()
    }

    fn seen(hash: &str, is_deleted: bool) -> Pod {
        let mut seen = of(&pod(hash), &owner());
        seen.metadata.uid = Some("made-by-the-api".to_owned());
        if is_deleted {
            let at = jiff::Timestamp::UNIX_EPOCH;
            seen.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        }
        seen
    }

    #[test]
    fn what_is_made_has_the_spec_and_an_owner_and_no_identity() {
        let made = serde_json::to_value(of(&pod("h"), &owner())).unwrap();
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a-n", "namespace": "default", "labels": {"x": "y"},
            "annotations": {HASH: "h", MIRROR: "h", "kubernetes.io/config.source": "file"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "node", "controller": true}]},
            "spec": {"nodeName": "n", "containers": []}});
        assert_eq!(made, expected);
    }

    #[test]
    fn what_stands_for_a_pod_is_kept_right() {
        let running = pod("h");
        let (is, ends) = (Some((&running, false)), Some((&running, true)));
        for (what, holder, seen, want) in [
            ("new", is, None, "create"),
            ("right", is, Some(seen("h", false)), ""),
            (
                "of another manifest",
                is,
                Some(seen("old", false)),
                "delete",
            ),
            ("deleted by somebody", is, Some(seen("h", true)), "delete"),
            ("ending", ends, Some(seen("h", false)), ""),
            ("ending and deleted", ends, Some(seen("h", true)), "delete"),
            ("ending and gone", ends, None, ""),
            ("without a Pod", None, Some(seen("h", false)), "delete"),
            ("nothing", None, None, ""),
        ] {
            let step = match next(holder, seen.as_ref(), &owner()) {
                Some(Step::Create(_)) => "create",
                Some(Step::Delete(_)) => "delete",
                None => "",
            };
            assert_eq!(step, want, "{what}");
        }
    }
}
