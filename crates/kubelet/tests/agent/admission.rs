//! Who is let in (spec `§1.2`): Pods bound past the scheduler are refused when the node is not for them, and who is in stays.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::ports::FakeRuntime;
use crate::support::{World, container, pod, start, start_with};

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/n/pods/{name}")
}

/// A Pod that asks for so much of a processor, with these fields added to its spec.
fn asking(name: &str, cpu: &str, more: Value) -> Value {
    let mut c = container("c");
    c["resources"] = json!({"requests": {"cpu": cpu}});
    pod(name, json!([c]), more)
}

fn put(api: &FakeApi, pod: Value) {
    let name = path(pod["metadata"]["name"].as_str().unwrap());
    api.put(&name, pod);
}

/// Waits until a Pod runs or has failed; its status then.
async fn decided(world: &World, name: &str) -> Value {
    let decided = |api: &FakeApi| {
        let status = api.get(&path(name))?["status"].clone();
        (status["phase"] != "Pending").then_some(status)
    };
    world.api.until(name, decided).await
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_and_what_is_in_stays() {
    let world = start();
    put(&world.api, asking("first", "1500m", json!({})));
    assert_eq!(decided(&world, "first").await["phase"], "Running");
    put(&world.api, asking("second", "600m", json!({})));
    let refused = decided(&world, "second").await;
    let why = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000";
    assert_eq!(refused["phase"], "Failed");
    assert_eq!(refused["reason"], "OutOfcpu");
    assert_eq!(refused["message"], format!("Pod was rejected: {why}"));
    assert_eq!(refused["containerStatuses"], json!(null));
    let told = |api: &FakeApi| {
        let event = format!("OutOfcpu: {why}");
        api.events().contains(&event).then_some(())
    };
    world.api.until("told", told).await;
    // What was refused holds nothing, also when it asks for less.
    let mut smaller = world.api.get(&path("second")).unwrap();
    smaller["metadata"]["generation"] = json!(2);
    smaller["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("400m");
    put(&world.api, smaller);
    put(&world.api, asking("third", "500m", json!({})));
    assert_eq!(decided(&world, "third").await["phase"], "Running");
    let made = |world: &World| {
        let calls = world.runtime.calls();
        let sandboxes = calls.iter().filter(|c| c.starts_with("run sandbox"));
        sandboxes.count()
    };
    assert_eq!(made(&world), 2, "{:?}", world.runtime.calls());

    // A later agent is told of newcomers before those who are in, and of a node that is not for anybody.
    let (api, runtime) = (world.api.clone(), world.runtime.clone());
    drop(world);
    put(&api, asking("a-newcomer", "100m", json!({})));
    let mut node = api.get("/api/v1/nodes/node").unwrap();
    node["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute"}]);
    api.put("/api/v1/nodes/node", node);
    let world = start_with(api, runtime);
    let refused = decided(&world, "a-newcomer").await;
    assert_eq!(refused["reason"], "OutOfcpu");
    let why = "Node didn't have enough resource: cpu, requested: 100, used: 2000, capacity: 2000";
    assert_eq!(refused["message"], format!("Pod was rejected: {why}"));
    put(&world.api, asking("late", "0", json!({})));
    let refused = decided(&world, "late").await;
    assert_eq!(refused["reason"], "TaintToleration");
    for name in ["first", "third"] {
        assert_eq!(decided(&world, name).await["phase"], "Running", "{name}");
    }
    assert_eq!(made(&world), 2, "{:?}", world.runtime.calls());
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_let_in_as_they_came() {
    let api = FakeApi::new();
    for (name, created) in [("a", 3), ("b", 1), ("c", 2)] {
        let mut pod = asking(name, "1", json!({}));
        pod["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:0{created}Z"));
        put(&api, pod);
    }
    let world = start_with(api, Arc::new(FakeRuntime::new()));
    assert_eq!(decided(&world, "a").await["reason"], "OutOfcpu");
    for name in ["b", "c"] {
        assert_eq!(decided(&world, name).await["phase"], "Running", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_asked_for_as_it_is_now() {
    let world = start();
    put(&world.api, asking("early", "0", json!({})));
    assert_eq!(decided(&world, "early").await["phase"], "Running");
    let picky = |name| asking(name, "0", json!({"nodeSelector": {"disk": "ssd"}}));
    put(&world.api, picky("before"));
    let refused = decided(&world, "before").await;
    assert_eq!(refused["reason"], "NodeAffinity");
    assert_eq!(
        refused["message"],
        "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
    let mut node = world.api.get("/api/v1/nodes/node").unwrap();
    node["metadata"]["labels"]["disk"] = json!("ssd");
    world.api.put("/api/v1/nodes/node", node);
    put(&world.api, picky("after"));
    assert_eq!(decided(&world, "after").await["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn who_is_over_or_gone_holds_nothing() {
    let world = start();
    put(&world.api, asking("first", "1500m", json!({})));
    assert_eq!(decided(&world, "first").await["phase"], "Running");
    // It never began; nobody asks whether it would fit.
    let mut over = asking("over", "1500m", json!({}));
    over["status"] = json!({"phase": "Failed", "reason": "Evicted"});
    put(&world.api, over);
    // Removed by force, with its containers still there: the scheduler counts on its room.
    world.runtime.refuse_stops(3);
    world.api.remove(&path("first"));
    put(&world.api, asking("second", "1500m", json!({})));
    assert_eq!(decided(&world, "second").await["phase"], "Running");
    let status = world.api.get(&path("over")).unwrap()["status"].clone();
    assert_eq!(status["reason"], "Evicted", "{status:#}");
    // Nor does an end that was there from the beginning count.
    world.api.remove(&path("second"));
    put(&world.api, asking("third", "2", json!({})));
    assert_eq!(decided(&world, "third").await["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn a_critical_pod_takes_the_place_of_another() {
    let world = start();
    let prior = |name, cpu, priority: i32| {
        let mut pod = asking(name, cpu, json!({"priority": priority}));
        pod["status"]["qosClass"] = json!("Burstable");
        pod
    };
    put(&world.api, prior("small", "200m", 0));
    put(&world.api, prior("large", "1500m", 0));
    for name in ["small", "large"] {
        assert_eq!(decided(&world, name).await["phase"], "Running", "{name}");
    }
    put(&world.api, prior("critical", "1500m", 2_000_000_000));
    let over = |api: &FakeApi| {
        let status = api.get(&path("large"))?["status"].clone();
        (status["phase"] == "Failed").then_some(status)
    };
    let ended = world.api.until("over", over).await;
    assert_eq!(ended["reason"], "Preempting");
    assert_eq!(ended["message"], "Preempted in order to admit critical pod");
    let conditions = ended["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget");
    let target = target.expect("a condition");
    assert_eq!(target["status"], "True");
    assert_eq!(target["reason"], "TerminationByKubelet");
    let why = "Pod was preempted by Kubelet to accommodate a critical pod.";
    assert_eq!(target["message"], why);
    let told = |api: &FakeApi| {
        let event = "Preempting: Preempted in order to admit critical pod".to_owned();
        api.events().contains(&event).then_some(())
    };
    world.api.until("told", told).await;
    assert_eq!(decided(&world, "critical").await["phase"], "Running");
    assert_eq!(decided(&world, "small").await["phase"], "Running");
    // Its own grace, and nothing of the one before the other has ended.
    let calls = world.runtime.calls();
    let at = |call: &str| calls.iter().rposition(|c| c == call);
    assert!(at("stop c 30").is_some(), "{calls:?}");
    assert!(at("stop c 30") < at("run sandbox 0"), "{calls:?}");
    // Who is as important stays.
    put(&world.api, prior("late", "1500m", 2_000_000_000));
    let refused = decided(&world, "late").await;
    assert_eq!(refused["reason"], "UnexpectedAdmissionError", "{refused:#}");
}
