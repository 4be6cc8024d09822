//! Kinds that make Pods: operations, status, scale, watches and tables of each.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

const TABLE: [(&str, &str); 1] = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];

/// A kind: group and version in a URL, plural, kind.
struct Kind(&'static str, &'static str, &'static str);

const DEPLOYMENTS: Kind = Kind("apis/apps/v1", "deployments", "Deployment");
const REPLICA_SETS: Kind = Kind("apis/apps/v1", "replicasets", "ReplicaSet");
const STATEFUL_SETS: Kind = Kind("apis/apps/v1", "statefulsets", "StatefulSet");
const DAEMON_SETS: Kind = Kind("apis/apps/v1", "daemonsets", "DaemonSet");
const CONTROLLERS: Kind = Kind("api/v1", "replicationcontrollers", "ReplicationController");
const JOBS: Kind = Kind("apis/batch/v1", "jobs", "Job");
const CRON_JOBS: Kind = Kind("apis/batch/v1", "cronjobs", "CronJob");
/// Those that have a scale.
const SCALED: [Kind; 4] = [DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, CONTROLLERS];

impl Kind {
    fn collection(&self) -> String {
        format!("/{}/namespaces/default/{}", self.0, self.1)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    /// `Deployment.apps`.
    fn qualified(&self, word: &str) -> String {
        match self.0.split('/').nth(1) {
            Some("v1") | None => word.to_owned(),
            Some(group) => format!("{word}.{group}"),
        }
    }

    fn object(&self, name: &str) -> Value {
        let labels = json!({"app": "web"});
        let selector = match self.2 {
            "ReplicationController" => labels.clone(),
            _ => json!({"matchLabels": labels}),
        };
        let pod = json!({"containers": [{"name": "c", "image": "i:1"}]});
        json!({
            "metadata": {"name": name, "labels": {"special": "yes"}},
            "spec": {"replicas": 2, "selector": selector, "template": {"metadata": {"labels": labels}, "spec": pod}},
            "status": {"replicas": 9},
        })
    }
}

fn job(name: &str) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "i:1"}], "restartPolicy": "Never"});
    json!({"metadata": {"generateName": name}, "spec": {"template": {"spec": pod}}})
}

fn cron_job(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"schedule": "@daily", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": job("x")["spec"]}}})
}

fn scale(name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": replicas}})
}

async fn merge(server: &Server, path: &str, patch: Value) -> Answer {
    let kind = [("content-type", "application/merge-patch+json")];
    server.ask_as("PATCH", path, patch, &kind).await
}

async fn apply(server: &Server, path: &str, query: &str, config: Value) -> Answer {
    let kind = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{path}?{query}");
    server.ask_as("PATCH", &path, config, &kind).await
}

fn len(answer: &Answer) -> usize {
    answer.body["items"].as_array().expect("a list").len()
}

#[tokio::test]
async fn group_apps_is_discovered() {
    let server = Server::start().await;
    let groups = server.get("/apis").await;
    assert_eq!(groups.body["groups"][0]["name"], "apps");
    let listed = server.get("/apis/apps/v1").await;
    let resources = listed.body["resources"].as_array().expect("a list");
    let seen: Vec<Value> = resources
        .iter()
        .map(|r| {
            json!([
                r["name"],
                r["kind"],
                r["group"],
                r["shortNames"],
                r["categories"]
            ])
        })
        .collect();
    let wanted = [
        json!([
            "controllerrevisions",
            "ControllerRevision",
            null,
            null,
            null
        ]),
        json!(["daemonsets", "DaemonSet", null, ["ds"], ["all"]]),
        json!(["daemonsets/status", "DaemonSet", null, null, null]),
        json!(["deployments", "Deployment", null, ["deploy"], ["all"]]),
        json!(["deployments/scale", "Scale", "autoscaling", null, null]),
        json!(["deployments/status", "Deployment", null, null, null]),
        json!(["replicasets", "ReplicaSet", null, ["rs"], ["all"]]),
        json!(["replicasets/scale", "Scale", "autoscaling", null, null]),
        json!(["replicasets/status", "ReplicaSet", null, null, null]),
        json!(["statefulsets", "StatefulSet", null, ["sts"], ["all"]]),
        json!(["statefulsets/scale", "Scale", "autoscaling", null, null]),
        json!(["statefulsets/status", "StatefulSet", null, null, null]),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn workloads_take_all_operations() {
    let server = Server::start().await;
    for kind in SCALED {
        let (collection, path) = (kind.collection(), kind.path("a"));
        let mut events = server.watch(&format!("{collection}?watch=1")).await;
        for name in ["a", "b", "c"] {
            let made = server.ask("POST", &collection, kind.object(name)).await;
            assert_eq!(made.code, 201, "{made:?}");
            assert_eq!(made.body["metadata"]["generation"], 1);
            assert_ne!(made.body["status"]["replicas"], 9);
            assert_eq!(events.event().await, ("ADDED".into(), name.into()));
        }
        let selected = format!("{collection}?labelSelector=special%3Dyes");
        assert_eq!(len(&server.get(&selected).await), 3);

        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
        let changed = server.ask("PATCH", &path, image).await;
        assert_eq!(changed.body["metadata"]["generation"], 2, "{changed:?}");
        assert_eq!(events.event().await, ("MODIFIED".into(), "a".into()));

        let status = format!("{path}/status");
        let patch = json!({"spec": {"replicas": 7}, "status": {"replicas": 3, "readyReplicas": 1}});
        let mut patched = merge(&server, &status, patch).await;
        assert_eq!(patched.body["status"]["readyReplicas"], 1, "{patched:?}");
        assert_eq!(patched.body["spec"]["replicas"], 2);
        assert_eq!(patched.body["metadata"]["generation"], 2);
        patched.body["status"]["readyReplicas"] = 4.into();
        let refused = server.ask("PUT", &status, patched.body).await;
        let text = format!(
            "{} \"a\" is invalid: status.readyReplicas: Invalid value: 4: cannot be greater than status.replicas",
            kind.qualified(kind.2)
        );
        assert_eq!((refused.code, refused.message()), (422, text.as_str()));

        let table = server.ask_as("GET", &collection, Value::Null, &TABLE).await;
        let cells = table.body["rows"][0]["cells"].as_array().expect("cells");
        assert_eq!(cells[0], "a");
        assert!(cells.contains(&json!("i:2")), "{cells:?}");

        // Nobody collects garbage here, which Jobs and their like wait for unless they are told not to.
        let collection = format!("{collection}?propagationPolicy=Background");
        let path = format!("{path}?propagationPolicy=Background");
        let removed = server.ask("DELETE", &path, Value::Null).await;
        assert_eq!((removed.code, server.get(&path).await.code), (200, 404));
        server.ask("DELETE", &collection, Value::Null).await;
        assert_eq!(len(&server.get(&collection).await), 0);
    }
}

#[tokio::test]
async fn workloads_are_scaled() {
    let server = Server::start().await;
    for kind in SCALED {
        let made = server
            .ask("POST", &kind.collection(), kind.object("a"))
            .await;
        let path = kind.path("a/scale");
        let read = server.get(&path).await;
        let metadata = &made.body["metadata"];
        let wanted = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": "a", "namespace": "default", "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
                "creationTimestamp": metadata["creationTimestamp"],
            },
            "spec": {"replicas": 2}, "status": {"replicas": 0, "selector": "app=web"},
        });
        assert_eq!(read.body, wanted);

        let put = server.ask("PUT", &path, scale("a", 4)).await;
        assert_eq!(
            (put.code, &put.body["spec"]["replicas"]),
            (200, &json!(4)),
            "{put:?}"
        );
        let object = server.get(&kind.path("a")).await;
        assert_eq!(object.body["spec"]["replicas"], 4);
        assert_eq!(object.body["metadata"]["generation"], 2);
        // One that was read before is refused, and so are fewer than none.
        let mut stale = read.body.clone();
        stale["spec"]["replicas"] = 5.into();
        let refused = server.ask("PUT", &path, stale.clone()).await;
        assert_eq!(refused.code, 409, "{refused:?}");
        stale["metadata"]["resourceVersion"] = put.body["metadata"]["resourceVersion"].clone();
        stale["metadata"]["uid"] = "other".into();
        let refused = server.ask("PUT", &path, stale).await;
        let begin = format!(
            "Operation cannot be fulfilled on {} \"a\": Precondition failed: UID",
            kind.qualified(&format!("{}/scale", kind.1))
        );
        assert!(refused.message().starts_with(&begin), "{refused:?}");
        let refused = server.ask("PUT", &path, scale("a", -1)).await;
        let text = "Scale.autoscaling \"a\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0";
        assert_eq!((refused.code, refused.message()), (422, text));
        let refused = server.ask("PUT", &path, scale("b", 1)).await;
        assert_eq!(refused.code, 400, "{refused:?}");
        let mut other = kind.object("a");
        other["kind"] = kind.2.into();
        let refused = server.ask("PUT", &path, other).await;
        assert_eq!(refused.code, 400, "{refused:?}");

        let patched = merge(
            &server,
            &path,
            json!({"spec": {"replicas": 3}, "status": {"replicas": 8}}),
        )
        .await;
        assert_eq!(patched.body["spec"]["replicas"], 3, "{patched:?}");
        assert_eq!(patched.body["status"]["replicas"], 0);
        let patched = server
            .ask("PATCH", &path, json!({"spec": {"replicas": 1}}))
            .await;
        assert_eq!(patched.body["spec"]["replicas"], 1, "{patched:?}");
        let dry = server
            .ask("PUT", &format!("{path}?dryRun=All"), scale("a", 6))
            .await;
        assert_eq!(dry.body["spec"]["replicas"], 6, "{dry:?}");
        assert_eq!(server.get(&path).await.body["spec"]["replicas"], 1);
        let table = server.ask_as("GET", &path, Value::Null, &TABLE).await;
        let cells = table.body["rows"][0]["cells"].as_array().expect("cells");
        assert_eq!(cells[..3], [json!("a"), json!(1), json!(0)]);
        assert_eq!(server.get(&kind.path("none/scale")).await.code, 404);
        assert_eq!(server.ask("POST", &path, scale("a", 1)).await.code, 405);
    }
}

/// Who owns the number of replicas, and how.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries = entries.into_iter().flatten();
    let owning = entries.filter(|entry| entry["fieldsV1"].pointer("/f:spec/f:replicas").is_some());
    let text = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or("-").to_owned();
        ["manager", "operation", "apiVersion", "subresource"]
            .map(text)
            .join(" ")
    };
    owning.map(text).collect()
}

#[tokio::test]
async fn who_scales_owns_the_replicas() {
    let server = Server::start().await;
    for kind in SCALED {
        let object = kind.object("a");
        let version = kind
            .0
            .trim_start_matches("apis/")
            .trim_start_matches("api/");
        let made = format!("{}?fieldManager=maker", kind.collection());
        let made = server.ask("POST", &made, object).await;
        assert_eq!(owners(&made.body), [format!("maker Update {version} -")]);
        let path = kind.path("a/scale");
        let put = server
            .ask("PUT", &format!("{path}?fieldManager=scaler"), scale("a", 4))
            .await;
        assert_eq!(put.code, 200, "{put:?}");
        let seen = server.get(&kind.path("a")).await;
        assert_eq!(
            owners(&seen.body),
            [format!("scaler Update {version} scale")]
        );

        let refused = apply(&server, &path, "fieldManager=applier", scale("a", 5)).await;
        let text = "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using autoscaling/v1: .spec.replicas";
        assert_eq!((refused.code, refused.message()), (409, text));
        let applied = apply(
            &server,
            &path,
            "fieldManager=applier&force=true",
            scale("a", 5),
        )
        .await;
        assert_eq!(applied.body["spec"]["replicas"], 5, "{applied:?}");
        let seen = server.get(&kind.path("a")).await;
        assert_eq!(
            owners(&seen.body),
            [format!("applier Apply {version} scale")]
        );
        let none = apply(
            &server,
            &kind.path("b/scale"),
            "fieldManager=applier",
            scale("b", 5),
        )
        .await;
        assert_eq!(none.code, 404, "{none:?}");
        let wrong = apply(&server, &path, "fieldManager=applier", scale("a", -1)).await;
        assert_eq!(wrong.code, 422, "{wrong:?}");
    }
}

#[tokio::test]
async fn daemon_sets_and_revisions_take_all_operations() {
    let server = Server::start().await;
    const ANNOTATION: &str = "deprecated.daemonset.template.generation";
    let (collection, path) = (DAEMON_SETS.collection(), DAEMON_SETS.path("a"));
    let mut set = DAEMON_SETS.object("a");
    let spec = set["spec"].as_object_mut().expect("a specification");
    spec.remove("replicas");
    let made = server.ask("POST", &collection, set).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(made.body["metadata"]["annotations"][ANNOTATION], "1");
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
    let changed = server.ask("PATCH", &path, image).await;
    assert_eq!(changed.body["metadata"]["annotations"][ANNOTATION], "2");
    assert_eq!(changed.body["metadata"]["generation"], 2, "{changed:?}");
    let status = json!({"status": {"desiredNumberScheduled": 1, "numberReady": 1}});
    let seen = merge(&server, &DAEMON_SETS.path("a/status"), status).await;
    assert_eq!(seen.body["metadata"]["generation"], 2, "{seen:?}");
    let table = server.ask_as("GET", &collection, Value::Null, &TABLE).await;
    let cells = table.body["rows"][0]["cells"].as_array().expect("cells");
    assert_eq!(json!(cells[..7]), json!(["a", 1, 0, 1, 0, 0, "<none>"]));
    assert_eq!(server.get(&DAEMON_SETS.path("a/scale")).await.code, 404);
    server.ask("DELETE", &collection, Value::Null).await;
    assert_eq!(len(&server.get(&collection).await), 0);

    let collection = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "a", "uid": made.meta("uid"), "controller": true});
    let revision = json!({"metadata": {"name": "a-1", "ownerReferences": [owner]}, "data": {"spec": {}}, "revision": 1});
    let made = server.ask("POST", collection, revision).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert!(made.body["metadata"].get("generation").is_none());
    let path = format!("{collection}/a-1");
    let counted = merge(&server, &path, json!({"revision": 2})).await;
    assert_eq!(counted.body["revision"], 2, "{counted:?}");
    let refused = merge(&server, &path, json!({"data": {"spec": {"a": 1}}})).await;
    let text = "ControllerRevision.apps \"a-1\" is invalid: data: Invalid value: {\"spec\":{\"a\":1}}: field is immutable";
    assert_eq!((refused.code, refused.message()), (422, text));
    let table = server.ask_as("GET", collection, Value::Null, &TABLE).await;
    let cells = table.body["rows"][0]["cells"].as_array().expect("cells");
    assert_eq!(json!(cells[..3]), json!(["a-1", "daemonset.apps/a", 2]));
}

#[tokio::test]
async fn group_batch_is_discovered() {
    let server = Server::start().await;
    let listed = server.get("/apis/batch/v1").await;
    let resources = listed.body["resources"].as_array().expect("a list");
    let seen: Vec<Value> = resources
        .iter()
        .map(|r| json!([r["name"], r["kind"], r["shortNames"], r["categories"]]))
        .collect();
    let wanted = [
        json!(["cronjobs", "CronJob", ["cj"], ["all"]]),
        json!(["cronjobs/status", "CronJob", null, null]),
        json!(["jobs", "Job", null, ["all"]]),
        json!(["jobs/status", "Job", null, null]),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn jobs_take_all_operations() {
    let server = Server::start().await;
    let collection = JOBS.collection();
    let mut events = server.watch(&format!("{collection}?watch=1")).await;
    let made = server.ask("POST", &collection, job("pi-")).await;
    assert_eq!(made.code, 201, "{made:?}");
    let (name, uid) = (made.meta("name").to_owned(), made.meta("uid").to_owned());
    assert_eq!(events.event().await, ("ADDED".into(), name.clone()));
    let labels = json!({
        "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name,
    });
    assert_eq!(made.body["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(made.body["metadata"]["labels"], labels);
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    assert_eq!(made.body["spec"]["selector"], selector);

    let path = JOBS.path(&name);
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
    let refused = server.ask("PATCH", &path, image).await;
    let begin =
        format!("Job.batch \"{name}\" is invalid: spec.template: Invalid value: {{\"labels\":{{");
    assert!(refused.message().starts_with(&begin), "{refused:?}");
    assert!(refused.message().ends_with("field is immutable"));
    let asleep = merge(&server, &path, json!({"spec": {"suspend": true}})).await;
    assert_eq!(asleep.body["metadata"]["generation"], 2, "{asleep:?}");

    let done = json!({"status": {
        "succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:40Z",
        "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}],
    }});
    let status = JOBS.path(&format!("{name}/status"));
    let finished = merge(&server, &status, done).await;
    assert_eq!(finished.body["metadata"]["generation"], 2, "{finished:?}");
    let undone = merge(&server, &status, json!({"status": {"succeeded": 0}})).await;
    assert_eq!(undone.code, 422, "{undone:?}");
    for (selector, count) in [("1", 1), ("0", 0)] {
        let path = format!("{collection}?fieldSelector=status.successful%3D{selector}");
        assert_eq!(len(&server.get(&path).await), count, "{selector}");
    }
    let table = server.ask_as("GET", &collection, Value::Null, &TABLE).await;
    let cells = table.body["rows"][0]["cells"].as_array().expect("cells");
    assert_eq!(
        cells[1..4],
        [json!("Complete"), json!("1/1"), json!("100s")]
    );
    server.ask("DELETE", &collection, Value::Null).await;
    assert_eq!(server.get(&JOBS.path("pi/scale")).await.code, 404);
}

#[tokio::test]
async fn cron_jobs_take_all_operations() {
    let server = Server::start().await;
    let collection = CRON_JOBS.collection();
    for name in ["a", "b"] {
        let made = server.ask("POST", &collection, cron_job(name)).await;
        assert_eq!(made.code, 201, "{made:?}");
        assert_eq!(made.body["spec"]["concurrencyPolicy"], "Allow");
        assert!(
            made.body["spec"]["jobTemplate"]["spec"]
                .get("parallelism")
                .is_none()
        );
    }
    let path = CRON_JOBS.path("a");
    let refused = merge(&server, &path, json!({"spec": {"schedule": "@often"}})).await;
    let text = "CronJob.batch \"a\" is invalid: spec.schedule: Invalid value: \"@often\": unrecognized descriptor: @often";
    assert_eq!((refused.code, refused.message()), (422, text));
    let asleep = merge(&server, &path, json!({"spec": {"suspend": true}})).await;
    assert_eq!(asleep.body["metadata"]["generation"], 2, "{asleep:?}");
    let status = json!({"status": {"active": [{"kind": "Job", "name": "j"}]}});
    let seen = merge(&server, &CRON_JOBS.path("a/status"), status).await;
    assert_eq!(seen.code, 200, "{seen:?}");
    let table = server.ask_as("GET", &collection, Value::Null, &TABLE).await;
    let cells = table.body["rows"][0]["cells"].as_array().expect("cells");
    let wanted = json!(["a", "@daily", "Europe/Berlin", "True", 1, "<none>"]);
    assert_eq!(json!(cells[..6]), wanted);
    server.ask("DELETE", &collection, Value::Null).await;
    assert_eq!(len(&server.get(&collection).await), 0);
}

#[tokio::test]
async fn replica_sets_are_selected_by_their_number() {
    let server = Server::start().await;
    let collection = REPLICA_SETS.collection();
    for name in ["a", "b"] {
        server
            .ask("POST", &collection, REPLICA_SETS.object(name))
            .await;
    }
    let status = json!({"status": {"replicas": 2}});
    merge(&server, &REPLICA_SETS.path("a/status"), status).await;
    for (selector, count) in [("2", 1), ("0", 1), ("1", 0)] {
        let path = format!("{collection}?fieldSelector=status.replicas%3D{selector}");
        assert_eq!(len(&server.get(&path).await), count, "{selector}");
    }
}

#[tokio::test]
async fn clients_are_warned_of_names_and_templates() {
    let server = Server::start().await;
    let level = json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "restricted"}}});
    server
        .ask("PATCH", "/api/v1/namespaces/default", level)
        .await;
    let made = server
        .ask("POST", &DEPLOYMENTS.collection(), DEPLOYMENTS.object("a.b"))
        .await;
    assert_eq!((made.code, made.warnings.len()), (201, 2), "{made:?}");
    assert!(made.warnings[0].contains("a DNS label is recommended: [must not contain dots]"));
    assert!(
        made.warnings[1].contains("would violate PodSecurity"),
        "{made:?}"
    );
    let scaled = server
        .ask("PUT", &DEPLOYMENTS.path("a.b/scale"), scale("a.b", 3))
        .await;
    assert!(scaled.warnings.is_empty(), "{scaled:?}");
}

#[tokio::test]
async fn clients_are_warned_of_what_is_unwise_in_pods() {
    let words = |path: &str| {
        let why = r#"deprecated since v1.14; use \"kubernetes.io/os\" instead"#;
        vec![format!(
            r#"299 - "{path}.nodeSelector[beta.kubernetes.io/os]: {why}""#
        )]
    };
    let server = Server::start().await;
    let account = json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.ask("POST", accounts, account).await;
    let selector = json!({"beta.kubernetes.io/os": "linux"});
    let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeSelector": selector, "containers": [{"name": "c", "image": "i"}]}});
    let made = server
        .ask("POST", "/api/v1/namespaces/default/pods", pod)
        .await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(made.warnings, words("spec"));
    let labelled = merge(
        &server,
        "/api/v1/namespaces/default/pods/a",
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await;
    assert!(labelled.warnings.is_empty(), "{labelled:?}");

    let made = server
        .ask(
            "POST",
            &STATEFUL_SETS.collection(),
            STATEFUL_SETS.object("a"),
        )
        .await;
    assert!(made.warnings.is_empty(), "{made:?}");
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": selector}}}});
    let changed = merge(&server, &STATEFUL_SETS.path("a"), patch.clone()).await;
    assert_eq!(changed.warnings, words("spec.template.spec"));
    let same = merge(&server, &STATEFUL_SETS.path("a"), patch).await;
    assert!(same.warnings.is_empty(), "{same:?}");
}
