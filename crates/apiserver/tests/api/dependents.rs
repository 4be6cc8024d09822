//! The finalizers of a deletion that says what becomes of dependents.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn make(server: &Server, name: &str, finalizers: &[&str]) {
    let body = json!({"metadata": {"name": name, "finalizers": finalizers}});
    assert_eq!(server.ask("POST", MAPS, body).await.code, 201, "{name}");
}

async fn delete(server: &Server, path: &str, policy: &str) -> Answer {
    let body = match policy {
        "" => Value::Null,
        policy => json!({"propagationPolicy": policy}),
    };
    server.ask("DELETE", path, body).await
}

#[tokio::test]
async fn a_deletion_says_what_becomes_of_dependents() {
    let server = Server::start().await;
    let path = format!("{MAPS}/a");
    for (old, policies, left) in [
        (&[][..], &["Orphan"][..], json!(["orphan"])),
        (&[], &["Foreground"], json!(["foregroundDeletion"])),
        (&[], &["Foreground", ""], json!(["foregroundDeletion"])),
        (&[], &["Foreground", "Orphan"], json!(["orphan"])),
        (&["orphan"], &["Foreground"], json!(["foregroundDeletion"])),
        (&["a/b"], &["Orphan", "Background"], json!(["a/b"])),
        (&["orphan"], &[""], json!(["orphan"])),
        (&["orphan"], &["Background"], Value::Null),
        (&[], &["Orphan", "Background"], Value::Null),
    ] {
        make(&server, "a", old).await;
        for policy in policies {
            assert_eq!(delete(&server, &path, policy).await.code, 200);
        }
        let found = server.get(&path).await;
        assert_eq!(found.body["metadata"]["finalizers"], left, "{policies:?}");
        assert_eq!(found.code == 404, left.is_null(), "{policies:?}");
        let free = json!({"metadata": {"finalizers": null}});
        server.ask("PATCH", &path, free).await;
        assert_eq!(server.get(&path).await.code, 404, "{policies:?}");
    }
}

#[tokio::test]
async fn all_of_a_collection_wait_for_their_dependents() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        make(&server, name, &[]).await;
    }
    assert_eq!(delete(&server, MAPS, "Foreground").await.code, 200);
    for item in server.get(MAPS).await.body["items"].as_array().unwrap() {
        let metadata = &item["metadata"];
        assert_eq!(metadata["finalizers"], json!(["foregroundDeletion"]));
        assert!(metadata["deletionTimestamp"].is_string());
    }
    assert_eq!(delete(&server, MAPS, "Background").await.code, 200);
    assert_eq!(server.get(MAPS).await.body["items"], json!([]));
}

#[tokio::test]
async fn a_pod_in_its_grace_keeps_its_finalizers() {
    let server = Server::start().await;
    let path = format!("{PODS}/a");
    let account = json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.ask("POST", accounts, account).await;
    let pod = json!({"metadata": {"name": "a"}, "spec": {
        "nodeName": "n", "containers": [{"name": "a", "image": "a"}]}});
    assert_eq!(server.ask("POST", PODS, pod).await.code, 201);
    let finalizers = async || server.get(&path).await.body["metadata"]["finalizers"].take();
    delete(&server, &path, "Foreground").await;
    assert_eq!(finalizers().await, json!(["foregroundDeletion"]));
    delete(&server, &path, "Orphan").await;
    assert_eq!(finalizers().await, json!(["foregroundDeletion"]));
    let sooner = json!({"gracePeriodSeconds": 5, "propagationPolicy": "Orphan"});
    server.ask("DELETE", &path, sooner).await;
    assert_eq!(finalizers().await, json!(["orphan"]));
    let now = json!({"gracePeriodSeconds": 0});
    server.ask("DELETE", &path, now).await;
    assert_eq!(finalizers().await, json!(["orphan"]));
    let free = json!({"metadata": {"finalizers": null}});
    server.ask("PATCH", &path, free).await;
    assert_eq!(server.get(&path).await.code, 404);
}
