//! What the server does to objects besides refusing them: admission, resets, generations, bindings, namespaces.

use admission::Subresource::{self, EphemeralContainers, Main, Resize, Status};
use admission::binding::{self, Conflict};
use admission::namespace::{self, Refusal};
use admission::pod::{AdmitContext, Denied, admit, qos_class, warnings};
use serde_json::{Value, json};

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    admission::default("pods", &mut pod);
    pod
}

fn context(account: Option<&Value>) -> AdmitContext<'_> {
    AdmitContext {
        namespace: "d",
        service_account: account,
        priority_class: None,
        random_suffix: "x7k2p",
    }
}

fn update(subresource: Subresource, old: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = old.clone();
    change(&mut new);
    admission::prepare_update("pods", subresource, &mut new, old);
    new
}

#[test]
fn the_default_account_brings_its_token() {
    let account = json!({"imagePullSecrets": [{"name": "registry"}]});
    let mut pod = pod(
        json!({"initContainers": [{"name": "i", "image": "x", "volumeMounts": [
        {"name": "own", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]}),
    );
    admit(&mut pod, &context(Some(&account))).expect("the account exists");
    let spec = &pod["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(spec["imagePullSecrets"], account["imagePullSecrets"]);
    let mount = json!({"name": "kube-api-access-x7k2p", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
    assert_eq!(
        spec["initContainers"][0]["volumeMounts"][0]["name"], "own",
        "a mount in its place stays"
    );
    assert_eq!(
        spec["volumes"],
        json!([{"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}}])
    );
    let once = pod.clone();
    admit(&mut pod, &context(Some(&account))).expect("again");
    assert_eq!(pod, once, "admission may run twice");
    assert_eq!(
        admission::validate_create("pods", &pod)
            .iter()
            .filter(|error| error.field != "spec.initContainers[0].volumeMounts[0].name")
            .count(),
        0
    );
}

#[test]
fn tokens_can_be_declined() {
    let declining = json!({"automountServiceAccountToken": false});
    for (behaviour, spec, account, mounted) in [
        ("by the account", json!({}), &declining, false),
        ("by the Pod", declining.clone(), &json!({}), false),
        (
            "the Pod's word counts more",
            json!({"automountServiceAccountToken": true}),
            &declining,
            true,
        ),
    ] {
        let mut pod = pod(spec);
        admit(&mut pod, &context(Some(account))).expect("the account exists");
        assert_eq!(pod["spec"].get("volumes").is_some(), mounted, "{behaviour}");
    }
}

#[test]
fn a_missing_account_is_told() {
    let denied = admit(
        &mut pod(json!({"serviceAccountName": "robot"})),
        &context(None),
    )
    .expect_err("no such account");
    assert_eq!(
        denied.to_string(),
        "error looking up service account d/robot: serviceaccount \"robot\" not found"
    );
}

#[test]
fn priorities_come_from_classes() {
    let account = json!({});
    let class = json!({"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"});
    let with = |class| AdmitContext {
        priority_class: class,
        ..context(Some(&account))
    };
    let mut plain = pod(json!({}));
    admit(&mut plain, &with(None)).expect("no class is fine");
    assert_eq!(
        (
            &plain["spec"]["priority"],
            &plain["spec"]["preemptionPolicy"]
        ),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    let mut high = pod(json!({}));
    admit(&mut high, &with(Some(&class))).expect("the global default");
    assert_eq!(
        (
            &high["spec"]["priority"],
            &high["spec"]["priorityClassName"],
            &high["spec"]["preemptionPolicy"]
        ),
        (&json!(7), &json!("high"), &json!("Never"))
    );
    let mut named = pod(json!({"priorityClassName": "high", "priority": 7}));
    admit(&mut named, &with(Some(&class))).expect("the same priority");
    assert_eq!(named["spec"]["preemptionPolicy"], "Never");
    assert_eq!(
        admit(&mut pod(json!({"priorityClassName": "none"})), &with(None)),
        Err(Denied::NoPriorityClass {
            name: "none".to_owned()
        })
    );
    assert_eq!(
        admit(&mut pod(json!({"priority": 5})), &with(None)),
        Err(Denied::Priority {
            given: 5,
            computed: 0
        })
    );
}

#[test]
fn pods_stay_five_minutes_on_a_lost_node() {
    let added = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let (not_ready, unreachable) = (
        added("node.kubernetes.io/not-ready"),
        added("node.kubernetes.io/unreachable"),
    );
    let own =
        json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"});
    let everything = json!({"operator": "Exists"});
    for (behaviour, given, expected) in [
        ("both are added", json!([]), json!([not_ready, unreachable])),
        (
            "the Pod's own counts",
            json!([own]),
            json!([own, unreachable]),
        ),
        (
            "everything is tolerated already",
            json!([everything]),
            json!([everything]),
        ),
    ] {
        let mut pod = pod(json!({"tolerations": given}));
        admit(&mut pod, &context(Some(&json!({})))).expect("the account exists");
        assert_eq!(pod["spec"]["tolerations"], expected, "{behaviour}");
    }
    // They come back when an update leaves them out.
    let mut old = pod(json!({}));
    admit(&mut old, &context(Some(&json!({})))).expect("the account exists");
    let mine = json!({"key": "mine", "operator": "Exists"});
    let new = update(Main, &old, |pod| pod["spec"]["tolerations"] = json!([mine]));
    let defaults = old["spec"]["tolerations"].as_array().unwrap();
    assert_eq!(
        new["spec"]["tolerations"],
        json!([mine, defaults[0], defaults[1]])
    );
}

#[test]
fn quality_of_service_classes() {
    let with = |limits: Value, requests: Value| {
        pod(
            json!({"containers": [{"name": "a", "image": "x", "resources": {"limits": limits, "requests": requests}}]}),
        )
    };
    let full = json!({"cpu": "1", "memory": "1Gi"});
    for (behaviour, pod, class) in [
        ("nothing set", pod(json!({})), "BestEffort"),
        (
            "zero counts as nothing",
            with(json!({"cpu": "0"}), json!({})),
            "BestEffort",
        ),
        (
            "other resources do not count",
            with(json!({"ephemeral-storage": "1Gi"}), json!({})),
            "BestEffort",
        ),
        (
            "limits alone are requests too",
            with(full.clone(), json!({})),
            "Guaranteed",
        ),
        (
            "written otherwise, the same",
            with(full.clone(), json!({"cpu": "1000m", "memory": "1024Mi"})),
            "Guaranteed",
        ),
        (
            "lower requests",
            with(full.clone(), json!({"cpu": "500m"})),
            "Burstable",
        ),
        (
            "one resource",
            with(json!({"cpu": "1"}), json!({})),
            "Burstable",
        ),
        (
            "one container without",
            pod(
                json!({"containers": [{"name": "a", "image": "x", "resources": {"limits": full}}, {"name": "b", "image": "x"}]}),
            ),
            "Burstable",
        ),
        (
            "init containers count",
            pod(
                json!({"initContainers": [{"name": "i", "image": "x", "resources": {"requests": {"cpu": "1"}}}]}),
            ),
            "Burstable",
        ),
        (
            "the Pod's own resources alone",
            pod(json!({"resources": {"limits": full}})),
            "Guaranteed",
        ),
    ] {
        assert_eq!(qos_class(&pod), class, "{behaviour}");
    }
}

#[test]
fn new_pods_begin_pending() {
    let mut new = pod(json!({"schedulingGates": [{"name": "g"}]}));
    new["status"] = json!({"phase": "Running", "podIP": "1.1.1.1"});
    admission::prepare_create("pods", &mut new);
    assert_eq!(new["metadata"]["generation"], 1);
    assert_eq!(
        (
            &new["status"]["phase"],
            &new["status"]["qosClass"],
            &new["status"]["podIP"]
        ),
        (&json!("Pending"), &json!("BestEffort"), &Value::Null)
    );
    assert_eq!(
        (
            &new["status"]["conditions"][0]["type"],
            &new["status"]["conditions"][0]["reason"]
        ),
        (&json!("PodScheduled"), &json!("SchedulingGated"))
    );
}

#[test]
fn subresources_touch_what_they_are_for() {
    let mut old = pod(json!({"tolerations": [{"operator": "Exists"}]}));
    admission::prepare_create("pods", &mut old);
    old["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
    let image = |pod: &mut Value| pod["spec"]["containers"][0]["image"] = "y".into();

    let main = update(Main, &old, |pod| {
        image(pod);
        pod["status"] = json!({});
        pod["metadata"]["deletionTimestamp"] = Value::Null;
        pod["metadata"]["generation"] = 9.into();
    });
    assert_eq!(
        (&main["status"], &main["metadata"]["generation"]),
        (&old["status"], &json!(2)),
        "spec counts, status stays"
    );
    assert_eq!(
        main["metadata"]["deletionTimestamp"], old["metadata"]["deletionTimestamp"],
        "deletion cannot be taken back"
    );

    let labelled = update(Main, &old, |pod| {
        pod["metadata"]["labels"] = json!({"a": "b"})
    });
    assert_eq!(labelled["metadata"]["generation"], 1, "labels do not count");

    let status = update(Status, &old, |pod| {
        image(pod);
        pod["status"] = json!({"phase": "Running"});
        pod["metadata"]["ownerReferences"] = json!([{}]);
    });
    assert_eq!(
        (&status["spec"], &status["metadata"]),
        (&old["spec"], &old["metadata"])
    );
    assert_eq!(
        status["status"],
        json!({"phase": "Running", "qosClass": "BestEffort"}),
        "the class is filled in"
    );

    let debug = update(EphemeralContainers, &old, |pod| {
        image(pod);
        pod["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "x"}]);
    });
    assert_eq!(
        (
            &debug["spec"]["containers"],
            &debug["metadata"]["generation"]
        ),
        (&old["spec"]["containers"], &json!(2))
    );
    assert_eq!(debug["spec"]["ephemeralContainers"][0]["name"], "e");

    let resized = update(Resize, &old, |pod| {
        image(pod);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    });
    assert_eq!(
        (
            &resized["spec"]["containers"][0]["image"],
            &resized["spec"]["containers"][0]["resources"]["requests"]["cpu"]
        ),
        (&json!("x"), &json!("1"))
    );
}

#[test]
fn bindings_bind_once() {
    let bind = |pod: &mut Value| {
        binding::apply(
            pod,
            &json!({"metadata": {"annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n"}}),
            "2026-01-02T03:04:05Z",
        )
    };
    let mut free = pod(json!({}));
    assert_eq!(bind(&mut free), Ok(()));
    assert_eq!(
        (
            &free["spec"]["nodeName"],
            &free["metadata"]["annotations"]["a"]
        ),
        (&json!("n"), &json!("b"))
    );
    assert_eq!(
        (
            &free["status"]["conditions"][0]["type"],
            &free["status"]["conditions"][0]["status"]
        ),
        (&json!("PodScheduled"), &json!("True"))
    );
    let again = bind(&mut free).expect_err("bound already");
    assert_eq!(again.to_string(), "pod p is already assigned to node \"n\"");
    assert_eq!(
        bind(&mut pod(json!({"schedulingGates": [{"name": "g"}]}))),
        Err(Conflict::Gated {
            pod: "p".to_owned()
        })
    );
    let mut leaving = pod(json!({}));
    leaving["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
    assert_eq!(
        bind(&mut leaving),
        Err(Conflict::Deleting {
            pod: "p".to_owned()
        })
    );
    let texts: Vec<String> = binding::validate(&json!({"target": {"kind": "X"}}))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "target.kind: Unsupported value: \"X\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value"
        ]
    );
}

#[test]
fn namespaces_take_objects_while_they_live() {
    assert_eq!(
        namespace::check_create("x", Some(&json!({"status": {"phase": "Active"}}))),
        Ok(())
    );
    assert_eq!(
        namespace::check_create("x", None),
        Err(Refusal::Missing {
            name: "x".to_owned()
        })
    );
    let ending = namespace::check_create("x", Some(&json!({"status": {"phase": "Terminating"}})))
        .expect_err("it ends");
    assert_eq!(
        ending.to_string(),
        "unable to create new content in namespace x because it is being terminated"
    );
    assert_eq!(
        ending.cause(),
        Some((
            "NamespaceTerminating",
            "namespace x is being terminated".to_owned(),
            "metadata.namespace"
        ))
    );
    let mut new = json!({"metadata": {"name": "x"}});
    admission::default("namespaces", &mut new);
    admission::prepare_create("namespaces", &mut new);
    assert_eq!(
        new,
        json!({"metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    );
}

#[test]
fn secrets_take_plain_text() {
    let mut secret = json!({"metadata": {"name": "s"}, "data": {"a": "eA==", "b": "eA=="}, "stringData": {"b": "why"}});
    admission::default("secrets", &mut secret);
    assert_eq!(
        secret,
        json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "eA==", "b": "d2h5"}})
    );
}

#[test]
fn services_keep_what_they_were_given() {
    let mut old = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"name": "a", "port": 80}]}});
    admission::default("services", &mut old);
    assert_eq!(
        old["spec"]["ports"][0],
        json!({"name": "a", "port": 80, "protocol": "TCP", "targetPort": 80})
    );
    assert_eq!(
        (
            &old["spec"]["externalTrafficPolicy"],
            &old["spec"]["internalTrafficPolicy"],
            &old["spec"]["sessionAffinity"]
        ),
        (&json!("Cluster"), &json!("Cluster"), &json!("None"))
    );
    let manifest = old.clone();
    old["spec"]["clusterIP"] = "10.0.0.1".into();
    old["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
    old["spec"]["ports"][0]["nodePort"] = 30000.into();

    let mut again = manifest.clone();
    admission::prepare_update("services", Main, &mut again, &old);
    assert_eq!(
        again["spec"], old["spec"],
        "applying the manifest again changes nothing"
    );

    let mut inner = old.clone();
    inner["spec"]["type"] = "ClusterIP".into();
    admission::prepare_update("services", Main, &mut inner, &old);
    assert_eq!(
        (
            inner["spec"]["ports"][0].get("nodePort"),
            inner["spec"].get("externalTrafficPolicy")
        ),
        (None, None),
        "node ports go with the type"
    );

    let mut outer = old.clone();
    outer["spec"]["type"] = "ExternalName".into();
    admission::prepare_update("services", Main, &mut outer, &old);
    assert_eq!(
        (
            outer["spec"].get("clusterIP"),
            outer["spec"].get("clusterIPs")
        ),
        (None, None),
        "addresses go with the type"
    );
}

#[test]
fn a_name_that_is_no_host_name_is_warned_about() {
    let mut dotted = pod(json!({}));
    assert_eq!(warnings(&dotted), [""; 0]);
    dotted["metadata"]["name"] = "a.b".into();
    assert!(warnings(&dotted)[0].starts_with("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: ["));
}

#[test]
fn kinds_without_rules_of_their_own_owe_metadata_only() {
    let resource = "clusterroles.rbac.authorization.k8s.io";
    let old =
        json!({"metadata": {"name": "system:x", "uid": "u", "resourceVersion": "1"}, "rules": []});
    assert_eq!(admission::validate_create(resource, &old), []);
    let new = update_of(resource, &old, |role| role["rules"] = json!([{}]));
    assert_eq!(admission::validate_update(resource, Main, &new, &old), []);
    let renamed = update_of(resource, &old, |role| {
        role["metadata"]["name"] = "a/b".into()
    });
    let texts: Vec<String> = admission::validate_update(resource, Main, &renamed, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "metadata.name: Invalid value: \"a/b\": may not contain '/'",
            "metadata.name: Invalid value: \"a/b\": field is immutable"
        ]
    );
}

fn update_of(resource: &str, old: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = old.clone();
    change(&mut new);
    admission::prepare_update(resource, Main, &mut new, old);
    new
}
