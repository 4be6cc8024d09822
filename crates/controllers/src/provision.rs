//! What every namespace is given: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt` (upstream's
//! serviceaccount and root-ca-cert-publisher controllers). Whoever removes or changes them gets them back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use informer::{Watch, watch, watch_all};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What could not be put is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
const ACCOUNT: &str = "default";
const CERTIFICATES: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
                           internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
                           Kubernetes clusters.";

/// Keeps ServiceAccount `default` in every namespace.
pub(crate) async fn service_accounts(client: Client, shutdown: CancellationToken) {
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(ACCOUNT.into()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    keep(client, account, |_| true, shutdown).await;
}

/// Keeps ConfigMap `kube-root-ca.crt` in every namespace.
pub(crate) async fn root_certificates(client: Client, ca_pem: String, shutdown: CancellationToken) {
    let data = BTreeMap::from([("ca.crt".to_owned(), ca_pem)]);
    let annotations = BTreeMap::from([(
        "kubernetes.io/description".to_owned(),
        DESCRIPTION.to_owned(),
    )]);
    let wanted = ConfigMap {
        metadata: ObjectMeta {
            name: Some(CERTIFICATES.into()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Some(data.clone()),
        ..ConfigMap::default()
    };
    keep(
        client,
        wanted,
        move |found| found.data.as_ref() == Some(&data),
        shutdown,
    )
    .await;
}

/// Sees to it that `wanted` is in every live namespace, and as `right` wants it.
async fn keep<K>(client: Client, wanted: K, right: impl Fn(&K) -> bool, shutdown: CancellationToken)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let name = wanted.name_any();
    let only = Config::default().fields(&format!("metadata.name={name}"));
    let mut namespaces: Watch<Namespace> = watch_all(&client);
    let mut objects: Watch<K> = watch(Api::all(client.clone()), only);
    let mut live: BTreeSet<String> = BTreeSet::new();
    // Namespaces where it could not be put, whether something is there, and when that is tried again.
    let mut failed: BTreeMap<String, bool> = BTreeMap::new();
    let mut again_at: Option<Instant> = None;
    loop {
        let mut due = BTreeMap::new();
        let check = tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {
                again_at = None;
                due = std::mem::take(&mut failed);
                None
            }
            Some(event) = namespaces.next() => match event {
                Ok(Event::Init) => { live.clear(); None }
                Ok(Event::InitApply(ns) | Event::Apply(ns)) if is_live(&ns) => {
                    live.insert(ns.name_any()).then(|| (ns.name_any(), false))
                }
                Ok(Event::InitApply(ns) | Event::Apply(ns) | Event::Delete(ns)) => { live.remove(&ns.name_any()); None }
                Ok(Event::InitDone) => None,
                Err(error) => { tracing::warn!(%error, "watching namespaces"); None }
            },
            Some(event) = objects.next() => match event {
                Ok(Event::InitApply(object) | Event::Apply(object)) if !right(&object) => object.namespace().map(|ns| (ns, true)),
                Ok(Event::Delete(object)) => object.namespace().map(|ns| (ns, false)),
                Ok(_) => None,
                Err(error) => { tracing::warn!(%error, name, "watching"); None }
            },
            else => return,
        };
        due.extend(check);
        for (namespace, exists) in due.into_iter().filter(|(ns, _)| live.contains(ns)) {
            if let Err(error) = put(&client, &namespace, &wanted, exists).await {
                tracing::warn!(%error, namespace, name, "providing");
                failed.insert(namespace, exists);
                again_at.get_or_insert_with(|| Instant::now() + AGAIN);
            }
        }
    }
}

async fn put<K>(
    client: &Client,
    namespace: &str,
    wanted: &K,
    exists: bool,
) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let result = if exists {
        api.patch(
            &wanted.name_any(),
            &PatchParams::default(),
            &Patch::Merge(wanted),
        )
        .await
    } else {
        api.create(&PostParams::default(), wanted).await
    };
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(e)) if e.code == 409 || e.code == 404 => Ok(()),
        Err(e) => Err(e),
    }
}

fn is_live(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}
