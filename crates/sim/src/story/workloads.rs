//! What a user does to workloads.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, PropagationPolicy,
};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::check::KINDS;

fn api(client: &Client, plural: &str) -> Api<DynamicObject> {
    let known = KINDS.iter().find(|(kind, _)| *kind == plural);
    let group = known.map_or("", |(_, group)| group);
    // The kind's name goes nowhere but into messages.
    let kind = GroupVersionKind::gvk(group, "v1", plural);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Api::default_namespaced_with(client.clone(), &resource)
}

pub(super) async fn create(client: &Client, kind: &str, object: &Value) -> Result<(), kube::Error> {
    let mut object = object.clone();
    let (named, group) = match kind {
        "deployments" => ("Deployment", "apps/v1"),
        "statefulsets" => ("StatefulSet", "apps/v1"),
        "daemonsets" => ("DaemonSet", "apps/v1"),
        _ => ("Job", "batch/v1"),
    };
    object["kind"] = named.into();
    object["apiVersion"] = group.into();
    let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let api = api(client, kind);
    api.create(&PostParams::default(), &object).await.map(drop)
}

pub(super) async fn edit(
    client: &Client,
    kind: &str,
    name: &str,
    patch: &Value,
) -> Result<(), kube::Error> {
    let patch = Patch::Merge(patch);
    let edited = api(client, kind)
        .patch(name, &PatchParams::default(), &patch)
        .await;
    edited.map(drop)
}

pub(super) async fn delete(
    client: &Client,
    kind: &str,
    name: &str,
    policy: &str,
) -> Result<(), kube::Error> {
    let policy = match policy {
        "Foreground" => PropagationPolicy::Foreground,
        "Orphan" => PropagationPolicy::Orphan,
        _ => PropagationPolicy::Background,
    };
    let params = DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    api(client, kind).delete(name, &params).await.map(drop)
}

/// Deletes a Pod of a workload, the first of them.
pub(super) async fn delete_one(client: &Client, of: &str) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let selected = ListParams::default().labels(&format!("of={of}"));
    let names = pods
        .list(&selected)
        .await?
        .items
        .into_iter()
        .map(|pod| pod.name_any());
    match names.min() {
        Some(first) => pods
            .delete(&first, &DeleteParams::default())
            .await
            .map(drop),
        None => Ok(()),
    }
}

/// A Pod that a workload selects and that is another's.
pub(super) async fn create_stranger(client: &Client, of: &str) -> Result<(), kube::Error> {
    let name = format!("stranger-{of}");
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map = ConfigMap {
        metadata: serde_json::from_value(json!({"name": name})).map_err(kube::Error::SerdeError)?,
        ..ConfigMap::default()
    };
    let owner = match maps.get_opt(&name).await? {
        Some(owner) => owner,
        None => maps.create(&PostParams::default(), &map).await?,
    };
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner.uid(), "controller": true});
    let pod = json!({
        "metadata": {"name": name, "labels": {"of": of}, "ownerReferences": [owner]},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "stranger", "image": format!("{of}:0"), "imagePullPolicy": "IfNotPresent"}],
        },
    });
    let pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.create(&PostParams::default(), &pod).await.map(drop)
}

/// Deletes all there are; what cannot be deleted now is tried again by whoever asks.
pub(super) async fn leave(client: &Client) {
    for (kind, _) in KINDS {
        let api = api(client, kind);
        let Ok(left) = api.list_metadata(&ListParams::default()).await else {
            continue;
        };
        let left = left.items.into_iter();
        for object in left.filter(|o| o.metadata.deletion_timestamp.is_none()) {
            let background = DeleteParams::background();
            drop(api.delete(&object.name_any(), &background).await);
        }
    }
}
