//! PriorityClasses and the Pods that are of them.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A Pod with this in its spec.
async fn pod(server: &Server, name: &str, more: Value) -> Answer {
    let account = json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.ask("POST", accounts, account).await;
    let mut spec =
        json!({"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": false});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let body = json!({"metadata": {"name": name}, "spec": spec});
    server.ask("POST", PODS, body).await
}

async fn class(server: &Server, name: &str, more: Value) -> Answer {
    let mut body = json!({"metadata": {"name": name}, "value": 7});
    for (field, value) in more.as_object().into_iter().flatten() {
        body[field] = value.clone();
    }
    server.ask("POST", CLASSES, body).await
}

fn taken_over(answer: &Answer) -> [Value; 3] {
    let spec = &answer.body["spec"];
    ["priorityClassName", "priority", "preemptionPolicy"].map(|field| spec[field].clone())
}

#[tokio::test]
async fn the_system_has_its_classes() {
    let server = Server::start().await;
    let listed = server.get(CLASSES).await;
    let items = listed.body["items"].as_array().expect("a list");
    let seen: Vec<Value> = items
        .iter()
        .map(|class| {
            json!([
                class["metadata"]["name"],
                class["value"],
                class["preemptionPolicy"],
                class["metadata"]["generation"]
            ])
        })
        .collect();
    let wanted = [
        json!([
            "system-cluster-critical",
            2_000_000_000,
            "PreemptLowerPriority",
            1
        ]),
        json!([
            "system-node-critical",
            2_000_001_000,
            "PreemptLowerPriority",
            1
        ]),
    ];
    assert_eq!(seen, wanted);
    let critical = pod(
        &server,
        "a",
        json!({"priorityClassName": "system-node-critical"}),
    )
    .await;
    let wanted = [
        json!("system-node-critical"),
        json!(2_000_001_000),
        json!("PreemptLowerPriority"),
    ];
    assert_eq!(taken_over(&critical), wanted);
}

#[tokio::test]
async fn pods_take_over_from_their_class() {
    let server = Server::start().await;
    let made = class(&server, "quiet", json!({"preemptionPolicy": "Never"})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let quiet = pod(&server, "a", json!({"priorityClassName": "quiet"})).await;
    assert_eq!(
        taken_over(&quiet),
        [json!("quiet"), json!(7), json!("Never")]
    );
    let plain = pod(&server, "b", json!({})).await;
    assert_eq!(
        taken_over(&plain),
        [Value::Null, json!(0), json!("PreemptLowerPriority")]
    );
    let unknown = pod(&server, "c", json!({"priorityClassName": "none"})).await;
    let text = "pods \"c\" is forbidden: no PriorityClass with name none was found";
    assert_eq!((unknown.code, unknown.message()), (403, text));
    let other = pod(
        &server,
        "d",
        json!({"priorityClassName": "quiet", "priority": 8}),
    )
    .await;
    let text = "pods \"d\" is forbidden: the integer value of priority (8) must not be provided in pod spec; priority admission \
                controller computed 7 from the given PriorityClass name";
    assert_eq!((other.code, other.message()), (403, text));
}

#[tokio::test]
async fn one_class_is_for_pods_that_name_none() {
    let server = Server::start().await;
    let is_default = json!({"globalDefault": true});
    assert_eq!(class(&server, "first", is_default.clone()).await.code, 201);
    let second = class(&server, "second", is_default.clone()).await;
    let text = "priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass first is already marked as default. Only one \
                default can exist";
    assert_eq!((second.code, second.message()), (403, text));
    assert_eq!(class(&server, "second", json!({})).await.code, 201);
    let path = format!("{CLASSES}/second");
    let patched = server.ask("PATCH", &path, is_default).await;
    assert_eq!((patched.code, patched.message()), (403, text));
    let first = format!("{CLASSES}/first");
    let described = server
        .ask("PATCH", &first, json!({"description": "d"}))
        .await;
    assert_eq!(described.code, 200, "{described:?}");
    let plain = pod(&server, "a", json!({})).await;
    assert_eq!(
        taken_over(&plain),
        [json!("first"), json!(7), json!("PreemptLowerPriority")]
    );
}
