//! Evictions that ask a disruption budget.

use serde_json::{Value, json};

use crate::pods::pod;
use crate::support::{Answer, Server};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// A running Pod `app: web`.
async fn running(server: &Server, name: &str, is_ready: bool) {
    pod(server, name).await;
    let labels = json!({"metadata":{"labels":{"app":"web"}}});
    let labelled = server.ask("PATCH", &format!("{PODS}/{name}"), labels).await;
    assert_eq!(labelled.code, 200, "{labelled:?}");
    let ready = if is_ready { "True" } else { "False" };
    let status =
        json!({"status":{"phase":"Running","conditions":[{"type":"Ready","status":ready}]}});
    let path = format!("{PODS}/{name}/status");
    assert_eq!(server.ask("PATCH", &path, status).await.code, 200);
}

async fn budget(server: &Server, name: &str) {
    let spec = json!({"minAvailable":1,"selector":{"matchLabels":{"app":"web"}}});
    let made = json!({"metadata":{"name":name},"spec":spec});
    let made = server.ask("POST", BUDGETS, made).await;
    assert_eq!(made.code, 201, "{made:?}");
}

/// Writes what the controller would have counted.
async fn count(server: &Server, allowed: i32, healthy: i32) {
    let status = json!({"status":{"observedGeneration":1,"disruptionsAllowed":allowed,"currentHealthy":healthy,"desiredHealthy":1,"expectedPods":2}});
    let path = format!("{BUDGETS}/web/status");
    let counted = server.ask("PATCH", &path, status).await;
    assert_eq!(counted.code, 200, "{counted:?}");
}

async fn evict(server: &Server, name: &str, options: Value) -> Answer {
    let body = json!({"metadata":{"name":name},"deleteOptions":options});
    server
        .ask("POST", &format!("{PODS}/{name}/eviction"), body)
        .await
}

fn assert_blocked(answer: &Answer, why: &str, seconds: Value) {
    assert_eq!((answer.code, answer.message()), (429, VIOLATES));
    let details = &answer.body["details"];
    assert_eq!(
        details["causes"],
        json!([{"reason": "DisruptionBudget", "message": why}])
    );
    assert_eq!(details["retryAfterSeconds"], seconds);
}

#[tokio::test]
async fn an_eviction_takes_from_the_budget_or_is_refused() {
    let server = Server::start().await;
    running(&server, "a", true).await;
    running(&server, "b", true).await;
    budget(&server, "web").await;
    let early = evict(&server, "a", json!({})).await;
    let why = "The disruption budget web is still being processed by the server.";
    assert_blocked(&early, why, json!(10));
    count(&server, 1, 2).await;
    let dry = evict(&server, "a", json!({"dryRun":["All"]})).await;
    assert_eq!(dry.code, 201, "{dry:?}");
    // Both are asked for at the same time, and only one is allowed.
    let (a, b) = tokio::join!(
        evict(&server, "a", json!({})),
        evict(&server, "b", json!({}))
    );
    let (evicted, refused) = if a.code == 201 { (a, b) } else { (b, a) };
    assert_eq!(evicted.code, 201, "{evicted:?}");
    // The status it was left with still counts the Pod that goes.
    let why = "The disruption budget web does not allow evicting pods currently";
    assert_blocked(&refused, why, Value::Null);
    let left = server.get(PODS).await.body["items"].clone();
    let left = left.as_array().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    let status = server.get(&format!("{BUDGETS}/web")).await.body["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    let noted = status["disruptedPods"].as_object().unwrap();
    let gone = if left[0]["metadata"]["name"] == "a" {
        "b"
    } else {
        "a"
    };
    assert!(noted.len() == 1 && noted.contains_key(gone), "{status}");
    let condition = &status["conditions"][0];
    assert_eq!(condition["reason"], "InsufficientPods", "{condition}");
    count(&server, 0, 1).await;
    let last = left[0]["metadata"]["name"].as_str().unwrap();
    let refused = evict(&server, last, json!({})).await;
    let why = "The disruption budget web needs 1 healthy pods and has 1 currently";
    assert_blocked(&refused, why, Value::Null);
}

#[tokio::test]
async fn who_is_not_ready_costs_nothing() {
    let server = Server::start().await;
    running(&server, "a", true).await;
    running(&server, "b", false).await;
    budget(&server, "web").await;
    count(&server, 0, 0).await;
    assert_eq!(evict(&server, "b", json!({})).await.code, 429);
    let policy = json!({"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}});
    let path = format!("{BUDGETS}/web");
    assert_eq!(server.ask("PATCH", &path, policy).await.code, 200);
    assert_eq!(evict(&server, "b", json!({})).await.code, 201);
    assert_eq!(server.get(&format!("{PODS}/b")).await.code, 404);
    assert_eq!(evict(&server, "a", json!({})).await.code, 429);
    // One that does not run yet is nobody's loss.
    pod(&server, "c").await;
    assert_eq!(evict(&server, "c", json!({})).await.code, 201);
    let status = server.get(&path).await.body["status"].clone();
    assert_eq!(status["disruptedPods"], Value::Null, "{status}");
}

#[tokio::test]
async fn two_budgets_are_one_too_many() {
    let server = Server::start().await;
    running(&server, "a", true).await;
    budget(&server, "web").await;
    budget(&server, "other").await;
    let refused = evict(&server, "a", json!({})).await;
    let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!((refused.code, refused.message()), (500, why));
    assert_eq!(refused.body["reason"], Value::Null);
    assert_eq!(server.get(&format!("{PODS}/a")).await.code, 200);
}
