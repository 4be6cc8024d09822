//! What several controllers do to a Pod, always to the one they have judged: another of its name is left alone.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// The condition `DisruptionTarget`: for this reason, with this message; without any, the Pod is no target any more (spec `§3.2`).
pub(crate) fn target(pod: &Pod, why: Option<[&str; 2]>, now: Timestamp) -> Value {
    let [reason, message] = why.map_or([None, None], |why| why.map(Some));
    json!({
        "type": "DisruptionTarget",
        "status": if why.is_some() { "True" } else { "False" },
        "reason": reason,
        "message": message,
        "lastTransitionTime": Time(now),
        "observedGeneration": pod.metadata.generation,
    })
}

/// Changes a Pod's status, if it has this `resourceVersion`, where one is given.
pub(crate) async fn patch_status(
    client: &Client,
    pod: &Pod,
    version: Option<&str>,
    status: Value,
) -> Result<(), kube::Error> {
    let mut patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    if let Some(version) = version {
        patch["metadata"]["resourceVersion"] = version.into();
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    pods.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Strategic(&patch),
    )
    .await
    .map(drop)
}

/// Deletes a Pod, with its own grace or with so many seconds.
pub(crate) async fn delete(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: Option<String>,
    grace: Option<u32>,
) -> Result<(), kube::Error> {
    let params = DeleteParams {
        grace_period_seconds: grace,
        ..DeleteParams::default()
    };
    let this = params.preconditions(Preconditions {
        uid,
        resource_version: None,
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.delete(name, &this).await.map(drop)
}

/// Whether what was to be changed is another by now, or none: then there is nothing to do.
pub(crate) fn is_moot(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(e) if matches!(e.code, 404 | 409))
}
