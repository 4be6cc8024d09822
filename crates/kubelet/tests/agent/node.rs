//! What an agent tells of its node.

use std::io::Write as _;
use std::sync::Arc;

use serde_json::json;

use crate::support::api::FakeApi;
use crate::support::ports::FakeRuntime;
use crate::support::{start, start_with};

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
