//! Server-side apply, and who owns which fields after every kind of write.

use crate::support::{Answer, Server};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn apply(server: &Server, path: &str, body: Value) -> Answer {
    let headers = [("content-type", "application/apply-patch+yaml")];
    server.ask_as("PATCH", path, body, &headers).await
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

/// Manager, operation, subresource and fields of each entry.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries = entries.into_iter().flatten().map(|entry| {
        assert_eq!(entry["fieldsType"], "FieldsV1", "{entry}");
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        format!(
            "{} {} {} {}",
            text("manager"),
            text("operation"),
            text("subresource"),
            entry["fieldsV1"]
        )
    });
    entries.collect()
}

#[tokio::test]
async fn what_is_applied_is_made_merged_and_taken_out() {
    let server = Server::start().await;
    let path = format!("{MAPS}/a");
    let asked = format!("{path}?fieldManager=one");
    let made = apply(&server, &asked, map(json!({"k": "v", "l": "w"}))).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(
        owners(&made.body),
        [r#"one Apply  {"f:data":{"f:k":{},"f:l":{}}}"#]
    );
    assert!(made.meta("uid").len() == 36);

    let same = apply(&server, &asked, map(json!({"k": "v", "l": "w"}))).await;
    assert_eq!((same.code, &same.body), (200, &made.body));

    let yaml =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: z}}\ndata: {m: o}\n";
    let other = apply(&server, &format!("{path}?fieldManager=two"), yaml.into()).await;
    assert_eq!(other.body["data"], json!({"k": "v", "l": "w", "m": "o"}));

    let fewer = apply(&server, &asked, map(json!({"k": "u"}))).await;
    assert_eq!(fewer.body["data"], json!({"k": "u", "m": "o"}));
    assert_eq!(
        owners(&fewer.body),
        [
            r#"one Apply  {"f:data":{"f:k":{}}}"#,
            r#"two Apply  {"f:data":{"f:m":{}},"f:metadata":{"f:labels":{"f:x":{}}}}"#
        ]
    );

    let refused = apply(&server, &asked, map(json!({"k": "u", "m": "p"}))).await;
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "two": .data.m"#
    );
    assert_eq!(
        refused.body["details"],
        json!({"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"two\"", "field": ".data.m"}]})
    );
    let forced = format!("{asked}&force=true");
    let taken = apply(&server, &forced, map(json!({"k": "u", "m": "p"}))).await;
    assert_eq!(taken.body["data"], json!({"k": "u", "m": "p"}));
    assert_eq!(
        owners(&taken.body),
        [
            r#"one Apply  {"f:data":{"f:k":{},"f:m":{}}}"#,
            r#"two Apply  {"f:metadata":{"f:labels":{"f:x":{}}}}"#
        ]
    );
    let dry = apply(&server, &format!("{forced}&dryRun=All"), map(json!({}))).await;
    assert_eq!((dry.code, &dry.body["data"]), (200, &Value::Null));
    assert_eq!(server.get(&path).await.body, taken.body);
}

#[tokio::test]
async fn every_write_has_an_owner() {
    let server = Server::start().await;
    let agent = [
        ("user-agent", "editor/v1 (linux)"),
        ("content-type", "application/json"),
    ];
    let body = map(json!({"k": "v"}));
    let made = server.ask_as("POST", MAPS, body, &agent).await.body;
    let data = r#"{"f:data":{".":{},"f:k":{}}}"#;
    assert_eq!(owners(&made), [format!("editor Update  {data}")]);

    let path = format!("{MAPS}/a");
    let patch = json!({"data": {"l": "w"}});
    let asked = format!("{path}?fieldManager=patcher");
    let patched = server.ask("PATCH", &asked, patch.clone()).await.body;
    let patcher = r#"patcher Update  {"f:data":{"f:l":{}}}"#;
    assert_eq!(
        owners(&patched),
        [format!("editor Update  {data}"), patcher.into()]
    );
    // What changes nothing has no new owner and no new time.
    let again = server
        .ask("PATCH", &format!("{path}?fieldManager=other"), patch)
        .await;
    assert_eq!(again.body, patched);

    // A body without books does not lose them; an empty entry does.
    let mut whole = map(json!({"k": "u", "l": "w"}));
    let put = server
        .ask("PUT", &format!("{path}?fieldManager=putter"), whole.clone())
        .await;
    assert_eq!(
        owners(&put.body),
        [
            r#"editor Update  {"f:data":{}}"#,
            patcher,
            r#"putter Update  {"f:data":{"f:k":{}}}"#
        ]
    );
    whole["metadata"]["managedFields"] = json!([{}]);
    let cleared = server.ask("PUT", &path, whole.clone()).await;
    assert_eq!(owners(&cleared.body), Vec::<String>::new());
    whole["data"]["k"] = json!("t");
    let unkept = server.ask("PUT", &path, whole).await;
    assert_eq!(owners(&unkept.body), Vec::<String>::new());

    // The first to apply finds everything owned by who was there before.
    let refused = apply(
        &server,
        &format!("{path}?fieldManager=late"),
        map(json!({"k": "x"})),
    )
    .await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.k"#
    );
    // Clients may write the books, as kubectl does when it leaves applying to the server.
    let headers = [("content-type", "application/json-patch+json")];
    let books = json!([{"manager": "late", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:k": {}}}}]);
    let patch = json!([{"op": "add", "path": "/metadata/managedFields", "value": books}]);
    let moved = server.ask_as("PATCH", &path, patch, &headers).await;
    assert_eq!(
        owners(&moved.body),
        [r#"late Apply  {"f:data":{"f:k":{}}}"#]
    );
    let applied = apply(
        &server,
        &format!("{path}?fieldManager=late"),
        map(json!({"k": "x"})),
    )
    .await;
    assert_eq!(
        (applied.code, &applied.body["data"]["k"]),
        (200, &json!("x"))
    );
}

#[tokio::test]
async fn status_and_spec_are_owned_apart() {
    let server = Server::start().await;
    server
        .ask(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
    let containers = json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers},
        "status": {"phase": "Running"}});
    let path = format!("{PODS}/p");
    let made = apply(&server, &format!("{path}?fieldManager=one"), pod.clone()).await;
    assert_eq!(made.code, 201, "{made:?}");
    let spec = r#"one Apply  {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}"#;
    assert_eq!(owners(&made.body), [spec]);
    // Defaults belong to nobody.
    assert_eq!(
        made.body["spec"]["containers"][0]["ports"][0]["protocol"],
        "TCP"
    );

    let patch = json!({"status": {"message": "m", "conditions": [{"type": "T", "status": "True"}]}, "spec": {"hostname": "h"}});
    let asked = format!("{path}/status?fieldManager=agent");
    let said = server.ask("PATCH", &asked, patch).await;
    assert_eq!(
        (said.code, &said.body["spec"]["hostname"]),
        (200, &Value::Null),
        "{said:?}"
    );
    let owned = owners(&said.body);
    assert_eq!((owned.len(), owned[0].as_str()), (2, spec));
    assert!(
        owned[1].starts_with("agent Update status {\"f:status\":{\"f:conditions\":{"),
        "{owned:?}"
    );

    let mut status = pod;
    status["status"] = json!({"message": "n"});
    let asked = format!("{path}/status?fieldManager=two");
    let refused = apply(&server, &asked, status.clone()).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "agent" with subresource "status" using v1: .status.message"#
    );
    let applied = apply(&server, &format!("{asked}&force=1"), status.clone()).await;
    assert_eq!(applied.body["status"]["message"], "n");
    assert!(
        owners(&applied.body)
            .contains(&r#"two Apply status {"f:status":{"f:message":{}}}"#.to_owned())
    );

    status["metadata"]["name"] = json!("absent");
    let asked = format!("{PODS}/absent/status?fieldManager=two");
    assert_eq!(apply(&server, &asked, status).await.code, 404);
}

#[tokio::test]
async fn what_cannot_be_applied_is_told() {
    let server = Server::start().await;
    let path = format!("{MAPS}/a");
    let asked = format!("{path}?fieldManager=m");
    let with = |field: &str, value: Value| {
        let mut body = map(json!({}));
        body["metadata"][field] = value;
        body
    };
    let rows = [
        (
            path.clone(),
            map(json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            format!("{path}?fieldManager=a%01"),
            map(json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\x01\": invalid character U+0001 (at position 1)",
        ),
        (
            asked.clone(),
            json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "a"}}),
            400,
            "invalid object type: /v2, Kind=ConfigMap",
        ),
        (
            asked.clone(),
            with("managedFields", json!([{}])),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            asked.clone(),
            with("name", json!("b")),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            asked.clone(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "spec": {}}),
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .spec: field not declared in schema",
        ),
        (
            asked.clone(),
            json!("a: ["),
            400,
            "error decoding YAML: error converting YAML to JSON: yaml: line 1: ",
        ),
        (
            format!("{asked}&fieldValidation=Strict"),
            json!("apiVersion: v1\nkind: ConfigMap\nkind: ConfigMap\n"),
            400,
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 3: key \"kind\" already set in map",
        ),
        (
            asked.clone(),
            with("uid", json!("u")),
            409,
            "uid mismatch: the provided object specified uid u, and no existing object was found",
        ),
        (
            "/api/v1/namespaces/none/configmaps/a?fieldManager=m".to_owned(),
            map(json!({})),
            404,
            "namespaces \"none\" not found",
        ),
    ];
    for (path, body, code, message) in rows {
        let refused = apply(&server, &path, body).await;
        assert!(
            refused.code == code && refused.message().contains(message),
            "{message}: {refused:?}"
        );
    }
    let made = apply(&server, &asked, map(json!({"k": "v"}))).await;
    assert_eq!(made.code, 201);
    let stale = apply(&server, &asked, with("resourceVersion", json!("1"))).await;
    assert_eq!(stale.code, 409);
    let named = server
        .ask(
            "POST",
            &format!("{MAPS}?fieldManager={}", "x".repeat(129)),
            map(json!({})),
        )
        .await;
    assert_eq!(named.code, 422);
    assert!(
        named.message().contains("fieldManager: Too long"),
        "{named:?}"
    );
}
