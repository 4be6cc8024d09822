//! What an agent tells of its node.

use std::io::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::ports::FakeRuntime;
use crate::support::{container, pod, start, start_with};

const NODE: &str = "/api/v1/nodes/node";

async fn told(api: &FakeApi, wanted: &[&str]) {
    let all = |api: &FakeApi| {
        let events = api.node_events();
        let is_told = |text: &&str| events.iter().any(|event| event == text);
        wanted.iter().all(is_told).then_some(())
    };
    api.until("told", all).await;
}

#[tokio::test(start_paused = true)]
async fn events_tell_of_the_node() {
    let world = start_with(FakeApi::new(), Arc::new(FakeRuntime::new()));
    let starting = "Starting: Starting kubelet.";
    told(
        &world.api,
        &[starting, "NodeReady: Node node status is now: NodeReady"],
    )
    .await;
    for (is_cordoned, reason) in [(true, "NodeNotSchedulable"), (false, "NodeSchedulable")] {
        let mut node = world.api.get(NODE).unwrap();
        node["spec"]["unschedulable"] = json!(is_cordoned);
        world.api.put(NODE, node);
        let text = format!("{reason}: Node node status is now: {reason}");
        told(&world.api, &[&text]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_wait_until_there_is_a_network() {
    let runtime = Arc::new(FakeRuntime::new());
    runtime.set_network(Some("cni plugin not initialized"));
    let world = start_with(FakeApi::new(), runtime);
    let why = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
               message:Network plugin returns error: cni plugin not initialized";
    let ready = |api: &FakeApi| {
        let node = api.get(NODE)?;
        let conditions = node["status"]["conditions"].as_array()?;
        conditions.iter().find(|c| c["type"] == "Ready").cloned()
    };
    let condition = world.api.until("registered", ready).await;
    let words = (
        &condition["status"],
        &condition["reason"],
        &condition["message"],
    );
    assert_eq!(
        words,
        (&json!("False"), &json!("KubeletNotReady"), &json!(why))
    );
    for (name, more) in [
        ("p", json!({})),
        ("host", json!({"hostNetwork": true})),
        ("gone", json!({})),
    ] {
        let path = format!("/api/v1/namespaces/n/pods/{name}");
        world
            .api
            .put(&path, pod(name, json!([container("a")]), more));
    }
    let event = format!("NetworkNotReady: network is not ready: {why}");
    let told = |api: &FakeApi| {
        let told = api.events();
        (told.iter().filter(|e| **e == event).count() >= 2).then_some(())
    };
    world.api.until("told", told).await;
    let runs = |name: &str| {
        let path = format!("/api/v1/namespaces/n/pods/{name}");
        move |api: &FakeApi| {
            api.get(&path)
                .filter(|pod| pod["status"]["phase"] == "Running")
        }
    };
    world
        .api
        .until("runs on the node's network", runs("host"))
        .await;
    // Whoever is deleted does not wait for it.
    let gone = "/api/v1/namespaces/n/pods/gone";
    world.api.delete_gracefully(gone, 30);
    let is_gone = |api: &FakeApi| api.get(gone).is_none().then_some(());
    world.api.until("gone", is_gone).await;
    assert_eq!(world.runtime.sandboxes(), 1);
    world.runtime.set_network(None);
    world.api.until("runs", runs("p")).await;
    told_ready(&world.api, ready, "True").await;
    // Those that run go on without it.
    world
        .runtime
        .set_network(Some("cni plugin not initialized"));
    told_ready(&world.api, ready, "False").await;
    let reason = "NodeNotReady: Node node status is now: NodeNotReady";
    self::told(&world.api, &[reason]).await;
    assert_eq!(world.runtime.sandboxes(), 2);
}

async fn told_ready(api: &FakeApi, ready: impl Fn(&FakeApi) -> Option<Value>, wanted: &str) {
    let is = |api: &FakeApi| ready(api).filter(|c| c["status"] == wanted);
    api.until("told", is).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_booted_anew_is_told_of() {
    let api = FakeApi::new();
    let first = start_with(api.clone(), Arc::new(FakeRuntime::new()));
    told(&api, &["NodeReady: Node node status is now: NodeReady"]).await;
    drop(first);
    api.expire_events();
    let mut node = api.get(NODE).unwrap();
    node["status"]["nodeInfo"]["bootID"] = json!("of another boot");
    api.put(NODE, node);
    let _second = start_with(api.clone(), Arc::new(FakeRuntime::new()));
    told(
        &api,
        &["Rebooted: Node node has been rebooted, boot id: this boot"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_for_the_machines_sake_is_told_of() {
    let mut world = start();
    let facts = "constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=eater,pid=42,uid=0";
    writeln!(world.kernel, "6,1,1,-;eater invoked oom-killer: order=0").unwrap();
    writeln!(world.kernel, "6,2,2,-;oom-kill:{facts}").unwrap();
    let event = "SystemOOM: System OOM encountered, victim process: eater, pid: 42";
    told(&world.api, &[event]).await;
}
