//! Kinds of group networking.k8s.io: the operations that upstream's end-to-end specs of them ask for, the class of Ingresses that name
//! none, and the range of Services as an object.

use std::net::Ipv4Addr;

use apiserver::ServiceRange;
use serde_json::{Value, json};

use crate::support::{Answer, Server};

const GROUP: &str = "/apis/networking.k8s.io/v1";
const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGE: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";

fn ingress(name: &str) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 8080}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "labels": {"special": "yes"}},
        "spec": {"defaultBackend": backend, "rules": [{"host": "a.example.com", "http": {"paths": [path]}}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
    })
}

fn class(name: &str, is_default: bool) -> Value {
    let mark = json!({"ingressclass.kubernetes.io/is-default-class": is_default.to_string()});
    json!({"metadata": {"name": name, "labels": {"special": "yes"}, "annotations": mark}, "spec": {"controller": "example.com/controller"}})
}

fn address(name: &str, kind: &str) -> Value {
    let parent =
        json!({"group": "mygroup", "resource": "things", "namespace": "foo", "name": "bar"});
    json!({"metadata": {"name": name, "labels": {"type": kind}}, "spec": {"parentRef": parent}})
}

async fn merge(server: &Server, path: &str, patch: Value) -> Answer {
    let kind = [("content-type", "application/merge-patch+json")];
    server.ask_as("PATCH", path, patch, &kind).await
}

fn len(answer: &Answer) -> usize {
    answer.body["items"].as_array().expect("a list").len()
}

/// Patches and updates an object of any kind as the specs do, and awaits both in a watch.
async fn annotate(server: &Server, collection: &str, name: &str) {
    let path = format!("{collection}/{name}");
    let begin = server.get(collection).await;
    let since = begin.meta("resourceVersion");
    let mut events = server
        .watch(&format!("{collection}?watch=1&resourceVersion={since}"))
        .await;
    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = merge(server, &path, patch).await;
    assert_eq!(patched.code, 200, "{patched:?}");
    let mut wanted = patched.body.clone();
    wanted["metadata"]["annotations"]["updated"] = "true".into();
    let updated = server.ask("PUT", &path, wanted).await;
    let annotations = &updated.body["metadata"]["annotations"];
    assert_eq!(
        (updated.code, &annotations["updated"]),
        (200, &"true".into())
    );
    for _ in 0..2 {
        assert_eq!(events.event().await, ("MODIFIED".into(), name.into()));
    }
}

#[tokio::test]
async fn the_group_is_discovered() {
    let server = Server::start().await;
    let group = server.get("/apis/networking.k8s.io").await;
    assert_eq!(group.body["versions"][0]["version"], "v1");
    let listed = server.get(GROUP).await;
    let resources = listed.body["resources"].as_array().expect("a list");
    let seen: Vec<Value> = resources
        .iter()
        .map(|r| json!([r["name"], r["kind"], r["namespaced"], r["shortNames"]]))
        .collect();
    let wanted = [
        json!(["ingressclasses", "IngressClass", false, null]),
        json!(["ingresses", "Ingress", true, ["ing"]]),
        json!(["ingresses/status", "Ingress", true, null]),
        json!(["ipaddresses", "IPAddress", false, ["ip"]]),
        json!(["networkpolicies", "NetworkPolicy", true, ["netpol"]]),
        json!(["servicecidrs", "ServiceCIDR", false, null]),
        json!(["servicecidrs/status", "ServiceCIDR", false, null]),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn ingresses_take_all_operations() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        let made = server.ask("POST", INGRESSES, ingress(name)).await;
        assert_eq!(made.code, 201, "{made:?}");
        assert_eq!(made.body["metadata"]["generation"], 1);
        assert_eq!(made.body["status"], json!({"loadBalancer": {}}));
    }
    for collection in [INGRESSES, &format!("{GROUP}/ingresses")] {
        let listed = server
            .get(&format!("{collection}?labelSelector=special%3Dyes"))
            .await;
        assert_eq!(len(&listed), 3, "{collection}");
    }
    annotate(&server, INGRESSES, "a").await;

    let status = format!("{INGRESSES}/a/status");
    let point = |ip: &str| json!({"loadBalancer": {"ingress": [{"ip": ip}]}});
    let patch =
        json!({"metadata": {"annotations": {"more": "true"}}, "status": point("169.1.1.1")});
    let mut patched = merge(&server, &status, patch).await;
    assert_eq!(patched.body["status"], point("169.1.1.1"), "{patched:?}");
    assert_eq!(patched.body["metadata"]["annotations"]["more"], "true");
    patched.body["status"] = point("169.1.1.2");
    patched.body["spec"] = json!({});
    let updated = server.ask("PUT", &status, patched.body).await;
    assert_eq!(updated.body["status"], point("169.1.1.2"), "{updated:?}");
    let seen = server.get(&status).await;
    assert_eq!(seen.body["spec"], ingress("a")["spec"]);
    assert_eq!(seen.body["metadata"]["generation"], 1);

    let path = format!("{INGRESSES}/a");
    let host = json!({"spec": {"rules": [{"host": "b.example.com"}]}});
    let changed = server.ask("PATCH", &path, host).await;
    assert_eq!(changed.body["metadata"]["generation"], 2, "{changed:?}");
    assert_eq!(changed.body["status"], point("169.1.1.2"));

    let removed = server.ask("DELETE", &path, Value::Null).await;
    assert_eq!((removed.code, server.get(&path).await.code), (200, 404));
    server.ask("DELETE", INGRESSES, Value::Null).await;
    assert_eq!(len(&server.get(INGRESSES).await), 0);
}

#[tokio::test]
async fn policies_take_all_operations() {
    let server = Server::start().await;
    let policy = |name: &str| json!({"metadata": {"name": name, "labels": {"special": "yes"}}, "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}});
    for name in ["a", "b", "c"] {
        let made = server.ask("POST", POLICIES, policy(name)).await;
        assert_eq!(made.code, 201, "{made:?}");
        assert_eq!(made.body["metadata"]["generation"], 1);
        let wanted = json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}], "policyTypes": ["Ingress"]});
        assert_eq!(made.body["spec"], wanted);
        assert!(made.body.get("status").is_none());
    }
    for collection in [POLICIES, &format!("{GROUP}/networkpolicies")] {
        let listed = server
            .get(&format!("{collection}?labelSelector=special%3Dyes"))
            .await;
        assert_eq!(len(&listed), 3, "{collection}");
    }
    annotate(&server, POLICIES, "a").await;
    let path = format!("{POLICIES}/a");
    let block = json!({"ipBlock": {"cidr": "fd00:0::/48"}});
    let changed = json!({"spec": {"ingress": [{"from": [block]}]}});
    let changed = merge(&server, &path, changed).await;
    assert_eq!(changed.body["metadata"]["generation"], 2, "{changed:?}");
    assert!(
        changed.warnings[0].contains("RFC 5952 canonical format"),
        "{changed:?}"
    );
    let wrong = json!({"spec": {"policyTypes": ["Both"]}});
    let wrong = merge(&server, &path, wrong).await;
    let text = "NetworkPolicy.networking.k8s.io \"a\" is invalid: spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"";
    assert_eq!(wrong.body["message"], text);
    let removed = server.ask("DELETE", &path, Value::Null).await;
    assert_eq!((removed.code, server.get(&path).await.code), (200, 404));
    server.ask("DELETE", POLICIES, Value::Null).await;
    assert_eq!(len(&server.get(POLICIES).await), 0);
}

#[tokio::test]
async fn ingress_classes_take_all_operations() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        let made = server.ask("POST", CLASSES, class(name, false)).await;
        let generation = &made.body["metadata"]["generation"];
        assert_eq!((made.code, generation), (201, &json!(1)), "{made:?}");
    }
    annotate(&server, CLASSES, "a").await;
    let path = format!("{CLASSES}/a");
    let parameters = json!({"spec": {"parameters": {"kind": "K", "name": "n"}}});
    let patched = server.ask("PATCH", &path, parameters).await;
    assert_eq!(patched.body["spec"]["parameters"]["scope"], "Cluster");
    assert_eq!(patched.body["metadata"]["generation"], 2);
    let other = json!({"spec": {"controller": "example.com/other"}});
    let refused = server.ask("PATCH", &path, other).await;
    let text = "IngressClass.networking.k8s.io \"a\" is invalid: spec.controller: Invalid value: \"example.com/other\": field is immutable";
    assert_eq!((refused.code, refused.message()), (422, text));

    assert_eq!(server.ask("DELETE", &path, Value::Null).await.code, 200);
    let all = format!("{CLASSES}?labelSelector=special%3Dyes");
    server.ask("DELETE", &all, Value::Null).await;
    assert_eq!(len(&server.get(CLASSES).await), 0);
}

#[tokio::test]
async fn an_ingress_without_a_class_is_given_the_default_one() {
    let server = Server::start().await;
    server.ask("POST", CLASSES, class("plain", false)).await;
    let made = server.ask("POST", INGRESSES, ingress("before")).await;
    assert!(made.body["spec"].get("ingressClassName").is_none());
    server.ask("POST", CLASSES, class("usual", true)).await;
    let made = server.ask("POST", INGRESSES, ingress("after")).await;
    assert_eq!(made.body["spec"]["ingressClassName"], "usual");
    assert!(made.warnings.is_empty(), "{made:?}");

    let mut outdated = ingress("outdated");
    outdated["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "plain"});
    let made = server.ask("POST", INGRESSES, outdated.clone()).await;
    assert!(made.body["spec"].get("ingressClassName").is_none());
    assert_eq!(made.warnings.len(), 1, "{made:?}");
    assert!(made.warnings[0].contains("is deprecated, please use 'spec.ingressClassName' instead"));
    outdated["metadata"]["name"] = "both".into();
    outdated["spec"]["ingressClassName"] = "usual".into();
    let refused = server.ask("POST", INGRESSES, outdated).await;
    let text = "Ingress.networking.k8s.io \"both\" is invalid: annotations.kubernetes.io/ingress.class: Invalid value: \"plain\": must \
                match `ingressClassName` when both are specified";
    assert_eq!((refused.code, refused.message()), (422, text));
}

#[tokio::test]
async fn addresses_take_all_operations() {
    let server = Server::start().await;
    let names = ["255.255.255.255", "fe80::42:1dff:fe84:f9e2"];
    for (name, kind) in names.into_iter().zip(["broadcast", "link-local"]) {
        let made = server.ask("POST", ADDRESSES, address(name, kind)).await;
        assert_eq!(made.code, 201, "{made:?}");
        assert!(made.body["metadata"].get("generation").is_none());
    }
    annotate(&server, ADDRESSES, names[0]).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let seen = server
        .ask_as("GET", ADDRESSES, Value::Null, &table)
        .await
        .body;
    assert_eq!(
        seen["rows"][1]["cells"],
        json!([names[1], "things.mygroup/foo/bar"])
    );
    let path = format!("{ADDRESSES}/{}", names[0]);
    assert_eq!(server.ask("DELETE", &path, Value::Null).await.code, 200);
    let other = format!("{ADDRESSES}?labelSelector=type%3Dlink-local");
    server.ask("DELETE", &other, Value::Null).await;
    assert_eq!(len(&server.get(ADDRESSES).await), 0);
    let upper = server
        .ask("POST", ADDRESSES, address("FE80::1", "link-local"))
        .await;
    let text = "IPAddress.networking.k8s.io \"FE80::1\" is invalid: metadata.name: Invalid value: \"FE80::1\": must be in canonical form \
                (\"fe80::1\")";
    assert_eq!((upper.code, upper.message()), (422, text));
}

#[tokio::test]
async fn the_range_of_services_is_an_object() {
    let server = Server::start().await;
    let range = server.get(RANGE).await;
    assert_eq!(range.body["spec"], json!({"cidrs": ["10.96.0.0/24"]}));
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": range.meta("creationTimestamp"),
    });
    assert_eq!(range.body["status"]["conditions"], json!([condition]));
    assert_eq!(
        server.get(&format!("{RANGE}/status")).await.body,
        range.body
    );
    let server = server.restart((1053, 1054)).await;
    assert_eq!(server.get(RANGE).await.body, range.body);

    let removed = server.ask("DELETE", RANGE, Value::Null).await;
    assert_eq!(removed.code, 200, "{removed:?}");
    let held = server.get(RANGE).await;
    assert!(!held.meta("deletionTimestamp").is_empty(), "{held:?}");
    let wider = ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 16).expect("a range");
    let server = server
        .restart_with(|config| config.service_range = wider)
        .await;
    let other = server.get(RANGE).await;
    assert_eq!(other.body["spec"], json!({"cidrs": ["10.96.0.0/16"]}));
    assert_ne!(other.meta("uid"), range.meta("uid"));
    assert_eq!(other.body["status"]["conditions"][0]["status"], "True");
    let narrow = ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 25).expect("a range");
    let server = server
        .restart_with(|config| config.service_range = narrow)
        .await;
    let last = server.get(RANGE).await;
    assert_eq!(last.body["spec"], json!({"cidrs": ["10.96.0.0/25"]}));
}

/// The second family of the ranges comes later; Services get addresses of it when they ask for them.
#[tokio::test]
async fn services_have_addresses_of_both_families() {
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    let server = Server::start().await;
    let spec = json!({"ports": [{"port": 80}], "selector": {"a": "b"}});
    let service = |name: &str, policy: &str| {
        let mut spec = spec.clone();
        spec["ipFamilyPolicy"] = policy.into();
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let refused = server
        .ask("POST", SERVICES, service("both", "RequireDualStack"))
        .await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let one = server
        .ask("POST", SERVICES, service("web", "PreferDualStack"))
        .await;
    assert_eq!(one.body["spec"]["ipFamilies"], json!(["IPv4"]), "{one:?}");

    let v6: std::net::IpAddr = "fd00:96::".parse().expect("an address");
    let v6 = ServiceRange::new(v6, 112).expect("a range");
    let server = server
        .restart_with(|config| config.second_service_range = Some(v6))
        .await;
    let ranges = server
        .get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes")
        .await;
    let cidrs = json!(["10.96.0.0/24", "fd00:96::/112"]);
    assert_eq!(ranges.body["spec"]["cidrs"], cidrs);
    let both = server
        .ask("POST", SERVICES, service("both", "RequireDualStack"))
        .await;
    assert_eq!(both.code, 201, "{both:?}");
    let second = both.body["spec"]["clusterIPs"][1].as_str();
    let second = second.expect("an address").parse().expect("an address");
    assert!(v6.contains(second), "{second}");

    let path = format!("{SERVICES}/web");
    let mut web = server.get(&path).await.body;
    let first = web["spec"]["clusterIP"].clone();
    web["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
    let upgraded = server.ask("PUT", &path, web).await;
    let spec = &upgraded.body["spec"];
    assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]), "{upgraded:?}");
    assert_eq!(spec["clusterIPs"][0], first);
    let mut web = upgraded.body;
    web["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    let downgraded = server.ask("PUT", &path, web).await;
    assert_eq!(downgraded.body["spec"]["clusterIPs"], json!([first]));
    assert_eq!(downgraded.body["spec"]["ipFamilies"], json!(["IPv4"]));
}
