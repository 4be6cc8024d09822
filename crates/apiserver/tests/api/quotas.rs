//! What namespaces may have, and what their objects may ask for.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const LIMITS: &str = "/api/v1/namespaces/default/limitranges";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn pod(name: &str, requests: Value) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": requests}});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

async fn server() -> Server {
    let server = Server::start().await;
    let account = json!({"metadata": {"name": "default"}});
    server
        .ask(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            account,
        )
        .await;
    server
}

/// Makes a quota whose status says that nothing is used.
async fn quota(server: &Server, name: &str, hard: Value) -> Value {
    let made = json!({"metadata": {"name": name}, "spec": {"hard": hard}});
    let made = server.ask("POST", QUOTAS, made).await;
    assert_eq!(made.code, 201, "{made:?}");
    count(server, name, &json!({})).await
}

/// Writes a status as the controller does; what is not said to be used is not.
async fn count(server: &Server, name: &str, used: &Value) -> Value {
    let path = format!("{QUOTAS}/{name}");
    let mut quota = server.get(&path).await.body;
    let hard = quota["spec"]["hard"].clone();
    let mut all = hard.clone();
    for (name, amount) in all.as_object_mut().expect("amounts") {
        *amount = used.get(name).cloned().unwrap_or_else(|| "0".into());
    }
    quota["status"] = json!({"hard": hard, "used": all});
    let written = server.ask("PUT", &format!("{path}/status"), quota).await;
    assert_eq!(written.code, 200, "{written:?}");
    written.body
}

async fn used(server: &Server, name: &str) -> Value {
    server.get(&format!("{QUOTAS}/{name}")).await.body["status"]["used"].clone()
}

fn refused(answer: &Answer, why: &str) {
    assert_eq!((answer.code, answer.message()), (403, why), "{answer:?}");
}

#[tokio::test]
async fn the_kinds_are_served() {
    let server = server().await;
    let listed = server.get("/api/v1").await;
    let resources = listed.body["resources"].as_array().expect("a list").iter();
    let words = |r: &Value| json!([r["name"], r["kind"], r["shortNames"]]);
    let seen = resources
        .map(words)
        .filter(|r| r.to_string().contains("limitr") || r.to_string().contains("quota"));
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            json!(["limitranges", "LimitRange", ["limits"]]),
            json!(["resourcequotas", "ResourceQuota", ["quota"]]),
            json!(["resourcequotas/status", "ResourceQuota", null]),
        ]
    );
    let limits = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}});
    // Unlike most, they are made by a PUT as well.
    let made = server.ask("PUT", &format!("{LIMITS}/l"), limits).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(made.body["spec"]["limits"][0]["defaultRequest"]["cpu"], "1");
    assert!(made.body["metadata"].get("generation").is_none());
    let made = json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "2", "limits.cpu": "1"}}, "status": {"used": {"pods": "1"}}});
    let made = server.ask("POST", QUOTAS, made).await;
    assert_eq!(
        made.warnings,
        ["299 - \"ResourceQuota requests.cpu (2) should be less than limits.cpu (1)\""]
    );
    assert_eq!(made.body.get("status").unwrap_or(&json!({})), &json!({}));
}

#[tokio::test]
async fn pods_are_filled_in_and_kept_in_bounds() {
    let server = server().await;
    let limits = json!([{"type": "Container", "max": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}}, {"type": "Pod", "min": {"cpu": "50m"}}]);
    let limits = json!({"metadata": {"name": "l"}, "spec": {"limits": limits}});
    assert_eq!(server.ask("POST", LIMITS, limits).await.code, 201);
    let made = server.ask("POST", PODS, pod("a", json!({}))).await;
    let container = &made.body["spec"]["containers"][0];
    assert_eq!(
        container["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}})
    );
    assert_eq!(
        made.body["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    assert_eq!(made.body["status"]["qosClass"], "Burstable");
    let large = json!({"name": "c", "image": "i", "resources": {"limits": {"cpu": "2"}}});
    let large = json!({"metadata": {"name": "b"}, "spec": {"containers": [large]}});
    let answer = server.ask("POST", PODS, large).await;
    refused(
        &answer,
        "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2",
    );
    let answer = server
        .ask("POST", PODS, pod("b", json!({"cpu": "10m"})))
        .await;
    refused(
        &answer,
        "pods \"b\" is forbidden: minimum cpu usage per Pod is 50m, but request is 10m",
    );
    // A resize is kept in the same bounds; other changes are not looked at.
    let kind = [("content-type", "application/strategic-merge-patch+json")];
    let size = |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": cpu}}}]}});
    let path = format!("{PODS}/a/resize");
    let answer = server.ask_as("PATCH", &path, size("3"), &kind).await;
    refused(
        &answer,
        "pods \"a\" is forbidden: maximum cpu usage per Container is 1, but limit is 3",
    );
    let answer = server.ask_as("PATCH", &path, size("500m"), &kind).await;
    assert_eq!(answer.code, 200, "{answer:?}");
}

#[tokio::test]
async fn claims_are_kept_in_bounds() {
    let server = server().await;
    let limits = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}});
    assert_eq!(server.ask("POST", LIMITS, limits).await.code, 201);
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    let path = "/api/v1/namespaces/default/persistentvolumeclaims";
    let answer = server.ask("POST", path, claim("2Gi")).await;
    refused(
        &answer,
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi",
    );
    assert_eq!(server.ask("POST", path, claim("1Gi")).await.code, 201);
}

#[tokio::test]
async fn what_is_made_is_charged_with_it() {
    let server = server().await;
    quota(
        &server,
        "q",
        json!({"pods": "2", "requests.cpu": "1", "configmaps": "1"}),
    )
    .await;
    let answer = server.ask("POST", PODS, pod("a", json!({}))).await;
    refused(
        &answer,
        "pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c",
    );
    let answer = server
        .ask("POST", PODS, pod("a", json!({"cpu": "600m"})))
        .await;
    assert_eq!(answer.code, 201, "{answer:?}");
    assert_eq!(
        used(&server, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "configmaps": "0"})
    );
    let answer = server
        .ask("POST", PODS, pod("b", json!({"cpu": "500m"})))
        .await;
    refused(
        &answer,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1",
    );
    let map = json!({"metadata": {"generateName": "m-"}});
    let dry = format!("{MAPS}?dryRun=All");
    assert_eq!(server.ask("POST", &dry, map.clone()).await.code, 201);
    assert_eq!(server.ask("POST", MAPS, map.clone()).await.code, 201);
    let answer = server.ask("POST", &dry, map).await;
    assert_eq!(answer.code, 403, "{answer:?}");
    // What is there already is told before it is charged again, and changes nothing.
    let answer = server
        .ask("POST", PODS, pod("a", json!({"cpu": "100m"})))
        .await;
    assert_eq!(answer.code, 409, "{answer:?}");
    assert_eq!(
        used(&server, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "configmaps": "1"})
    );
}

#[tokio::test]
async fn what_grows_is_charged() {
    let server = server().await;
    quota(
        &server,
        "q",
        json!({"services.loadbalancers": "0", "services.nodeports": "1", "requests.cpu": "1"}),
    )
    .await;
    let path = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    assert_eq!(server.ask("POST", path, service).await.code, 201);
    let kind = [("content-type", "application/merge-patch+json")];
    let path = format!("{path}/s");
    let to = |kind: &str| json!({"spec": {"type": kind}});
    let answer = server
        .ask_as("PATCH", &path, to("LoadBalancer"), &kind)
        .await;
    refused(
        &answer,
        "services \"s\" is forbidden: exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=0, limited: services.loadbalancers=0",
    );
    let answer = server.ask_as("PATCH", &path, to("NodePort"), &kind).await;
    assert_eq!(answer.code, 200, "{answer:?}");
    assert_eq!(used(&server, "q").await["services.nodeports"], "1");
    server
        .ask("POST", PODS, pod("a", json!({"cpu": "600m"})))
        .await;
    let kind = [("content-type", "application/strategic-merge-patch+json")];
    let size = |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
    let path = format!("{PODS}/a/resize");
    let answer = server.ask_as("PATCH", &path, size("2"), &kind).await;
    refused(
        &answer,
        "pods \"a\" is forbidden: exceeded quota: q, requested: requests.cpu=1400m, used: requests.cpu=600m, limited: requests.cpu=1",
    );
    let answer = server.ask_as("PATCH", &path, size("1"), &kind).await;
    assert_eq!(answer.code, 200, "{answer:?}");
    assert_eq!(used(&server, "q").await["requests.cpu"], "1");
}

#[tokio::test]
async fn those_who_ask_at_once_get_no_more_than_there_is() {
    let server = server().await;
    quota(&server, "q", json!({"configmaps": "7"})).await;
    let map = |n: usize| json!({"metadata": {"name": format!("m{n}")}});
    let asked = (0..40).map(|n| server.ask("POST", MAPS, map(n)));
    let answers = futures::future::join_all(asked).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    let refused = answers.iter().filter(|answer| answer.code == 403).count();
    assert_eq!((made, refused), (7, 33));
    assert_eq!(used(&server, "q").await, json!({"configmaps": "7"}));
}

#[tokio::test]
async fn whoever_counts_is_told_of_what_was_made_meanwhile() {
    let server = server().await;
    let made = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "1"}}});
    let mut seen = server.ask("POST", QUOTAS, made).await.body;
    // It says nothing yet, so that everything may be made.
    let map = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(server.ask("POST", MAPS, map("a")).await.code, 201);
    seen["status"] = json!({"hard": {"configmaps": "1"}, "used": {"configmaps": "0"}});
    let path = format!("{QUOTAS}/q/status");
    assert_eq!(server.ask("PUT", &path, seen).await.code, 409);
    count(&server, "q", &json!({"configmaps": "1"})).await;
    assert_eq!(server.ask("POST", MAPS, map("b")).await.code, 403);
    // Neither does it say anything of what it has not counted.
    let kind = [("content-type", "application/merge-patch+json")];
    let more = json!({"spec": {"hard": {"secrets": "0"}}});
    server
        .ask_as("PATCH", &format!("{QUOTAS}/q"), more, &kind)
        .await;
    let secret = json!({"metadata": {"name": "s"}});
    let made = server
        .ask("POST", "/api/v1/namespaces/default/secrets", secret)
        .await;
    assert_eq!(made.code, 201);
}
