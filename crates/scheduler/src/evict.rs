//! Telling Pods to leave for a more important one (upstream's plugin DefaultPreemption).

use events::Words;
use events::series::SeriesRecorder;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::cluster::Placed;
use crate::preempt::REASON;

/// Who leaves whose place.
pub(crate) struct Eviction {
    /// UID of the Pod that is made room for.
    pub(crate) for_pod: String,
    pub(crate) node: String,
    pub(crate) victims: Vec<Victim>,
    /// Pods that wait for this node no longer.
    pub(crate) outdone: Vec<Pod>,
}

/// A Pod that leaves.
pub(crate) struct Victim {
    uid: String,
    namespace: String,
    name: String,
}

impl Victim {
    pub(crate) fn of(uid: &str, placed: &Placed) -> Self {
        Victim {
            uid: uid.to_owned(),
            namespace: placed.namespace.clone(),
            name: placed.name.clone(),
        }
    }
}

impl Eviction {
    /// Tells all of them; whether all were told or are gone. May be repeated.
    pub(crate) async fn carry_out(
        &self,
        client: &Client,
        recorder: &SeriesRecorder,
        now: Timestamp,
    ) -> bool {
        let outdone = self.outdone.iter().map(|pod| withdraw(client, pod));
        let told = self.victims.iter().map(|victim| async move {
            let told = self.tell(client, victim, now).await;
            if matches!(told, Ok(true)) {
                let text = format!("Preempted by pod {} on node {}", self.for_pod, self.node);
                let words = Words::normal("Preempted", text);
                recorder.record(about(victim), words, "Preempting");
            }
            told.map(drop)
        });
        let (outdone, told) = futures::join!(join_all(outdone), join_all(told));
        let failed = outdone.into_iter().chain(told).filter_map(Result::err);
        let failed = failed.inspect(|error| tracing::warn!(%error, "making room for a Pod"));
        failed.count() == 0
    }

    /// Has a Pod say why it goes, and go; whether it was there.
    async fn tell(
        &self,
        client: &Client,
        victim: &Victim,
        now: Timestamp,
    ) -> Result<bool, kube::Error> {
        let api: Api<Pod> = Api::namespaced(client.clone(), &victim.namespace);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": REASON,
            "message": "default-scheduler: preempting to accommodate a higher priority pod",
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
        let (params, patch) = (PatchParams::default(), Patch::Strategic(&patch));
        let patched = api.patch_status(&victim.name, &params, &patch).await;
        if !was_there(patched.map(drop))? {
            return Ok(false);
        }
        let preconditions = Preconditions {
            uid: Some(victim.uid.clone()),
            ..Preconditions::default()
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        was_there(api.delete(&victim.name, &params).await.map(drop))
    }
}

/// A Pod waits for no node any longer.
async fn withdraw(client: &Client, pod: &Pod) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch =
        json!({"metadata": {"uid": pod.metadata.uid}, "status": {"nominatedNodeName": null}});
    let (name, params) = (pod.name_any(), PatchParams::default());
    let patched = api
        .patch_status(&name, &params, &Patch::Merge(&patch))
        .await;
    was_there(patched.map(drop)).map(drop)
}

/// Whether the object was there; another one of its name is none.
fn was_there(result: Result<(), kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}

fn about(victim: &Victim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(victim.name.clone()),
        namespace: Some(victim.namespace.clone()),
        uid: Some(victim.uid.clone()),
        ..ObjectReference::default()
    }
}
