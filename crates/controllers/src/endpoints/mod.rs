//! EndpointSlices and Endpoints of Services that select Pods (upstream's endpointslice and endpoints controllers): who is behind a
//! Service, and whether it is ready.
//!
//! One task with watches of Services; of Pods only while a Service selects some; of the slices and Endpoints that are kept here while
//! there are any or may have to be. [`state`] decides what has to be written by the rules in [`slices`] and [`legacy`]; for each Service
//! one write is under way at a time, and what happens meanwhile is taken together in the next. Objects others keep are left alone.
//!
//! Slices and Endpoints of a Service that is gone are deleted here. [`mirroring`] makes slices of Endpoints that users keep themselves.

mod backend;
mod legacy;
pub(crate) mod mirroring;
mod slices;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use informer::{Key, Wanted, Watch, key_of, revision_of, watch};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Endpoints, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use slices::Changes;
use state::{Legacy, State, Work, Written};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps EndpointSlices and Endpoints until `shutdown`.
pub(crate) async fn run(client: Client, shutdown: CancellationToken) {
    let mut state = State::default();
    let mut services = informer::watch_services(&client);
    let mut pods = Wanted::default();
    let mut slices = Wanted::default();
    let mut endpoints = Wanted::default();
    let mut writes = FuturesUnordered::new();
    let mut again: BTreeMap<Key, Instant> = BTreeMap::new();
    loop {
        // Those that are on no node have no address.
        let bound = || those::<Pod>(&client, Config::default().fields("spec.nodeName!="));
        if pods.follow_if(state.wants_pods(), bound) {
            state.forget_pods();
        }
        let wants = state.wants_slices();
        let ours = |label, manager| Config::default().labels(&format!("{label}={manager}"));
        let new = || those::<EndpointSlice>(&client, ours(slices::MANAGED_BY, slices::MANAGER));
        let old = || those::<Endpoints>(&client, ours(legacy::MANAGED_BY, legacy::MANAGER));
        let ends = [
            slices.follow_if(wants, new),
            endpoints.follow_if(wants, old),
        ];
        if ends.contains(&true) {
            state.forget_slices();
        }
        for (key, work) in state.take() {
            writes.push(write(client.clone(), key, work));
        }
        let next = again.values().min().copied();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = services.next() => hear("Services", event, |event| state.service(event)),
            Some(event) = pods.next() => hear("Pods", event, |event| state.pod(event)),
            Some(event) = slices.next() => hear("EndpointSlices", event, |event| state.slice(event)),
            Some(event) = endpoints.next() => hear("Endpoints", event, |event| state.endpoints(event)),
            Some((key, written)) = writes.next(), if !writes.is_empty() => {
                if written.failed {
                    again.insert(key.clone(), Instant::now() + AGAIN);
                } else {
                    again.remove(&key);
                }
                state.landed(key, written);
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let now = Instant::now();
                again.retain(|key, due| {
                    let is_due = *due <= now;
                    if is_due {
                        state.again(key.clone());
                    }
                    !is_due
                });
            }
        }
    }
}

fn those<K>(client: &Client, which: Config) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watch(Api::all(client.clone()), which)
}

fn hear<K>(kind: &str, event: Result<Event<K>, watcher::Error>, tell: impl FnOnce(Event<K>)) {
    match event {
        Ok(event) => tell(event),
        Err(error) => tracing::warn!(%error, "watching {kind}"),
    }
}

/// Writes what has to be written for a Service.
async fn write(client: Client, key: Key, work: Work) -> (Key, Written) {
    let mut written = Written::default();
    let (slices, legacy) = tokio::join!(
        write_slices(&client, &key.0, work.slices),
        write_legacy(&client, &key, work.legacy),
    );
    (written.slices, written.deleted) = (slices.revision, slices.deleted);
    written.legacy = legacy.as_ref().map_or(0, |revision| *revision);
    for error in [slices.error, legacy.err()].into_iter().flatten() {
        let (namespace, service) = (&key.0, &key.1);
        match error {
            // Who ends the namespace empties it.
            error if is_ending(&error) => {}
            // It is another by now: the watch tells.
            kube::Error::Api(e) if matches!(e.code, 404 | 409) => written.failed = true,
            error => {
                tracing::warn!(%error, namespace, service, "writing endpoints");
                written.failed = true;
            }
        }
    }
    (key, written)
}

/// How far slices were written.
#[derive(Default)]
struct Slices {
    revision: u64,
    deleted: Vec<(Key, Option<String>)>,
    error: Option<kube::Error>,
}

async fn write_slices(client: &Client, namespace: &str, changes: Changes) -> Slices {
    let mut done = Slices::default();
    done.error = try_slices(client, namespace, changes, &mut done)
        .await
        .err();
    done
}

async fn try_slices(
    client: &Client,
    namespace: &str,
    changes: Changes,
    done: &mut Slices,
) -> Result<(), kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    for slice in &changes.create {
        let created = api.create(&PostParams::default(), slice).await?;
        done.revision = done.revision.max(revision_of(&created));
    }
    for slice in &changes.change {
        let name = slice.name_any();
        let changed = api.replace(&name, &PostParams::default(), slice).await?;
        done.revision = done.revision.max(revision_of(&changed));
    }
    for slice in &changes.delete {
        delete(&api, &slice.name_any(), slice.metadata.uid.clone()).await?;
        done.deleted
            .push((key_of(slice), slice.metadata.uid.clone()));
    }
    Ok(())
}

/// Returns the revision that was written, zero if none was.
async fn write_legacy(client: &Client, key: &Key, legacy: Legacy) -> Result<u64, kube::Error> {
    let api: Api<Endpoints> = Api::namespaced(client.clone(), &key.0);
    let name = &key.1;
    let written = match legacy {
        Legacy::Nothing => return Ok(0),
        Legacy::Delete => return delete(&api, name, None).await.map(|()| 0),
        Legacy::Change(endpoints) => api.replace(name, &PostParams::default(), &endpoints).await,
        Legacy::Create(endpoints) => match api.create(&PostParams::default(), &endpoints).await {
            // Another made them, though the Service selects Pods.
            Err(kube::Error::Api(e)) if e.code == 409 => {
                let taken = legacy::take_over(api.get(name).await?, *endpoints);
                api.replace(name, &PostParams::default(), &taken).await
            }
            other => other,
        },
    };
    written.map(|endpoints| revision_of(&endpoints))
}

/// Deletes an object; that it is gone already, or another by now, is fine.
async fn delete<K>(api: &Api<K>, name: &str, uid: Option<String>) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let this = DeleteParams {
        preconditions: uid.map(|uid| Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &this).await {
        Err(kube::Error::Api(e)) if matches!(e.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

/// Whether nothing can be made because the namespace ends or is gone.
fn is_ending(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let details = status.details.iter();
    let mut causes = details.flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}
