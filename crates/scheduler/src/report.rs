//! What the scheduler writes: bindings, the `PodScheduled` condition and events in their newer form (spec `§14.1`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::NAME;

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

/// Tells that the Pod has its node, without holding up the next one.
pub(crate) fn scheduled(client: Client, pod: &Pod, node: &str, now: Timestamp) {
    let text = format!(
        "Successfully assigned {}/{} to {node}",
        pod.namespace().unwrap_or_default(),
        pod.name_any()
    );
    let event = event(pod, "Normal", "Scheduled", "Binding", text, now);
    tokio::spawn(async move {
        if let Err(error) = post(&client, event).await {
            tracing::warn!(%error, "reporting a binding");
        }
    });
}

/// Writes why no node can take the Pod: condition `PodScheduled=False` and an event.
pub(crate) async fn refuse(
    client: &Client,
    pod: &Pod,
    why: &str,
    now: Timestamp,
) -> Result<(), kube::Error> {
    if !says_so(pod, why) {
        let condition = serde_json::json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
            "lastTransitionTime": transition_time(pod, now),
            "observedGeneration": pod.metadata.generation,
        });
        let patch = serde_json::json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        api.patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(&patch),
        )
        .await?;
    }
    post(
        client,
        event(
            pod,
            "Warning",
            "FailedScheduling",
            "Scheduling",
            why.to_owned(),
            now,
        ),
    )
    .await
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

async fn post(client: &Client, event: Event) -> Result<(), kube::Error> {
    let api: Api<Event> = Api::namespaced(
        client.clone(),
        event.metadata.namespace.as_deref().unwrap_or("default"),
    );
    api.create(&PostParams::default(), &event).await.map(drop)
}

fn event(
    pod: &Pod,
    type_: &str,
    reason: &str,
    action: &str,
    note: String,
    now: Timestamp,
) -> Event {
    let namespace = pod.namespace().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", pod.name_any(), now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(pod.name_any()),
            namespace: Some(namespace),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: None,
        },
        type_: Some(type_.into()),
        reason: Some(reason.into()),
        action: Some(action.into()),
        message: Some(note),
        event_time: Some(MicroTime(now)),
        reporting_component: Some(NAME.into()),
        reporting_instance: Some(format!("{NAME}-0")),
        source: Some(EventSource::default()),
        ..Event::default()
    }
}
