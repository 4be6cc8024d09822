//! What the scheduler writes: bindings, the `PodScheduled` condition and events in their newer form (spec `§14.1`).

use events::Words;
use events::series::SeriesRecorder;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};

/// Binds the Pod to the node through its `binding` subresource.
pub(crate) async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let _: serde_json::Value = api
        .create_subresource("binding", &name, &PostParams::default(), &binding)
        .await?;
    Ok(())
}

/// Tells that the Pod has its node.
pub(crate) fn scheduled(recorder: &SeriesRecorder, pod: &Pod, node: &str) {
    let text = format!(
        "Successfully assigned {}/{} to {node}",
        pod.namespace().unwrap_or_default(),
        pod.name_any()
    );
    recorder.record(about(pod), Words::normal("Scheduled", text), "Binding");
}

/// Tells that no node can take the Pod, and why.
pub(crate) fn failed(recorder: &SeriesRecorder, pod: &Pod, why: &str) {
    let words = Words::warning("FailedScheduling", why);
    recorder.record(about(pod), words, "Scheduling");
}

/// Writes why no node can take the Pod into its condition `PodScheduled`, and for which node it waits, if it does.
pub(crate) async fn refuse(
    client: &Client,
    pod: &Pod,
    why: &str,
    nominated: Option<&str>,
    now: Timestamp,
) -> Result<(), kube::Error> {
    if says_so(pod, why) && nominated.is_none() {
        return Ok(());
    }
    let condition = serde_json::json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": why,
        "lastTransitionTime": transition_time(pod, now),
        "observedGeneration": pod.metadata.generation,
    });
    let mut status = serde_json::json!({"conditions": [condition]});
    if let Some(node) = nominated {
        status["nominatedNodeName"] = node.into();
    }
    let patch = serde_json::json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let (name, params) = (pod.name_any(), PatchParams::default());
    let patch = Patch::Strategic(&patch);
    api.patch_status(&name, &params, &patch).await.map(drop)
}

fn says_so(pod: &Pod, why: &str) -> bool {
    scheduled_condition(pod)
        .is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(why))
}

fn scheduled_condition(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == "PodScheduled")
}

/// The condition's own time while it stays False, else now; in whole seconds like every API time.
fn transition_time(pod: &Pod, now: Timestamp) -> String {
    let kept = scheduled_condition(pod)
        .filter(|c| c.status == "False")
        .and_then(|c| c.last_transition_time.as_ref());
    let at = kept.map_or(now, |t| t.0);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn about(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name_any()),
        namespace: pod.namespace(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}
