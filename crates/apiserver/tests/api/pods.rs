//! Pods: binding, the graceful way out, logs and their refusals, and namespaces around them.

use async_trait::async_trait;
use futures::StreamExt;
use ports::node::{LogOptions, NodeError, NodeServer, Target, Usage};
use ports::streams::{ExecRequest, LogStream, Reader, Session, Writer};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::Server;

const PODS: &str = "/api/v1/namespaces/default/pods";

pub(crate) async fn pod(server: &Server, name: &str) -> Value {
    let account = json!({"metadata":{"name":"default"}});
    server
        .ask(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            account,
        )
        .await;
    let body = json!({"metadata":{"name":name},"spec":{"containers":[{"name":"c","image":"busybox:1.36"}]}});
    let made = server.ask("POST", PODS, body).await;
    assert_eq!(made.code, 201, "{made:?}");
    made.body
}

pub(crate) async fn bind(server: &Server, name: &str) -> crate::support::Answer {
    let body = json!({"apiVersion":"v1","kind":"Binding","metadata":{"name":name},"target":{"kind":"Node","name":"n1"}});
    server
        .ask("POST", &format!("{PODS}/{name}/binding"), body)
        .await
}

#[tokio::test]
async fn a_pod_waits_for_the_account_of_a_new_namespace() {
    let server = Server::start().await;
    let body = json!({"metadata":{"name":"early"},"spec":{"containers":[{"name":"c","image":"busybox:1.36"}]}});
    let account = async {
        // The Pod is asked for first: both are polled in order, by one task.
        tokio::task::yield_now().await;
        pod(&server, "late").await
    };
    let (early, _) = tokio::join!(server.ask("POST", PODS, body), account);
    assert_eq!(early.code, 201, "{early:?}");
    assert_eq!(early.body["spec"]["serviceAccountName"], "default");
    // Nobody else's account is waited for, and none for ever.
    let mut other =
        json!({"metadata":{"name":"other"},"spec":{"containers":[{"name":"c","image":"i"}]}});
    other["spec"]["serviceAccountName"] = json!("robot");
    let refused = server.ask("POST", PODS, other).await;
    let text = r#"pods "other" is forbidden: error looking up service account default/robot: serviceaccount "robot" not found"#;
    assert_eq!((refused.code, refused.message()), (403, text));
}

#[tokio::test]
async fn a_bound_pod_leaves_gracefully() {
    let server = Server::start().await;
    let made = pod(&server, "web").await;
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(bind(&server, "web").await.code, 201);
    let again = bind(&server, "web").await;
    let text = r#"Operation cannot be fulfilled on pods/binding "web": pod web is already assigned to node "n1""#;
    assert_eq!((again.code, again.message()), (409, text));
    let path = format!("{PODS}/web");
    let revision = server.get(&path).await.meta("resourceVersion").to_owned();
    let mut watch = server
        .watch(&format!(
            "{PODS}?watch=true&resourceVersion={revision}&fieldSelector=spec.nodeName%3Dn1"
        ))
        .await;
    let first = server.ask("DELETE", &path, Value::Null).await;
    assert_eq!(
        (
            first.code,
            &first.body["metadata"]["deletionGracePeriodSeconds"]
        ),
        (200, &json!(30))
    );
    let marked = watch.next().await.unwrap();
    assert_eq!(
        (
            &marked["type"],
            &marked["object"]["metadata"]["deletionGracePeriodSeconds"]
        ),
        (&json!("MODIFIED"), &json!(30))
    );
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let last = server
        .ask(
            "DELETE",
            &path,
            json!({"gracePeriodSeconds":0,"preconditions":{"uid":uid}}),
        )
        .await;
    assert_eq!(
        (last.code, last.body["kind"].as_str()),
        (200, Some("Pod")),
        "{last:?}"
    );
    let zero = watch.next().await.unwrap();
    assert_eq!(
        (
            &zero["type"],
            &zero["object"]["metadata"]["deletionGracePeriodSeconds"]
        ),
        (&json!("MODIFIED"), &json!(0))
    );
    assert_eq!(
        watch.event().await,
        ("DELETED".to_owned(), "web".to_owned())
    );
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn pods_are_bound_by_the_collection_too() {
    let server = Server::start().await;
    pod(&server, "web").await;
    let body = json!({"metadata":{"name":"web"},"target":{"kind":"Node","name":"n1"}});
    let bindings = "/api/v1/namespaces/default/bindings";
    assert_eq!(server.ask("POST", bindings, body.clone()).await.code, 201);
    assert_eq!(
        server.get(&format!("{PODS}/web")).await.body["spec"]["nodeName"],
        "n1"
    );
    assert_eq!(server.ask("POST", bindings, body).await.code, 409);
    assert_eq!(server.get(bindings).await.code, 405);
}

#[tokio::test]
async fn an_unscheduled_pod_leaves_at_once() {
    let server = Server::start().await;
    pod(&server, "web").await;
    assert_eq!(
        server
            .ask("DELETE", &format!("{PODS}/web"), Value::Null)
            .await
            .code,
        200
    );
    assert_eq!(server.get(&format!("{PODS}/web")).await.code, 404);
}

#[tokio::test]
async fn an_eviction_is_said_before_it_happens() {
    let server = Server::start().await;
    pod(&server, "web").await;
    bind(&server, "web").await;
    let path = format!("{PODS}/web");
    let eviction = |body: Value| {
        let server = &server;
        let path = format!("{path}/eviction");
        async move { server.ask("POST", &path, body).await }
    };
    let dry = eviction(json!({"metadata":{"name":"web"},"deleteOptions":{"dryRun":["All"]}})).await;
    assert_eq!((dry.code, &dry.body["status"]), (201, &json!("Success")));
    let before = server.get(&path).await;
    assert_eq!(
        before.body["metadata"]["deletionTimestamp"],
        Value::Null,
        "{before:?}"
    );
    let revision = before.meta("resourceVersion");
    for (body, code) in [
        (json!({"metadata":{"name":"other"}}), 400),
        (
            json!({"metadata":{"name":"web"},"deleteOptions":{"preconditions":{"resourceVersion":"1"}}}),
            409,
        ),
        (
            json!({"metadata":{"name":"web"},"deleteOptions":{"preconditions":{"resourceVersion":revision}}}),
            201,
        ),
    ] {
        assert_eq!(eviction(body.clone()).await.code, code, "{body}");
    }
    let evicted = server.get(&path).await.body;
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    let conditions = evicted["status"]["conditions"].as_array().unwrap();
    let reason =
        |c: &Value| c["type"] == "DisruptionTarget" && c["reason"] == "EvictionByEvictionAPI";
    assert!(conditions.iter().any(reason), "{conditions:?}");
}

#[tokio::test]
async fn a_resize_must_fit_the_node() {
    let server = Server::start().await;
    let node = json!({"metadata":{"name":"n1","labels":{"kubernetes.io/os":"linux"}}});
    server.ask("POST", "/api/v1/nodes", node).await;
    let room = json!({"status":{"allocatable":{"cpu":"2","memory":"1Gi"}}});
    let room = server.ask("PATCH", "/api/v1/nodes/n1/status", room).await;
    assert_eq!(room.code, 200, "{room:?}");
    pod(&server, "other").await;
    let body = json!({"metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"b","resources":{"requests":{"cpu":"1"}}}]}});
    assert_eq!(server.ask("POST", PODS, body).await.code, 201);
    bind(&server, "web").await;
    let resize = |cpu: &str| {
        let body =
            json!({"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":cpu}}}]}});
        let server = &server;
        async move {
            server
                .ask("PATCH", &format!("{PODS}/web/resize"), body)
                .await
        }
    };
    let more = resize("1500m").await;
    assert_eq!(
        (more.code, &more.body["metadata"]["generation"]),
        (200, &json!(2)),
        "{more:?}"
    );
    let much = resize("3").await;
    let text = "pods \"web\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000";
    assert_eq!((much.code, much.message()), (403, text));
    assert_eq!(
        much.body["details"]["causes"],
        json!([{"reason": "NodeCapacity"}])
    );
}

#[tokio::test]
async fn status_is_written_by_its_own_path() {
    let server = Server::start().await;
    pod(&server, "web").await;
    let status =
        json!({"status":{"phase":"Running","podIP":"10.0.0.9"},"spec":{"nodeName":"sneaky"}});
    let patched = server
        .ask("PATCH", &format!("{PODS}/web/status"), status)
        .await;
    assert_eq!(
        (patched.code, &patched.body["status"]["phase"]),
        (200, &json!("Running")),
        "{patched:?}"
    );
    assert_eq!(patched.body["spec"]["nodeName"], Value::Null);
    let main = server
        .ask(
            "PATCH",
            &format!("{PODS}/web"),
            json!({"status":{"phase":"Failed"}}),
        )
        .await;
    assert_eq!(main.body["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let server = Server::start().await;
    let made = server
        .ask(
            "POST",
            "/api/v1/namespaces",
            json!({"metadata":{"name":"team"}}),
        )
        .await;
    assert_eq!(
        (made.code, &made.body["spec"]["finalizers"]),
        (201, &json!(["kubernetes"])),
        "{made:?}"
    );
    let marked = server
        .ask("DELETE", "/api/v1/namespaces/team", Value::Null)
        .await;
    assert_eq!(marked.body["status"]["phase"], "Terminating");
    let refused = server
        .ask(
            "POST",
            "/api/v1/namespaces/team/configmaps",
            json!({"metadata":{"name":"x"}}),
        )
        .await;
    let text = r#"configmaps "x" is forbidden: unable to create new content in namespace team because it is being terminated"#;
    assert_eq!((refused.code, refused.message()), (403, text));
    let mut body = marked.body.clone();
    body["spec"]["finalizers"] = json!([]);
    assert_eq!(
        server
            .ask("PUT", "/api/v1/namespaces/team/finalize", body)
            .await
            .code,
        200
    );
    assert_eq!(server.get("/api/v1/namespaces/team").await.code, 404);
    assert_eq!(
        server
            .ask("DELETE", "/api/v1/namespaces/default", Value::Null)
            .await
            .code,
        403
    );
}

/// A node whose every log is the options it was asked for.
struct Echo;

#[async_trait]
impl NodeServer for Echo {
    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogStream, NodeError> {
        let text = format!(
            "{} {} {:?}",
            target.pod, target.container, options.tail_lines
        );
        Ok(futures::stream::iter([Ok(text.into())]).boxed())
    }
    async fn exec(&self, target: &Target, _: ExecRequest) -> Result<Session, NodeError> {
        Err(NodeError {
            code: 500,
            message: format!(
                "unable to upgrade connection: container not found ({:?})",
                target.container
            ),
        })
    }
    async fn attach(&self, target: &Target, _: bool) -> Result<Session, NodeError> {
        self.exec(target, ExecRequest::default()).await
    }
    async fn port_forward(&self, _: &Target, _: u16) -> Result<(Reader, Writer), NodeError> {
        Err(NodeError {
            code: 500,
            message: "no ports here".into(),
        })
    }
    async fn pods(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
    async fn usage(&self, _: &BTreeSet<String>) -> Result<Usage, NodeError> {
        Err(NodeError {
            code: 500,
            message: "nothing is measured here".into(),
        })
    }
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let server = Server::start().await;
    pod(&server, "web").await;
    let log = format!("{PODS}/web/log");
    assert_eq!(server.get(&log).await.code, 200);
    bind(&server, "web").await;
    assert_eq!(server.get(&log).await.code, 503);
    server.api.set_node_server("n1", Arc::new(Echo));
    assert_eq!(
        server.text(&format!("{log}?tailLines=3")).await,
        "web c Some(3)"
    );
    for (query, code, text) in [
        ("container=x", 400, "container x is not valid for pod web"),
        ("tailLines=-1", 422, "must be greater than or equal to 0"),
        ("limitBytes=0", 422, "must be greater than 0"),
        (
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            422,
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
    ] {
        let answer = server.get(&format!("{log}?{query}")).await;
        assert!(
            answer.code == code && answer.message().contains(text),
            "{query}: {answer:?}"
        );
    }
    let exec = server
        .get(&format!(
            "{PODS}/web/exec?command=id&stdout=true&container=x"
        ))
        .await;
    assert_eq!(
        (exec.code, exec.message()),
        (400, "container x is not valid for pod web")
    );
}

#[tokio::test]
async fn an_agent_may_be_faster_with_a_pod_that_has_ended() {
    let server = Server::start().await;
    for round in 0..20 {
        let name = format!("done-{round}");
        pod(&server, &name).await;
        assert_eq!(bind(&server, &name).await.code, 201);
        let path = format!("{PODS}/{name}");
        let ended = json!({"status": {"phase": "Failed"}});
        let ended = server.ask("PATCH", &format!("{path}/status"), ended).await;
        let revision = ended.meta("resourceVersion");
        let query =
            format!("watch=true&resourceVersion={revision}&fieldSelector=metadata.name%3D{name}");
        let mut watch = server.watch(&format!("{PODS}?{query}")).await;
        let agent = async {
            let marked = watch.next().await.unwrap();
            assert_eq!(
                marked["object"]["metadata"]["deletionGracePeriodSeconds"],
                0
            );
            // It may have something to report before.
            if round % 2 == 0 {
                let seen = json!({"status": {"observedGeneration": 2}});
                server.ask("PATCH", &format!("{path}/status"), seen).await;
            }
            let now = json!({"gracePeriodSeconds": 0});
            server.ask("DELETE", &path, now).await.code
        };
        let (user, agent) = tokio::join!(server.ask("DELETE", &path, Value::Null), agent);
        assert_eq!(user.code, 200, "{user:?}");
        assert!(matches!(agent, 200 | 404), "{agent}");
        assert_eq!(server.get(&path).await.code, 404);
    }
}

#[tokio::test]
async fn a_node_makes_only_stand_ins_of_its_static_pods() {
    let server = Server::start().await;
    let node = server
        .ask("POST", "/api/v1/nodes", json!({"metadata":{"name":"n1"}}))
        .await;
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
    ];
    let plain = json!({"metadata":{"name":"p"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}});
    pod(&server, "gives-the-account").await;
    let refused = server.ask_as("POST", PODS, plain.clone(), &headers).await;
    let text = r#"pods "p" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#;
    assert_eq!((refused.code, refused.message()), (403, text));

    let mut mirror = plain;
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    let owner = json!({"apiVersion":"v1","kind":"Node","name":"n1","uid":node.meta("uid"),"controller":true});
    mirror["metadata"]["ownerReferences"] = json!([owner]);
    let made = server.ask_as("POST", PODS, mirror.clone(), &headers).await;
    assert_eq!(made.code, 201, "{made:?}");
    let spec = &made.body["spec"];
    assert!(spec["serviceAccountName"].is_null() && spec["volumes"].is_null());

    mirror["metadata"]["name"] = "q".into();
    mirror["spec"]["imagePullSecrets"] = json!([{"name": "s"}]);
    let refused = server.ask_as("POST", PODS, mirror, &headers).await;
    let text = r#"pods "q" is forbidden: a mirror pod may not reference secrets"#;
    assert_eq!((refused.code, refused.message()), (403, text));
}

#[tokio::test]
async fn a_node_touches_only_what_is_its_own() {
    let server = Server::start().await;
    let json = ("content-type", "application/json");
    let patch = ("content-type", "application/merge-patch+json");
    let n1 = |kind| {
        [
            kind,
            ("impersonate-user", "system:node:n1"),
            ("impersonate-group", "system:nodes"),
        ]
    };
    pod(&server, "gives-the-account").await;
    for node in ["n1", "n2"] {
        let bound = json!({"metadata":{"name":node},"spec":{"nodeName":node,"containers":[{"name":"c","image":"i"}]}});
        let made = server.ask("POST", PODS, bound).await;
        assert_eq!(made.code, 201, "{made:?}");
    }
    let named = |name: &str| json!({"metadata": {"name": name}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let csinodes = "/apis/storage.k8s.io/v1/csinodes";
    for path in ["/api/v1/nodes", leases, csinodes] {
        for (name, code) in [("n2", 403), ("n1", 201)] {
            let mut body = named(name);
            if path == csinodes {
                body["spec"] = json!({"drivers": []});
            }
            let made = server.ask_as("POST", path, body, &n1(json)).await;
            assert_eq!(made.code, code, "{path} {name}: {made:?}");
        }
        let labels = json!({"metadata": {"annotations": {"a": "b"}}});
        for (name, code) in [("n2", 403), ("n1", 200)] {
            let (one, body) = (format!("{path}/{name}"), labels.clone());
            let changed = server.ask_as("PATCH", &one, body, &n1(patch)).await;
            assert_eq!(changed.code, code, "{one}: {changed:?}");
        }
    }
    let status = json!({"status": {"phase": "Running"}});
    for (name, code) in [("n2", 403), ("n1", 200)] {
        let path = format!("{PODS}/{name}/status");
        let changed = server
            .ask_as("PATCH", &path, status.clone(), &n1(patch))
            .await;
        assert_eq!(changed.code, code, "{name}: {changed:?}");
        let whole = format!("{PODS}/{name}");
        let changed = server
            .ask_as("PATCH", &whole, named(name), &n1(patch))
            .await;
        assert_eq!(changed.code, 403, "{name}: {changed:?}");
    }
    let now = json!({"gracePeriodSeconds": 0});
    for (name, code) in [("n2", 403), ("n1", 200)] {
        let path = format!("{PODS}/{name}");
        let gone = server.ask_as("DELETE", &path, now.clone(), &n1(json)).await;
        assert_eq!(gone.code, code, "{name}: {gone:?}");
    }
    let secrets = "/api/v1/namespaces/default/secrets";
    for (path, code) in [
        (secrets.to_owned(), 403),
        ("/api/v1/secrets".to_owned(), 403),
        (format!("{secrets}?fieldSelector=metadata.name%3Ds"), 200),
        (format!("{secrets}/s"), 404),
        ("/apis/apps/v1/deployments".to_owned(), 403),
        (PODS.to_owned(), 200),
    ] {
        let read = server.ask_as("GET", &path, json!({}), &n1(json)).await;
        assert_eq!(read.code, code, "{path}: {read:?}");
    }
}
