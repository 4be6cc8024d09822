//! What a watch tells of what a server answers.

use std::convert::Infallible;
use std::fmt::Debug;

use futures::{StreamExt, future};
use http::{Request, Response};
use informer::{Watch, watch};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Config, Error, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object(name: &str, revision: u64, data: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "annotations": {"managedFields": "[\"}"},
            "managedFields": [{"manager": "m}]", "fieldsV1": {"f:data": {"f:k": {}}}}],
            "name": name,
            "namespace": "default",
            "resourceVersion": revision.to_string(),
        },
        "data": data,
    })
}

/// A server with three objects, of which the second cannot be read; then one more is told, and one that cannot be read, and the first goes.
async fn answer(is_metadata: bool, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let accepted = request.headers().get("accept");
    let accepted = accepted.and_then(|types| types.to_str().ok());
    let of_metadata = accepted.is_some_and(|types| types.contains("PartialObjectMetadata"));
    assert_eq!(of_metadata, is_metadata);
    let query = request.uri().query().unwrap_or_default();
    assert_eq!(
        request.uri().path(),
        "/api/v1/namespaces/default/configmaps"
    );
    let text = if !query.contains("watch=true") {
        let items = [
            object("a", 1, json!({"k": "v"})),
            object("bad", 2, json!(7)),
            object("c", 3, json!({})),
        ];
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "3"}, "items": items})
            .to_string()
    } else if query.contains("resourceVersion=3") {
        let event =
            |kind: &str, object: Value| format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        [
            event("ADDED", object("d", 4, json!({"k": "w"}))),
            event("MODIFIED", object("bad", 5, json!([]))),
            event("DELETED", object("a", 6, json!({"k": "v"}))),
        ]
        .concat()
    } else {
        assert!(query.contains("resourceVersion=6"), "{query}");
        return future::pending().await;
    };
    Ok(Response::new(Body::from(text.into_bytes())))
}

fn told<K>() -> Watch<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let server = tower::service_fn(|request| answer(K::metadata_api(), request));
    let client = Client::new(server, "default");
    watch(Api::namespaced(client, "default"), Config::default())
}

/// Each event in short.
async fn in_short<K: Resource + DeserializeOwned>(told: Watch<K>, count: usize) -> Vec<String> {
    let name = |object: &K| object.meta().name.clone().unwrap_or_default();
    told.take(count)
        .map(|event| match event {
            Ok(Event::Init) => "begin".to_owned(),
            Ok(Event::InitApply(object)) => format!("is {}", name(&object)),
            Ok(Event::InitDone) => "all".to_owned(),
            Ok(Event::Apply(object)) => format!("now {}", name(&object)),
            Ok(Event::Delete(object)) => format!("gone {}", name(&object)),
            Err(Error::WatchFailed(kube::Error::SerdeError(_))) => "unreadable".to_owned(),
            Err(error) => panic!("{error}"),
        })
        .collect()
        .await
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_back() {
    let events = in_short(told::<ConfigMap>(), 8).await;
    let expected = [
        "begin",
        "is a",
        "unreadable",
        "is c",
        "all",
        "now d",
        "unreadable",
        "gone a",
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn objects_are_whole_but_for_managed_fields() {
    let mut events = told::<ConfigMap>();
    let mut first = None;
    while let (None, Some(event)) = (&first, events.next().await) {
        if let Ok(Event::InitApply(object)) = event {
            first = Some(object);
        }
    }
    let first = first.expect("an object");
    assert_eq!(first.metadata.resource_version.as_deref(), Some("1"));
    assert_eq!(first.metadata.managed_fields, None);
    let annotations = first.metadata.annotations.expect("annotations");
    assert_eq!(annotations["managedFields"], "[\"}");
    assert_eq!(first.data.expect("data")["k"], "v");
}

#[tokio::test]
async fn of_metadata_all_can_be_read() {
    let events = in_short(told::<PartialObjectMeta<ConfigMap>>(), 8).await;
    let expected = [
        "begin", "is a", "is bad", "is c", "all", "now d", "now bad", "gone a",
    ];
    assert_eq!(events, expected);
}
