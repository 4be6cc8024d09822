//! The end of a namespace (upstream's namespace controller): once it is marked for deletion, everything in it is deleted, and when
//! nothing is left, its finalizer `kubernetes` is removed through the `finalize` subresource.
//!
//! What can be in a namespace is asked of discovery each time, so custom resources are emptied too. Objects that take their time
//! (Pods in their grace period, finalizers) are waited for by a watch of their own kind in that namespace, not by looking again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use informer::{Watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::discovery::{Scope, verbs};
use kube::discovery::Discovery;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use ports::clock::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const FINALIZER: &str = "kubernetes";

/// Ends namespaces until `shutdown`.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut events: Watch<Namespace> = watch_all(&client);
    let mut ending: BTreeMap<String, tokio::task::AbortHandle> = BTreeMap::new();
    let mut tasks: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            event = events.next() => match event {
                Some(Ok(Event::InitApply(ns) | Event::Apply(ns))) if must_end(&ns) => {
                    let name = ns.name_any();
                    if ending.get(&name).is_none_or(tokio::task::AbortHandle::is_finished) {
                        ending.insert(name, tasks.spawn(end(client.clone(), clock.clone(), ns)));
                    }
                }
                Some(Ok(Event::Delete(ns))) => {
                    ending.remove(&ns.name_any());
                }
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

/// Empties a namespace and lets it go.
async fn end(client: Client, clock: Arc<dyn Clock>, namespace: Namespace) {
    let name = namespace.name_any();
    let mut told = None;
    loop {
        match empty(&client, &name).await {
            Ok(remaining) if remaining.is_empty() => break,
            Ok(remaining) => {
                let message = describe(&remaining);
                if told.as_ref() != Some(&message) {
                    if let Err(error) = report(&client, &name, &message, clock.now()).await {
                        tracing::warn!(%error, namespace = name, "reporting what is left of a namespace");
                    }
                    told = Some(message);
                }
                wait_for_change(&client, &name, &remaining).await;
            }
            Err(error) => {
                tracing::warn!(%error, namespace = name, "emptying a namespace");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
    if let Err(error) = finalize(&client, namespace).await {
        tracing::warn!(%error, namespace = name, "removing the finalizer of a namespace");
    }
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
async fn empty(client: &Client, namespace: &str) -> Result<Vec<Remaining>, kube::Error> {
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
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let as_collection = capabilities.supports_operation(verbs::DELETE_COLLECTION);
        delete_all(&api, as_collection).await?;
        let left = api.list_metadata(&ListParams::default()).await?;
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

async fn delete_all(api: &Api<DynamicObject>, as_collection: bool) -> Result<(), kube::Error> {
    let background = DeleteParams::background();
    let list = api.list_metadata(&ListParams::default()).await?;
    if list
        .items
        .iter()
        .all(|o| o.metadata.deletion_timestamp.is_some())
    {
        return Ok(());
    }
    if as_collection {
        return api
            .delete_collection(&background, &ListParams::default())
            .await
            .map(drop);
    }
    for object in list.items {
        match api.delete(&object.name_any(), &background).await {
            Err(kube::Error::Api(e)) if e.code == 404 => {}
            other => other.map(drop)?,
        }
    }
    Ok(())
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
                Err(error) => tracing::debug!(%error, "watching what is left of a namespace"),
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
    name: &str,
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
    let patch = serde_json::json!({"status": {"conditions": conditions}});
    let api: Api<Namespace> = Api::all(client.clone());
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
}

/// Removes the finalizer from the namespace as it is now.
async fn finalize(client: &Client, namespace: Namespace) -> Result<(), kube::Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let name = namespace.name_any();
    loop {
        let Some(mut current) = api.get_opt(&name).await? else {
            return Ok(());
        };
        if current.metadata.uid != namespace.metadata.uid {
            return Ok(());
        }
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
