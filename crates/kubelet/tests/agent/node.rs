//! What an agent tells of its node.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

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

#[tokio::test(start_paused = true)]
async fn huge_pages_are_no_memory_any_more() {
    let world = start();
    let status = |api: &FakeApi| Some(api.get(NODE)?["status"].clone());
    let status = world.api.until("registered", status).await;
    for list in ["capacity", "allocatable"] {
        assert_eq!(status[list]["hugepages-2Mi"], "64Mi", "{list}");
        assert_eq!(status[list]["hugepages-1Gi"], "0", "{list}");
    }
    assert_eq!(status["capacity"]["memory"], "1048576Ki");
    assert_eq!(status["allocatable"]["memory"], "983040Ki");
    let asking = |name: &str, amount: &str| {
        let mut c = container("c");
        let huge = json!({"hugepages-2Mi": amount, "memory": "1Mi"});
        c["resources"] = json!({"requests": huge, "limits": huge});
        let path = format!("/api/v1/namespaces/n/pods/{name}");
        world.api.put(&path, pod(name, json!([c]), json!({})));
        path
    };
    let first = asking("first", "48Mi");
    let phase = |path: String, phase: &'static str| {
        move |api: &FakeApi| {
            let status = api.get(&path)?["status"].clone();
            (status["phase"] == phase).then_some(status)
        }
    };
    world.api.until("runs", phase(first, "Running")).await;
    let second = asking("second", "18Mi");
    let refused = world.api.until("refused", phase(second, "Failed")).await;
    assert_eq!(refused["reason"], "OutOfhugepages-2Mi");
    let why = "Pod was rejected: Node didn't have enough resource: hugepages-2Mi, requested: 18874368, used: 50331648, capacity: 67108864";
    assert_eq!(refused["message"], why);
}

#[tokio::test(start_paused = true)]
async fn dead_containers_that_stay_are_told_of() {
    let world = start();
    world.runtime.refuse_removals(1);
    let path = "/api/v1/namespaces/n/pods/p";
    let made = pod("p", json!([container("c")]), json!({}));
    world.api.put(path, made);
    // The third run leaves two dead ones, of which one is kept.
    for count in 0..3 {
        let runs = |api: &FakeApi| {
            let status = api.get(path)?["status"]["containerStatuses"][0].clone();
            let is_next = status["restartCount"] == count && status["state"]["running"].is_object();
            is_next.then_some(())
        };
        world.api.until("runs", runs).await;
        if count < 2 {
            world.runtime.exit("c", 1);
        }
    }
    let why = "ContainerGCFailed: remove its record: read-only filesystem or storage medium";
    told(&world.api, &[why]).await;
    let removals = || {
        let calls = world.runtime.calls();
        calls.iter().filter(|c| *c == "remove container").count()
    };
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(removals(), 2, "tried again");
}
