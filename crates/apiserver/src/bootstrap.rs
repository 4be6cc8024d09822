//! The objects every cluster has: the first namespaces, the system's priority classes, the ServiceCIDR of the range of Services, and
//! Service, Endpoints and EndpointSlice `default/kubernetes` and `kube-system/kube-dns`.

use std::net::IpAddr;
use std::sync::Arc;

use admission::priority::SYSTEM_CLASSES;
use api::status::StatusError;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use ports::store::RevisionedStore;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::config::{Config, NameServer, ServiceRange};
use crate::identity::UserInfo;
use crate::router::Router;
use crate::server::Inner;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Which address of the range of Services is the name server's, if nobody has it, as kubeadm chooses.
const NAME_SERVER: u128 = 10;
const SERVICE_CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
/// Keeps the controller of mirrors away from Endpoints whose slices are made here.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

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
    kubernetes(&router, &inner.config).await?;
    service_cidr(&router, inner).await?;
    match inner.config.name_server {
        Some(server) => kube_dns(&router, &inner.config, server).await,
        None => Ok(()),
    }
}

async fn kubernetes(router: &Router, config: &Config) -> Result<(), StatusError> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": config.service_range.first().to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise.unwrap_or(config.address).port()}],
        },
    });
    let services = "/api/v1/namespaces/default/services";
    check_range(router, services, config.service_range).await?;
    keep(router, services, &service).await?;
    let Some(advertise) = config.advertise else {
        return Ok(());
    };
    let ports = json!([{"name": "https", "port": advertise.port(), "protocol": "TCP"}]);
    endpoints(router, "default", "kubernetes", advertise.ip(), &ports).await
}

/// The ranges of Services as an object, ready as upstream's server makes it, and with the finalizer of upstream's controller: there are
/// always Services with addresses of it. Its network cannot change, so a range of another size is another object.
async fn service_cidr(router: &Router, inner: &Inner) -> Result<(), StatusError> {
    let path = format!("{SERVICE_CIDRS}/kubernetes");
    let ranges = inner.config.service_ranges();
    let ranges: Vec<String> = ranges.map(|range| range.to_string()).collect();
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": ranges},
    });
    let mut made = match send(router, Method::GET, &path, &Value::Null).await {
        Ok(found) if found["spec"] == object["spec"] => found,
        Ok(found) => {
            release(router, &path, found).await?;
            send(router, Method::POST, SERVICE_CIDRS, &object).await?
        }
        Err(error) if error.reason == "NotFound" => {
            send(router, Method::POST, SERVICE_CIDRS, &object).await?
        }
        Err(error) => return Err(error),
    };
    if made["status"]["conditions"].is_array() {
        return Ok(());
    }
    let since = made["metadata"]["creationTimestamp"].clone();
    made["status"]["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": since,
    }]);
    let status = format!("{path}/status");
    send(router, Method::PUT, &status, &made).await.map(drop)
}

/// Removes an object that a finalizer holds.
async fn release(router: &Router, path: &str, mut object: Value) -> Result<(), StatusError> {
    object["metadata"]["finalizers"] = json!([]);
    send(router, Method::PUT, path, &object).await?;
    match send(router, Method::DELETE, path, &Value::Null).await {
        Err(error) if error.reason == "NotFound" => Ok(()),
        done => done.map(drop),
    }
}

/// The Service of the name server has the names and labels that kubeadm's has, as others look for it by them.
async fn kube_dns(router: &Router, config: &Config, server: NameServer) -> Result<(), StatusError> {
    let labels = json!({
        "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
    });
    let (udp, tcp) = (server.udp.port(), server.tcp.port());
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"type": "ClusterIP", "ports": [
            {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": udp},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": tcp},
        ]},
    });
    let services = "/api/v1/namespaces/kube-system/services";
    let path = format!("{services}/kube-dns");
    match send(router, Method::GET, &path, &Value::Null).await {
        Ok(found) => {
            service["spec"]["clusterIP"] = found["spec"]["clusterIP"].clone();
            send(router, Method::PUT, &path, &service).await?;
        }
        Err(error) if error.reason == "NotFound" => {
            let mut wanted = service.clone();
            let address = config.service_range.nth(NAME_SERVER);
            wanted["spec"]["clusterIP"] = address.to_string().into();
            match send(router, Method::POST, services, &wanted).await {
                // Somebody has the address since before there was a name server, or the range ends before it.
                Err(error) if error.reason == "Invalid" => {
                    send(router, Method::POST, services, &service).await?;
                }
                made => drop(made?),
            }
        }
        Err(error) => return Err(error),
    }
    let ports = json!([
        {"name": "dns", "port": udp, "protocol": "UDP"}, {"name": "dns-tcp", "port": tcp, "protocol": "TCP"},
    ]);
    endpoints(router, "kube-system", "kube-dns", server.udp.ip(), &ports).await
}

/// Endpoints and EndpointSlice of a Service that leads to this process.
async fn endpoints(
    router: &Router,
    namespace: &str,
    name: &str,
    ip: IpAddr,
    ports: &Value,
) -> Result<(), StatusError> {
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": name, "namespace": namespace, "labels": {SKIP_MIRROR: "true"}},
        "subsets": [{"addresses": [{"ip": ip.to_string()}], "ports": ports}],
    });
    let path = format!("/api/v1/namespaces/{namespace}/endpoints");
    keep(router, &path, &endpoints).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": if ip.is_ipv6() { "IPv6" } else { "IPv4" },
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": true}}],
        "ports": ports,
    });
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    keep(router, &path, &slice).await
}

/// The address of a Service; none if it does not exist or has none.
pub(crate) fn address(store: &dyn RevisionedStore, namespace: &str, name: &str) -> Option<IpAddr> {
    let kind = api::resource::find("", "v1", "services")?;
    let entry = store.get(&kind.key(Some(namespace), Some(name)))?;
    let service: Value = serde_json::from_slice(&entry.value).ok()?;
    service["spec"]["clusterIP"].as_str()?.parse().ok()
}

/// The ranges of Services that were there at the last start, in order.
pub(crate) fn service_ranges(store: &dyn RevisionedStore) -> Vec<String> {
    let kind = api::resource::find("networking.k8s.io", "v1", "servicecidrs");
    let entry = kind.and_then(|kind| store.get(&kind.key(None, Some("kubernetes"))));
    let object = entry.and_then(|entry| serde_json::from_slice::<Value>(&entry.value).ok());
    let ranges = object.map(|object| object["spec"]["cidrs"].clone());
    let ranges = ranges.and_then(|ranges| serde_json::from_value(ranges).ok());
    ranges.unwrap_or_default()
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
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let own = format!("{path}/{name}");
            send(router, Method::PUT, &own, object).await.map(drop)
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
