//! Makes the claims of Pods that bring templates for them along (upstream's ephemeral-volume-controller).

use std::collections::BTreeMap;
use std::time::Duration;

use events::{Recorder, Words};
use futures::StreamExt;
use informer::{Key, key_of, watch};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, Pod, Volume};
use kube::api::{ApiResource, PostParams};
use kube::core::Object;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Who the Events are from, as upstream names it.
const COMPONENT: &str = "ephemeral_volume";
/// What failed is tried again after this, then after twice as long.
const AGAIN: Duration = Duration::from_millis(100);
/// At most so long after.
const LATEST: Duration = Duration::from_secs(60);

/// No more of a Pod than is needed here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Volumes {
    #[serde(default)]
    volumes: Vec<Volume>,
}

/// Nothing of a Pod's status is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Unread {}

type Asking = Object<Volumes, Unread>;

/// A Pod whose claims could not be made.
struct Trouble {
    pod: Asking,
    again: Instant,
    rest: Duration,
}

/// Makes claims until `shutdown`. Pods that run have theirs, so that only those that do not are watched.
pub(crate) async fn run(client: Client, recorder: &Recorder, shutdown: CancellationToken) {
    let recorder = recorder.of(COMPONENT);
    let pods: Api<Asking> = Api::all_with(client.clone(), &ApiResource::erase::<Pod>(&()));
    let mut pods = watch(pods, Config::default().fields("status.phase=Pending"));
    let mut troubles: BTreeMap<Key, Trouble> = BTreeMap::new();
    loop {
        let next = troubles.values().map(|trouble| trouble.again).min();
        let pod = tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let due = troubles.values().min_by_key(|trouble| trouble.again);
                due.map(|trouble| trouble.pod.clone())
            }
            Some(event) = pods.next() => match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => Some(pod),
                Ok(Event::Delete(pod)) => {
                    troubles.remove(&key_of(&pod));
                    None
                }
                // Those that are still there are told of once more.
                Ok(Event::Init) => {
                    troubles.clear();
                    None
                }
                Ok(Event::InitDone) => None,
                Err(error) => {
                    tracing::warn!(%error, "watching Pods that wait");
                    None
                }
            },
        };
        let Some(pod) = pod else { continue };
        let key = key_of(&pod);
        match settle(&client, &pod).await {
            Ok(()) => {
                troubles.remove(&key);
            }
            Err(why) => {
                recorder.record(reference(&pod), Words::warning("FailedBinding", why));
                let before = troubles.get(&key).map(|trouble| trouble.rest * 2);
                let rest = before.map_or(AGAIN, |rest| rest.min(LATEST));
                let again = Instant::now() + rest;
                troubles.insert(key, Trouble { pod, again, rest });
            }
        }
    }
}

/// Makes the claims that are missing; otherwise says why not.
async fn settle(client: &Client, pod: &Asking) -> Result<(), String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    for volume in &pod.spec.volumes {
        let Some(claim) = claims::made_with(&pod.metadata, volume) else {
            continue;
        };
        let made = make(&api, pod, &claim).await;
        made.map_err(|why| format!("ephemeral volume {}: {why}", volume.name))?;
    }
    Ok(())
}

async fn make(
    api: &Api<PersistentVolumeClaim>,
    pod: &Asking,
    claim: &PersistentVolumeClaim,
) -> Result<(), String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let failed = |error: kube::Error| format!("create PVC {name}: {error}");
    match api.create(&PostParams::default(), claim).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(error)) if error.is_already_exists() => {}
        Err(error) => return Err(failed(error)),
    }
    match api.get_opt(name).await.map_err(failed)? {
        Some(found) => claims::check_made_with(&pod.metadata, &found.metadata),
        None => Err(format!("create PVC {name}: it has just gone")),
    }
}

fn reference(pod: &Asking) -> ObjectReference {
    let meta = &pod.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
