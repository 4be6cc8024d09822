//! Autoscalers: objects of two versions.

use serde_json::{Value, json};

use crate::support::Server;

const OLD: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const NEW: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

fn autoscaler(version: &str, more: Value) -> Value {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let mut spec = json!({"scaleTargetRef": target, "maxReplicas": 3});
    for (name, value) in more.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec})
}

#[tokio::test]
async fn an_autoscaler_is_shown_in_either_version() {
    let server = Server::start().await;
    let groups = server.get("/apis/autoscaling").await.body;
    assert_eq!(groups["preferredVersion"]["version"], "v2");
    let old = autoscaler("v1", json!({"targetCPUUtilizationPercentage": 60}));
    let made = server.ask("POST", OLD, old).await;
    assert_eq!(
        (made.code, &made.body["apiVersion"]),
        (201, &json!("autoscaling/v1"))
    );
    let percent = |body: &Value| {
        body["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"].clone()
    };
    let shown = server.get(&format!("{NEW}/web")).await.body;
    assert_eq!(
        (percent(&shown), &shown["spec"]["minReplicas"]),
        (json!(60), &json!(1))
    );
    assert_eq!(shown["metadata"]["uid"], made.body["metadata"]["uid"]);

    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 70}});
    let patched = server.ask("PATCH", &format!("{OLD}/web"), patch).await;
    assert_eq!(patched.code, 200, "{}", patched.message());
    let listed = server.get(NEW).await.body;
    assert_eq!(
        (percent(&listed["items"][0]), &listed["kind"]),
        (json!(70), &json!("HorizontalPodAutoscalerList"))
    );

    let mut changed = shown.clone();
    changed["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    changed["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 5}});
    let put = server.ask("PUT", &format!("{NEW}/web"), changed).await;
    assert_eq!(put.code, 200, "{}", put.message());
    let old = server.get(&format!("{OLD}/web")).await.body;
    let behavior =
        old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"].as_str();
    assert!(
        behavior.is_some_and(|b| b.contains(r#""StabilizationWindowSeconds":5"#)),
        "{old}"
    );
}

#[tokio::test]
async fn a_status_is_written_in_either_version() {
    let server = Server::start().await;
    let mut new = autoscaler("v2", json!({}));
    new["status"] = json!({"currentReplicas": 9, "desiredReplicas": 9});
    let made = server.ask("POST", NEW, new).await.body;
    assert!(made["status"]["currentReplicas"].is_null(), "{made}");
    let status =
        json!({"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 12});
    let patch = json!({"spec": {"maxReplicas": 99}, "status": status});
    let patched = server
        .ask("PATCH", &format!("{OLD}/web/status"), patch)
        .await;
    assert_eq!(patched.code, 200, "{}", patched.message());
    let shown = server.get(&format!("{NEW}/web")).await.body;
    assert_eq!(shown["spec"]["maxReplicas"], 3);
    assert_eq!(
        (
            &shown["status"]["currentReplicas"],
            &shown["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"]
        ),
        (&json!(2), &json!(12))
    );
    let wrong = json!({"status": {"currentReplicas": -1, "desiredReplicas": 0}});
    let refused = server
        .ask("PATCH", &format!("{NEW}/web/status"), wrong)
        .await;
    assert_eq!(refused.code, 422);
    assert!(
        refused.message().ends_with(
            "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0"
        ),
        "{}",
        refused.message()
    );
    let gone = server.ask("DELETE", &format!("{OLD}/web"), json!({})).await;
    assert_eq!(gone.code, 200);
    assert_eq!(server.get(&format!("{NEW}/web")).await.code, 404);
}
