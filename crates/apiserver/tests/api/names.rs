//! The Service of the name server.

use apiserver::ApiServer;
use serde_json::{Value, json};

use crate::support::Server;

const SERVICE: &str = "/api/v1/namespaces/kube-system/services/kube-dns";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns";

/// Its address, and where it leads: datagrams and connections.
async fn seen(server: &Server) -> (String, Value, Value) {
    let service = server.get(SERVICE).await.body;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    let told = ApiServer::dns_address(server.store.as_ref()).map(|ip| ip.to_string());
    assert_eq!(told.as_deref(), Some(address));
    let slice = server.get(SLICE).await.body;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    let ports = |list: &Value, field: &str| json!([list[0][field], list[1][field]]);
    let (ports, targets) = (
        ports(&slice["ports"], "port"),
        ports(&service["spec"]["ports"], "targetPort"),
    );
    (address.to_owned(), ports, targets)
}

#[tokio::test]
async fn it_has_the_tenth_address_and_follows_the_ports_of_each_start() {
    let server = Server::start().await;
    assert_eq!(server.get(SERVICE).await.code, 404);
    assert_eq!(ApiServer::dns_address(server.store.as_ref()), None);
    let server = server.restart((53, 53)).await;
    let expected = ("10.96.0.10".to_owned(), json!([53, 53]), json!([53, 53]));
    assert_eq!(seen(&server).await, expected);
    let service = server.get(SERVICE).await.body;
    assert_eq!(service["metadata"]["labels"]["k8s-app"], "kube-dns");
    let server = server.restart((40001, 40002)).await;
    let expected = (
        "10.96.0.10".to_owned(),
        json!([40001, 40002]),
        json!([40001, 40002]),
    );
    assert_eq!(seen(&server).await, expected);
}

#[tokio::test]
async fn an_address_that_is_taken_stays_with_who_has_it() {
    let server = Server::start().await;
    let web = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}});
    let made = server
        .ask("POST", "/api/v1/namespaces/default/services", web)
        .await;
    assert_eq!(made.code, 201, "{made:?}");
    let server = server.restart((53, 53)).await;
    let (address, ..) = seen(&server).await;
    assert!(
        address.starts_with("10.96.0.") && address != "10.96.0.10",
        "{address}"
    );
    let (again, ..) = seen(&server.restart((53, 53)).await).await;
    assert_eq!(again, address);
}
