//! Services: the ports of the node they are given, keep and give back.

use serde_json::{Value, json};

use crate::support::Server;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn node_port(name: &str, ports: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": ports}})
}

#[tokio::test]
async fn node_ports_are_given_kept_and_given_back() {
    let server = Server::start().await;
    let made = server
        .ask("POST", SERVICES, node_port("web", json!([{"port": 80}])))
        .await;
    let port = made.body["spec"]["ports"][0]["nodePort"].clone();
    assert!(
        port.as_u64()
            .is_some_and(|port| (30000..32768).contains(&port)),
        "{made:?}"
    );
    let web = format!("{SERVICES}/web");
    let mut again = node_port("web", json!([{"port": 80}]));
    again["metadata"]["resourceVersion"] = made.body["metadata"]["resourceVersion"].clone();
    let kept = server.ask("PUT", &web, again).await;
    assert_eq!(kept.body["spec"]["ports"][0]["nodePort"], port);

    let same = node_port("other", json!([{"port": 80, "nodePort": port}]));
    let refused = server.ask("POST", SERVICES, same.clone()).await;
    let text = format!(
        r#"Service "other" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"#
    );
    assert_eq!((refused.code, refused.message()), (422, text.as_str()));
    let outside = node_port("other", json!([{"port": 80, "nodePort": 80}]));
    let refused = server.ask("POST", SERVICES, outside).await;
    let text = r#"Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"#;
    assert_eq!((refused.code, refused.message()), (422, text));

    let patch = json!({"spec": {"type": "ClusterIP"}});
    let patched = server.ask("PATCH", &web, patch).await;
    let spec = &patched.body["spec"];
    assert_eq!(
        (
            &spec["ports"][0]["nodePort"],
            &spec["externalTrafficPolicy"]
        ),
        (&Value::Null, &Value::Null),
        "{patched:?}"
    );
    assert_eq!(server.ask("POST", SERVICES, same.clone()).await.code, 201);
    server
        .ask("DELETE", &format!("{SERVICES}/other"), Value::Null)
        .await;
    assert_eq!(server.ask("POST", SERVICES, same).await.code, 201);
}

#[tokio::test]
async fn a_balancer_for_local_traffic_gets_a_port_for_health_checks() {
    let server = Server::start().await;
    let balancer = |name: &str, port: Value| {
        json!({"metadata": {"name": name}, "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port,
            "selector": {"a": "b"}, "ports": [{"port": 80}]}})
    };
    let made = server
        .ask("POST", SERVICES, balancer("web", Value::Null))
        .await;
    let port = made.body["spec"]["healthCheckNodePort"].clone();
    assert!(port.as_u64().is_some_and(|port| port >= 30000), "{made:?}");
    assert_ne!(port, made.body["spec"]["ports"][0]["nodePort"]);
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let patched = server.ask("PATCH", &format!("{SERVICES}/web"), patch).await;
    assert_eq!(patched.body["spec"]["healthCheckNodePort"], port);

    let refused = server
        .ask("POST", SERVICES, balancer("other", port.clone()))
        .await;
    let text = format!(
        "Internal error occurred: failed to allocate requested HealthCheck NodePort {port}: provided port is already allocated"
    );
    assert_eq!((refused.code, refused.message()), (500, text.as_str()));
    let taken = node_port("other", json!([{"port": 80, "nodePort": port}]));
    assert_eq!(server.ask("POST", SERVICES, taken.clone()).await.code, 422);

    let patch = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
    let patched = server.ask("PATCH", &format!("{SERVICES}/web"), patch).await;
    assert_eq!(patched.body["spec"]["healthCheckNodePort"], Value::Null);
    assert_eq!(server.ask("POST", SERVICES, taken).await.code, 201);
}
