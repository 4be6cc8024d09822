//! Objects over the router: create, update, patch, delete, lists, with upstream's codes and texts.

use crate::support::Server;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, labels: Value) -> Value {
    json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":name,"labels":labels},"data":{"k":"v"}})
}

#[tokio::test]
async fn create_fills_metadata_and_refuses_with_upstreams_words() {
    let server = Server::start().await;
    let made = server.ask("POST", MAPS, map("a", json!({}))).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(
        (made.body["kind"].as_str(), made.body["apiVersion"].as_str()),
        (Some("ConfigMap"), Some("v1"))
    );
    assert_eq!(
        (made.meta("name"), made.meta("namespace")),
        ("a", "default")
    );
    assert!(made.meta("uid").len() == 36 && made.meta("creationTimestamp").ends_with('Z'));
    assert_eq!(server.get(&format!("{MAPS}/a")).await.body, made.body);
    for (path, body, code, message) in [
        (
            MAPS,
            map("a", json!({})),
            409,
            r#"configmaps "a" already exists"#,
        ),
        (
            "/api/v1/namespaces/none/configmaps",
            map("a", json!({})),
            404,
            r#"namespaces "none" not found"#,
        ),
        (
            MAPS,
            json!({"metadata":{"name":"x","namespace":"other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            MAPS,
            json!({"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"x"}}),
            400,
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            MAPS,
            json!({"metadata":{}}),
            422,
            r#"ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required"#,
        ),
        (
            MAPS,
            json!({"metadata":{"name":"x","resourceVersion":"1"}}),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "/api/v1/configmaps",
            map("a", json!({})),
            405,
            r#"create is not supported on resources of kind "configmaps""#,
        ),
    ] {
        let answer = server.ask("POST", path, body).await;
        assert_eq!((answer.code, answer.message()), (code, message));
    }
    let missing = server.get(&format!("{MAPS}/zz")).await;
    assert_eq!(missing.message(), r#"configmaps "zz" not found"#);
    assert_eq!(
        missing.body["details"],
        json!({"name":"zz","kind":"configmaps"})
    );
    assert_eq!(server.get("/apis/nothing/v1/things").await.code, 404);
}

#[tokio::test]
async fn generated_names_end_in_five_letters() {
    let server = Server::start().await;
    let body = json!({"metadata":{"generateName":"web-"}});
    let (one, two) = (
        server.ask("POST", MAPS, body.clone()).await,
        server.ask("POST", MAPS, body).await,
    );
    assert!(
        one.meta("name").starts_with("web-") && one.meta("name").len() == 9,
        "{one:?}"
    );
    assert_ne!(one.meta("name"), two.meta("name"));
}

#[tokio::test]
async fn unknown_fields_are_judged_as_asked() {
    let server = Server::start().await;
    let body = json!({"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"foo":1});
    let strict = server
        .ask(
            "POST",
            &format!("{MAPS}?fieldValidation=Strict"),
            body.clone(),
        )
        .await;
    let text = r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo""#;
    assert_eq!((strict.code, strict.message()), (400, text));
    let warn = server.ask("POST", MAPS, body.clone()).await;
    assert_eq!(
        (warn.code, warn.warnings.as_slice()),
        (
            201,
            [r#"299 - "unknown field \"foo\"""#.to_owned()].as_slice()
        )
    );
    assert_eq!(warn.body["foo"], Value::Null);
    let wrong = server
        .ask("POST", &format!("{MAPS}?fieldValidation=Nope"), body)
        .await;
    assert_eq!(wrong.code, 422, "{wrong:?}");
}

#[tokio::test]
async fn updates_check_versions_and_skip_what_changes_nothing() {
    let server = Server::start().await;
    let made = server.ask("POST", MAPS, map("a", json!({}))).await.body;
    let path = format!("{MAPS}/a");
    let mut changed = made.clone();
    changed["data"] = json!({"k":"other"});
    let updated = server.ask("PUT", &path, changed.clone()).await;
    assert_eq!(
        (updated.code, &updated.body["data"]["k"]),
        (200, &json!("other"))
    );
    assert_ne!(
        updated.meta("resourceVersion"),
        made["metadata"]["resourceVersion"]
    );
    assert_eq!(updated.meta("uid"), made["metadata"]["uid"]);
    let stale = server.ask("PUT", &path, made).await;
    let text = r#"Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#;
    assert_eq!((stale.code, stale.message()), (409, text));
    let again = server
        .ask(
            "PUT",
            &path,
            map("a", json!({}))
                .as_object()
                .map(|_| updated.body.clone())
                .unwrap(),
        )
        .await;
    assert_eq!(
        again.meta("resourceVersion"),
        updated.meta("resourceVersion")
    );
    let named = server.ask("PUT", &path, map("b", json!({}))).await;
    assert_eq!(
        named.message(),
        "the name of the object (b) does not match the name on the URL (a)"
    );
    let mut any = updated.body.clone();
    any["metadata"]["resourceVersion"] = json!("0");
    assert_eq!(server.ask("PUT", &path, any).await.code, 200);
    let dry = server
        .ask(
            "PUT",
            &format!("{path}?dryRun=All"),
            json!({"metadata":{"name":"a"},"data":{"k":"dry"}}),
        )
        .await;
    assert_eq!((dry.code, &dry.body["data"]["k"]), (200, &json!("dry")));
    assert_eq!(server.get(&path).await.body["data"]["k"], "other");
}

#[tokio::test]
async fn some_kinds_are_updated_by_version_only() {
    let server = Server::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |holder: &str, revision: &str| {
        let metadata = json!({"name": "l", "resourceVersion": revision});
        json!({"metadata": metadata, "spec": {"holderIdentity": holder}})
    };
    let made = server.ask("POST", leases, lease("a", "")).await;
    assert_eq!(made.code, 201, "{made:?}");
    let path = format!("{leases}/l");
    let text = r#"Lease.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"#;
    for none in ["", "0"] {
        let refused = server.ask("PUT", &path, lease("b", none)).await;
        assert_eq!((refused.code, refused.message()), (422, text));
    }
    let revision = made.meta("resourceVersion").to_owned();
    let updated = server.ask("PUT", &path, lease("b", &revision)).await;
    assert_eq!(updated.code, 200, "{updated:?}");
    let patch = json!({"spec": {"holderIdentity": "c"}});
    let patched = server.ask("PATCH", &path, patch).await;
    assert_eq!(patched.body["spec"]["holderIdentity"], "c", "{patched:?}");
}

#[tokio::test]
async fn four_ways_to_patch() {
    let server = Server::start().await;
    server.ask("POST", MAPS, map("a", json!({"one":"1"}))).await;
    let path = format!("{MAPS}/a");
    for (kind, body, code) in [
        (
            "application/merge-patch+json",
            json!({"metadata":{"labels":{"two":"2"}}}),
            200,
        ),
        (
            "application/strategic-merge-patch+json",
            json!({"metadata":{"labels":{"one":null}}}),
            200,
        ),
        (
            "application/json-patch+json",
            json!([{"op":"add","path":"/data/x","value":"y"}]),
            200,
        ),
        (
            "application/json-patch+json",
            json!([{"op":"test","path":"/data/x","value":"z"}]),
            422,
        ),
        (
            "application/merge-patch+json",
            json!({"metadata":{"resourceVersion":"1"}}),
            409,
        ),
        (
            "application/merge-patch+json",
            json!({"metadata":{"name":"b"}}),
            400,
        ),
        ("text/plain", json!({}), 415),
    ] {
        let answer = server
            .ask_as("PATCH", &path, body, &[("content-type", kind)])
            .await;
        assert_eq!(answer.code, code, "{kind} {answer:?}");
    }
    let now = server.get(&path).await;
    assert_eq!(
        (&now.body["metadata"]["labels"], &now.body["data"]),
        (&json!({"two":"2"}), &json!({"k":"v","x":"y"}))
    );
    let empty = server
        .ask_as(
            "PATCH",
            &path,
            json!({}),
            &[("content-type", "application/merge-patch+json")],
        )
        .await;
    assert_eq!(empty.meta("resourceVersion"), now.meta("resourceVersion"));
}

#[tokio::test]
async fn lists_select_and_page() {
    let server = Server::start().await;
    for n in 0..5 {
        server
            .ask(
                "POST",
                MAPS,
                map(&format!("m{n}"), json!({"even": (n % 2 == 0).to_string()})),
            )
            .await;
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = server.get(MAPS).await.body;
    assert_eq!(
        (all["kind"].as_str(), names(&all).len()),
        (Some("ConfigMapList"), 5)
    );
    let even = server
        .get(&format!("{MAPS}?labelSelector=even%3Dtrue&limit=2"))
        .await
        .body;
    assert_eq!(names(&even), ["m0", "m2"]);
    let one = server
        .get("/api/v1/configmaps?fieldSelector=metadata.name%3Dm3")
        .await
        .body;
    assert_eq!(names(&one), ["m3"]);
    let first = server.get(&format!("{MAPS}?limit=2")).await.body;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["m0".to_owned(), "m1".into()], &json!(3))
    );
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = server
        .get(&format!("{MAPS}?limit=500&continue={token}"))
        .await
        .body;
    assert_eq!(names(&rest), ["m2", "m3", "m4"]);
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    for (query, code, text) in [
        (
            "fieldSelector=foo.bar%3Dx",
            400,
            "field label not supported: foo.bar",
        ),
        (
            "resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        ("labelSelector=a+b", 400, "unable to parse requirement"),
        (
            "resourceVersion=999999&resourceVersionMatch=NotOlderThan",
            504,
            "Too large resource version: 999999",
        ),
    ] {
        let answer = server.get(&format!("{MAPS}?{query}")).await;
        assert!(
            answer.code == code && answer.message().contains(text),
            "{query} {answer:?}"
        );
    }
}

#[tokio::test]
async fn deletion_waits_for_finalizers() {
    let server = Server::start().await;
    let path = format!("{MAPS}/a");
    let mut held = map("a", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.ask("POST", MAPS, held).await;
    let marked = server.ask("DELETE", &path, Value::Null).await;
    assert_eq!(
        (marked.code, marked.body["kind"].as_str()),
        (200, Some("ConfigMap"))
    );
    assert!(!marked.meta("deletionTimestamp").is_empty());
    let patch = json!({"metadata":{"finalizers":null}});
    assert_eq!(server.ask("PATCH", &path, patch).await.code, 200);
    assert_eq!(server.get(&path).await.code, 404);
    server.ask("POST", MAPS, map("b", json!({}))).await;
    let wrong = server
        .ask(
            "DELETE",
            &format!("{MAPS}/b"),
            json!({"preconditions":{"uid":"x"}}),
        )
        .await;
    assert!(
        wrong.code == 409
            && wrong
                .message()
                .contains("the UID in the precondition (x) does not match"),
        "{wrong:?}"
    );
    let gone = server
        .ask(
            "DELETE",
            &format!("{MAPS}/b"),
            json!({"propagationPolicy":"Background"}),
        )
        .await;
    assert_eq!(
        (
            gone.code,
            gone.body["status"].as_str(),
            gone.body["details"]["kind"].as_str()
        ),
        (200, Some("Success"), Some("configmaps"))
    );
    for n in 0..3 {
        server
            .ask("POST", MAPS, map(&format!("c{n}"), json!({})))
            .await;
    }
    let all = server.ask("DELETE", MAPS, Value::Null).await;
    assert_eq!(
        (all.code, all.body["items"].as_array().map(Vec::len)),
        (200, Some(3))
    );
    assert_eq!(server.get(MAPS).await.body["items"], json!([]));
}

#[tokio::test]
async fn services_get_addresses_and_events_have_two_forms() {
    let server = Server::start().await;
    let kubernetes = server
        .get("/api/v1/namespaces/default/services/kubernetes")
        .await
        .body;
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let endpoints = server
        .get("/api/v1/namespaces/default/endpoints/kubernetes")
        .await
        .body;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.1");
    let body =
        json!({"metadata":{"name":"web"},"spec":{"selector":{"a":"b"},"ports":[{"port":80}]}});
    let web = server
        .ask("POST", "/api/v1/namespaces/default/services", body)
        .await;
    assert!(
        web.body["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .starts_with("10.96.0."),
        "{web:?}"
    );
    let body = json!({"metadata":{"name":"e"},"regarding":{"kind":"Pod","name":"p","namespace":"default"},"note":"n","reason":"R",
        "action":"A","type":"Normal","eventTime":"2026-01-01T00:00:00.000000Z","reportingController":"c.io/x","reportingInstance":"i"});
    let made = server
        .ask(
            "POST",
            "/apis/events.k8s.io/v1/namespaces/default/events",
            body,
        )
        .await;
    assert_eq!(
        (made.code, &made.body["note"]),
        (201, &json!("n")),
        "{made:?}"
    );
    let core = server
        .get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp")
        .await
        .body;
    assert_eq!(
        (
            &core["items"][0]["message"],
            &core["items"][0]["apiVersion"]
        ),
        (&json!("n"), &json!("v1"))
    );
    let listed = server
        .get("/apis/events.k8s.io/v1/namespaces/default/events")
        .await
        .body;
    assert_eq!(
        (
            &listed["items"][0]["note"],
            &listed["items"][0]["apiVersion"]
        ),
        (&json!("n"), &json!("events.k8s.io/v1"))
    );
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let server = Server::start().await;
    let body = Value::String("x".repeat(3 * 1024 * 1024 + 1));
    let answer = server.ask("POST", MAPS, body).await;
    assert_eq!(
        (answer.code, answer.message()),
        (413, "Request entity too large: limit is 3145728")
    );
}

#[tokio::test]
async fn tables_are_made_for_who_asks() {
    let server = Server::start().await;
    server.ask("POST", MAPS, map("a", json!({}))).await;
    let accept = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let table = server.ask_as("GET", MAPS, Value::Null, &accept).await.body;
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    assert_eq!(
        table["columnDefinitions"].as_array().unwrap().len(),
        table["rows"][0]["cells"].as_array().unwrap().len()
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(
        !table["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .is_empty()
    );
    let one = server
        .ask_as(
            "GET",
            &format!("{MAPS}/a?includeObject=Object"),
            Value::Null,
            &accept,
        )
        .await
        .body;
    assert_eq!(one["rows"][0]["object"]["data"]["k"], "v");
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    )];
    let partial = server.ask_as("GET", MAPS, Value::Null, &accept).await.body;
    assert_eq!(
        (&partial["kind"], &partial["items"][0]["data"]),
        (&json!("PartialObjectMetadataList"), &Value::Null)
    );
    let refused = server
        .ask_as("GET", MAPS, Value::Null, &[("accept", "text/html")])
        .await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            406,
            "only the following media types are accepted: application/json, application/yaml"
        )
    );
}

#[tokio::test]
async fn what_is_no_resource_is_answered_too() {
    let server = Server::start().await;
    for (path, text) in [
        ("/healthz", "ok"),
        (
            "/readyz?verbose",
            "[+]ping ok\n[+]shutdown ok\nreadyz check passed\n",
        ),
        ("/livez/ping", "ok"),
        (
            "/livez?exclude=x&verbose",
            "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nlivez check passed\n",
        ),
        ("/nowhere", "404 page not found\n"),
    ] {
        assert_eq!(server.text(path).await, text, "{path}");
    }
    assert_eq!(
        server.get("/version").await.body["gitVersion"],
        "v1.36.3+carob"
    );
    assert_eq!(server.get("/api").await.body["kind"], "APIVersions");
    assert_eq!(server.get("/api/v1").await.body["kind"], "APIResourceList");
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let aggregated = server.ask_as("GET", "/apis", Value::Null, &accept).await;
    assert_eq!(aggregated.body["kind"], "APIGroupDiscoveryList");
    assert_eq!(server.get("/openapi/v2").await.body["swagger"], "2.0");
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(server.get(definitions).await.body["items"], json!([]));
    server.api.stop();
    assert_eq!(
        server.text("/readyz").await,
        "[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n"
    );
}
