//! The objects every cluster has: the first namespaces, the system's priority classes, and Service, Endpoints and EndpointSlice `default/kubernetes`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use admission::priority::SYSTEM_CLASSES;
use api::status::StatusError;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use ports::store::RevisionedStore;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::config::ServiceRange;
use crate::identity::UserInfo;
use crate::router::Router;
use crate::server::Inner;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing, through the same path as everyone.
pub(crate) async fn run(inner: &Arc<Inner>) -> Result<(), StatusError> {
    let router = Router::new(inner.clone()).with_user(UserInfo::new(
        "system:apiserver",
        &[crate::identity::MASTERS],
    ));
    for name in NAMESPACES {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(&router, "/api/v1/namespaces", &namespace).await?;
    }
    for class in SYSTEM_CLASSES {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class.name},
            "value": class.value, "description": class.description,
        });
        create(
            &router,
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            &class,
        )
        .await?;
    }
    let config = &inner.config;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": config.service_range.first().to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise.unwrap_or(config.address).port()}],
        },
    });
    let services = "/api/v1/namespaces/default/services";
    check_range(&router, services, config.service_range).await?;
    keep(&router, services, &service).await?;
    let Some(advertise) = config.advertise else {
        return Ok(());
    };
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": advertise.ip().to_string()}],
            "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
        }],
    });
    keep(&router, "/api/v1/namespaces/default/endpoints", &endpoints).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [advertise.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
    });
    keep(
        &router,
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        &slice,
    )
    .await
}

/// The address of the Service `kubernetes`, the first of the range of Services; none before the first start.
pub(crate) fn address(store: &dyn RevisionedStore) -> Option<Ipv4Addr> {
    let kind = api::resource::find("", "v1", "services")?;
    let entry = store.get(&kind.key(Some("default"), Some("kubernetes")))?;
    let service: Value = serde_json::from_slice(&entry.value).ok()?;
    service["spec"]["clusterIP"].as_str()?.parse().ok()
}

/// A Service keeps its address for good, so the range cannot move away from under the first of them.
async fn check_range(
    router: &Router,
    services: &str,
    range: ServiceRange,
) -> Result<(), StatusError> {
    let path = format!("{services}/kubernetes");
    let service = match send(router, Method::GET, &path, &Value::Null).await {
        Err(error) if error.reason == "NotFound" => return Ok(()),
        service => service?,
    };
    let (has, wants) = (&service["spec"]["clusterIP"], range.first().to_string());
    if *has == *wants {
        return Ok(());
    }
    Err(api::status::bad_request(format!(
        "the Service range {range} needs {wants} for the Service kubernetes, which has {has} since the first start"
    )))
}

/// Creates an object; that it exists already is fine.
async fn create(router: &Router, path: &str, object: &Value) -> Result<(), StatusError> {
    match send(router, Method::POST, path, object).await {
        Err(error) if error.reason == "AlreadyExists" => Ok(()),
        other => other.map(drop),
    }
}

/// Creates an object, or brings the one that is there to the same state (the port may differ from the last start).
async fn keep(router: &Router, path: &str, object: &Value) -> Result<(), StatusError> {
    match send(router, Method::POST, path, object).await {
        Err(error) if error.reason == "AlreadyExists" => {
            send(router, Method::PUT, &format!("{path}/kubernetes"), object)
                .await
                .map(drop)
        }
        other => other.map(drop),
    }
}

async fn send(
    router: &Router,
    method: Method,
    path: &str,
    object: &Value,
) -> Result<Value, StatusError> {
    let mut request = Request::new(Full::new(Bytes::from(object.to_string())));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(api::status::internal)?;
    let response = match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let is_done = response.status().is_success();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(api::status::internal)?
        .to_bytes();
    if is_done {
        return serde_json::from_slice(&body).map_err(api::status::internal);
    }
    let status: api::status::Status =
        serde_json::from_slice(&body).map_err(api::status::internal)?;
    Err(status.into())
}
