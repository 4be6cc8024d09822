//! Watches: where they begin, what selectors make of changes, bookmarks and ends.

use serde_json::{Value, json};

use crate::support::Server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(server: &Server, name: &str, label: &str) -> Value {
    let body = json!({"metadata":{"name":name,"labels":{"l":label}}});
    server.ask("POST", MAPS, body).await.body
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn watches_begin_where_they_are_told() {
    let server = Server::start().await;
    let one = make(&server, "one", "x").await;
    make(&server, "two", "x").await;
    for from in ["", "&resourceVersion=0", "&resourceVersion="] {
        let mut all = server.watch(&format!("{MAPS}?watch=true{from}")).await;
        assert_eq!(
            (all.event().await, all.event().await),
            (pair("ADDED", "one"), pair("ADDED", "two"))
        );
    }
    let revision = one["metadata"]["resourceVersion"].as_str().unwrap();
    let mut later = server
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    assert_eq!(later.event().await, pair("ADDED", "two"));
    server
        .ask("PATCH", &format!("{MAPS}/one"), json!({"data":{"a":"b"}}))
        .await;
    let changed = later.next().await.unwrap();
    assert_eq!(
        (&changed["type"], &changed["object"]["data"]["a"]),
        (&json!("MODIFIED"), &json!("b"))
    );
    server
        .ask("DELETE", &format!("{MAPS}/one"), Value::Null)
        .await;
    let gone = later.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["uid"]),
        (&json!("DELETED"), &one["metadata"]["uid"])
    );
    let newest = server.get(MAPS).await;
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        newest.meta("resourceVersion")
    );
    let mut named = server
        .watch(&format!(
            "{MAPS}?watch=true&resourceVersion=0&fieldSelector=metadata.name%3Dtwo"
        ))
        .await;
    assert_eq!(named.event().await, pair("ADDED", "two"));
}

#[tokio::test]
async fn selectors_turn_leaving_into_deletion() {
    let server = Server::start().await;
    make(&server, "a", "x").await;
    let mut watch = server
        .watch(&format!("{MAPS}?watch=true&labelSelector=l%3Dx"))
        .await;
    assert_eq!(watch.event().await, pair("ADDED", "a"));
    make(&server, "b", "y").await;
    server
        .ask(
            "PATCH",
            &format!("{MAPS}/a"),
            json!({"metadata":{"labels":{"l":"y"}}}),
        )
        .await;
    let left = watch.next().await.unwrap();
    assert_eq!(
        (&left["type"], &left["object"]["metadata"]["labels"]["l"]),
        (&json!("DELETED"), &json!("x"))
    );
    let patched = server.get(&format!("{MAPS}/a")).await;
    assert_eq!(
        left["object"]["metadata"]["resourceVersion"],
        patched.meta("resourceVersion")
    );
    server
        .ask(
            "PATCH",
            &format!("{MAPS}/b"),
            json!({"metadata":{"labels":{"l":"x"}}}),
        )
        .await;
    assert_eq!(watch.event().await, pair("ADDED", "b"));
}

#[tokio::test]
async fn streaming_lists_end_in_a_bookmark() {
    let server = Server::start().await;
    make(&server, "a", "x").await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = server.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.event().await, pair("ADDED", "a"));
    let end = watch.next().await.unwrap();
    assert_eq!(
        (&end["type"], &end["object"]["kind"]),
        (&json!("BOOKMARK"), &json!("ConfigMap"))
    );
    assert_eq!(
        end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    make(&server, "b", "x").await;
    assert_eq!(watch.event().await, pair("ADDED", "b"));
    let refused = server
        .get(&format!("{MAPS}?watch=true&sendInitialEvents=true"))
        .await;
    let text = r#"ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"#;
    assert_eq!((refused.code, refused.message()), (422, text));
}

#[tokio::test]
async fn watches_end_in_time_by_age_and_with_the_server() {
    use ports::store::RevisionedStore;
    let server = Server::start().await;
    make(&server, "a", "x").await;
    let mut short = server
        .watch(&format!(
            "{MAPS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true"
        ))
        .await;
    assert_eq!(short.event().await, pair("ADDED", "a"));
    assert_eq!(short.event().await.0, "BOOKMARK");
    assert_eq!(short.next().await, None);
    let revision = server.store.revision();
    server.store.compact(revision).await.unwrap();
    let mut old = server
        .watch(&format!("{MAPS}?watch=true&resourceVersion=1"))
        .await;
    let error = old.next().await.unwrap();
    let text = format!("too old resource version: 1 ({revision})");
    assert_eq!(
        (
            &error["type"],
            &error["object"]["reason"],
            &error["object"]["message"]
        ),
        (&json!("ERROR"), &json!("Expired"), &json!(text))
    );
    assert_eq!(old.next().await, None);
    let mut open = server
        .watch(&format!("{MAPS}?watch=true&resourceVersion={revision}"))
        .await;
    server.api.stop();
    assert_eq!(open.next().await, None);
}
