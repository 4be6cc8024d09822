//! YAML in requests and answers.

use crate::support::{Answer, Server};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn ask(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    let headers = [
        ("content-type", "application/yaml"),
        ("accept", "application/yaml"),
    ];
    server
        .ask_as(method, path, Value::String(body.to_owned()), &headers)
        .await
}

/// An answer in YAML, read.
fn read(answer: &Answer) -> Value {
    assert_eq!(answer.media_type, "application/yaml", "{answer:?}");
    api::yaml::read(answer.text.as_bytes()).unwrap().value
}

#[tokio::test]
async fn objects_come_and_go_as_yaml() {
    let server = Server::start().await;
    let made = ask(
        &server,
        "POST",
        MAPS,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  mode: \"0644\"\n",
    )
    .await;
    assert_eq!(
        (made.code, &read(&made)["data"]["mode"]),
        (201, &json!("0644"))
    );
    let path = format!("{MAPS}/a");
    let got = ask(&server, "GET", &path, "").await;
    assert_eq!(read(&got), server.get(&path).await.body);

    let put = ask(
        &server,
        "PUT",
        &path,
        "metadata:\n  name: a\ndata: {k: v}\n",
    )
    .await;
    assert_eq!((put.code, &read(&put)["data"]), (200, &json!({"k": "v"})));
    let headers = [
        ("content-type", "application/merge-patch+json"),
        ("accept", "application/yaml"),
    ];
    let patch = json!({"data": {"k": null, "l": "w"}});
    let patched = server.ask_as("PATCH", &path, patch, &headers).await;
    assert_eq!(
        (patched.code, &read(&patched)["data"]),
        (200, &json!({"l": "w"}))
    );

    let list = ask(&server, "GET", MAPS, "").await;
    assert_eq!(read(&list)["kind"], "ConfigMapList");
    let gone = ask(&server, "DELETE", &path, "dryRun: [All]\n").await;
    assert_eq!(
        (gone.code, read(&gone)["kind"].as_str()),
        (200, Some("Status"))
    );
    let gone = ask(&server, "DELETE", &path, "").await;
    assert_eq!(read(&gone)["status"], "Success");
    let missing = ask(&server, "GET", &path, "").await;
    assert_eq!(
        (missing.code, read(&missing)["reason"].as_str()),
        (404, Some("NotFound"))
    );
    assert_eq!(
        read(&ask(&server, "GET", "/apis", "").await)["kind"],
        "APIGroupList"
    );
}

#[tokio::test]
async fn what_yaml_says_wrong_is_told() {
    let server = Server::start().await;
    let twice = "metadata: {name: a}\ndata:\n  k: v\n  k: w\n";
    let duplicate = "yaml: unmarshal errors:\n  line 4: key \"k\" already set in map";
    let rows = [
        (
            "",
            "data: [",
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: yaml: line 1: ",
        ),
        (
            "",
            "metadata: {name: a}\ndata: {k: yes}",
            400,
            "json: cannot unmarshal bool into Go struct field ConfigMap.data of type string",
        ),
        (
            "",
            "kind: Pod\nmetadata: {name: a}",
            400,
            "no kind \"Pod\" is registered here",
        ),
        ("?fieldValidation=Strict", twice, 400, duplicate),
        (
            "?fieldValidation=Strict",
            "metadata: {name: a}\nspec: 1",
            400,
            "strict decoding error: unknown field \"spec\"",
        ),
    ];
    for (query, body, code, message) in rows {
        let answer = ask(&server, "POST", &format!("{MAPS}{query}"), body).await;
        let told = read(&answer);
        let text = told["message"].as_str().unwrap();
        assert!(
            answer.code == code && text.contains(message),
            "{body}: {told}"
        );
    }
    let made = ask(&server, "POST", MAPS, twice).await;
    assert_eq!((made.code, &read(&made)["data"]["k"]), (201, &json!("w")));
    assert_eq!(made.warnings.len(), 1, "{:?}", made.warnings);
    assert!(
        made.warnings[0].contains("line 4: key \\\"k\\\" already set in map"),
        "{:?}",
        made.warnings
    );
}

#[tokio::test]
async fn watches_have_no_yaml() {
    let server = Server::start().await;
    let headers = [("accept", "application/yaml")];
    let path = format!("{MAPS}?watch=true");
    let refused = server.ask_as("GET", &path, Value::Null, &headers).await;
    assert_eq!(refused.code, 406);
    let told = read(&refused);
    assert_eq!(
        told["message"],
        "only the following media types are accepted: application/json"
    );
    let other = server
        .ask_as("GET", MAPS, Value::Null, &[("accept", "text/html")])
        .await;
    assert_eq!(
        other.message(),
        "only the following media types are accepted: application/json, application/yaml"
    );
    let unread = server
        .ask_as("POST", MAPS, json!({}), &[("content-type", "text/plain")])
        .await;
    assert_eq!(unread.code, 415);
    assert!(unread.message().contains("application/yaml"), "{unread:?}");
}
