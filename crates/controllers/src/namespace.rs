//! The end of a namespace (upstream's namespace controller): once it is marked for deletion, everything in it is deleted, and when
//! nothing is left, its finalizer `kubernetes` is removed through the `finalize` subresource.
//!
//! What can be in a namespace is asked of discovery each time, so custom resources are emptied too. Objects that take their time
//! (Pods in their grace period, finalizers) are waited for by a watch of their own kind in that namespace, not by looking again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use informer::{Watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectList, Patch, PatchParams,
    PostParams, Preconditions,
};
use kube::core::PartialObjectMeta;
use kube::core::discovery::{Scope, verbs};
use kube::discovery::Discovery;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use ports::clock::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How long an error holds up the end of a namespace.
const AGAIN: Duration = Duration::from_secs(1);
const FINALIZER: &str = "kubernetes";

#[cfg(test)]
mod tests;

/// Ends namespaces until `shutdown`.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut events: Watch<Namespace> = watch_all(&client);
    let mut ending: BTreeMap<String, AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => match event {
                Some(Ok(Event::InitApply(ns) | Event::Apply(ns))) if must_end(&ns) => {
                    let uid = ns.uid().unwrap_or_default();
                    ending.entry(uid).or_insert_with(|| {
                        AbortOnDropHandle::new(tokio::spawn(end(client.clone(), clock.clone(), ns)))
                    });
                }
                Some(Ok(Event::Delete(ns))) => {
                    ending.remove(&ns.uid().unwrap_or_default());
                }
                Some(Ok(Event::InitDone)) => ending.retain(|_, task| !task.is_finished()),
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(%error, "watching namespaces"),
                None => return,
            },
        }
    }
}

fn must_end(namespace: &Namespace) -> bool {
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|s| s.finalizers.as_deref())
        .unwrap_or_default();
    namespace.metadata.deletion_timestamp.is_some() && finalizers.iter().any(|f| f == FINALIZER)
}

/// Empties a namespace and lets it go. What errors hold up is tried again; one of the same name that comes after it is left alone.
async fn end(client: Client, clock: Arc<dyn Clock>, namespace: Namespace) {
    let name = namespace.name_any();
    let mut told = None;
    loop {
        match proceed(&client, &namespace).await {
            Ok(remaining) if remaining.is_empty() => return,
            Ok(remaining) => {
                let message = describe(&remaining);
                if told.as_ref() != Some(&message) {
                    if let Err(error) = report(&client, &namespace, &message, clock.now()).await {
                        tracing::warn!(%error, namespace = name, "reporting what is left of a namespace");
                    }
                    told = Some(message);
                }
                wait_for_change(&client, &name, &remaining).await;
            }
            Err(error) => {
                tracing::warn!(%error, namespace = name, "ending a namespace");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Deletes what is in a namespace and removes the finalizer when there is nothing any more. Returns what is left, which is nothing when
/// the namespace has gone.
async fn proceed(client: &Client, namespace: &Namespace) -> Result<Vec<Remaining>, kube::Error> {
    if current(client, namespace).await?.is_none() {
        return Ok(Vec::new());
    }
    let remaining = empty(client, namespace).await?;
    if remaining.is_empty() {
        finalize(client, namespace).await?;
    }
    Ok(remaining)
}

/// The namespace as it is now; `None` when it has gone, whatever there may be of its name.
async fn current(client: &Client, namespace: &Namespace) -> Result<Option<Namespace>, kube::Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = api.get_opt(&namespace.name_any()).await?;
    Ok(found.filter(|found| found.metadata.uid == namespace.metadata.uid))
}

/// What is left of a kind.
struct Remaining {
    resource: ApiResource,
    count: usize,
    /// The list's revision, from which to watch.
    version: String,
}

/// Deletes what is in the namespace and returns what is still there. Pods go first: until they have ended, nothing is taken from them
/// that they may be guarded by or need (KEP-5080).
async fn empty(client: &Client, namespace: &Namespace) -> Result<Vec<Remaining>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let groups = discovery.groups();
    let mut kinds: Vec<_> = groups.flat_map(|g| g.recommended_resources()).collect();
    let is_pods = |resource: &ApiResource| (&*resource.group, &*resource.plural) == ("", "pods");
    kinds.sort_by_key(|(resource, _)| !is_pods(resource));
    let mut remaining = Vec::new();
    for (resource, capabilities) in kinds {
        let deletable = capabilities.supports_operation(verbs::LIST)
            && capabilities.supports_operation(verbs::DELETE);
        if capabilities.scope != Scope::Namespaced || !deletable {
            continue;
        }
        let left = clear(client, namespace, &resource).await?;
        if left.items.is_empty() {
            continue;
        }
        let is_first = is_pods(&resource);
        remaining.push(Remaining {
            resource,
            count: left.items.len(),
            version: left.metadata.resource_version.unwrap_or_default(),
        });
        if is_first {
            break;
        }
    }
    Ok(remaining)
}

/// Deletes what there is of a kind, and returns what takes its time.
///
/// While the namespace is seen after the list, what was listed is its own; and what is deleted is what was listed, by UID. So one of the
/// same name loses nothing, even if somebody else has let the namespace go meanwhile.
async fn clear(
    client: &Client,
    namespace: &Namespace,
    resource: &ApiResource,
) -> Result<ObjectList<PartialObjectMeta<DynamicObject>>, kube::Error> {
    let name = namespace.name_any();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, resource);
    loop {
        let mut list = api.list_metadata(&ListParams::default()).await?;
        let is_leaving = |o: &PartialObjectMeta<_>| o.metadata.deletion_timestamp.is_some();
        if list.items.iter().all(is_leaving) {
            return Ok(list);
        }
        if current(client, namespace).await?.is_none() {
            list.items.clear();
            return Ok(list);
        }
        for object in list.items.into_iter().filter(|o| !is_leaving(o)) {
            let only_this = Preconditions {
                uid: object.uid(),
                resource_version: None,
            };
            let background = DeleteParams::background().preconditions(only_this);
            match api.delete(&object.name_any(), &background).await {
                Err(kube::Error::Api(e)) if e.code == 404 => {}
                other => other.map(drop)?,
            }
        }
    }
}

/// Returns when one of the remaining kinds changed.
async fn wait_for_change(client: &Client, namespace: &str, remaining: &[Remaining]) {
    let mut watches = JoinSet::new();
    for Remaining {
        resource, version, ..
    } in remaining
    {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let version = version.clone();
        watches.spawn(async move {
            match api
                .watch_metadata(&kube::api::WatchParams::default(), &version)
                .await
            {
                Ok(stream) => {
                    let mut stream = Box::pin(stream);
                    while let Some(Ok(event)) = stream.next().await {
                        if matches!(event, kube::api::WatchEvent::Deleted(_)) {
                            return;
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "watching what is left of a namespace");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        });
    }
    watches.join_next().await;
}

fn describe(remaining: &[Remaining]) -> String {
    let parts: Vec<String> = remaining
        .iter()
        .map(|r| {
            let group = if r.resource.group.is_empty() {
                String::new()
            } else {
                format!(".{}", r.resource.group)
            };
            format!(
                "{}{group} has {} resource instances",
                r.resource.plural, r.count
            )
        })
        .collect();
    format!("Some resources are remaining: {}", parts.join(", "))
}

/// Writes the conditions `kubectl describe namespace` shows of a namespace that does not end at once.
async fn report(
    client: &Client,
    namespace: &Namespace,
    message: &str,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |type_: &str, status: &str, reason: &str, message: &str| serde_json::json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    let conditions = [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        condition(
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        condition(
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            message,
        ),
        condition(
            "NamespaceFinalizersRemaining",
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let patch = serde_json::json!({"metadata": {"uid": namespace.metadata.uid}, "status": {"conditions": conditions}});
    let api: Api<Namespace> = Api::all(client.clone());
    api.patch_status(
        &namespace.name_any(),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .map(drop)
}

/// Removes the finalizer from the namespace as it is now.
async fn finalize(client: &Client, namespace: &Namespace) -> Result<(), kube::Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let name = namespace.name_any();
    loop {
        let Some(mut current) = current(client, namespace).await? else {
            return Ok(());
        };
        if let Some(finalizers) = current.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        match api
            .replace_subresource("finalize", &name, &PostParams::default(), &current)
            .await
        {
            Err(kube::Error::Api(e)) if e.code == 409 => {}
            Err(kube::Error::Api(e)) if e.code == 404 => return Ok(()),
            other => return other.map(drop),
        }
    }
}
