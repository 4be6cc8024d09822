//! What an agent does when its node runs out of something (spec `§2.9`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::pressure::Settings;
use ports::volumes::Space;
use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::ports::FakeRuntime;
use crate::support::{World, container, pod, start, start_evicting};

const MEBI: u64 = 1 << 20;

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/n/pods/{name}")
}

fn texts(signal: &str, text: &str) -> BTreeMap<String, String> {
    [(signal.to_owned(), text.to_owned())].into()
}

fn hard(signal: &str, least: &str) -> Settings {
    Settings {
        hard: texts(signal, least),
        ..Settings::default()
    }
}

fn put(world: &World, name: &str, priority: i32) {
    let pod = pod(name, json!([container("c")]), json!({"priority": priority}));
    world.api.put(&path(name), pod);
}

/// Waits until a Pod is in a phase; its status then.
async fn in_phase(world: &World, name: &str, phase: &str) -> Value {
    let seen = |api: &FakeApi| {
        let status = api.get(&path(name))?["status"].clone();
        (status["phase"] == phase).then_some(status)
    };
    world.api.until(&format!("{name} {phase}"), seen).await
}

async fn pressed(world: &World, condition: &str, status: &str) -> Value {
    let seen = |api: &FakeApi| {
        let node = api.get("/api/v1/nodes/node")?;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        let found = conditions.into_iter().find(|c| c["type"] == condition);
        found.filter(|c| c["status"] == status)
    };
    world
        .api
        .until(&format!("{condition} {status}"), seen)
        .await
}

#[tokio::test(start_paused = true)]
async fn one_pod_goes_when_memory_is_short() {
    let runtime = Arc::new(FakeRuntime::new());
    // Of a gibibyte.
    let hard = hard("memory.available", "100Mi");
    let world = start_evicting(FakeApi::new(), runtime.clone(), &hard);
    for (name, priority) in [("critical", 2_000_000_000), ("high", 5), ("low", 0)] {
        put(&world, name, priority);
        in_phase(&world, name, "Running").await;
    }
    pressed(&world, "MemoryPressure", "False").await;
    runtime.use_memory(320 * MEBI);
    let ended = in_phase(&world, "low", "Failed").await;
    let why = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi. Container c was using 320Mi, request is 0, \
               has larger consumption of memory. ";
    assert_eq!(ended["reason"], "Evicted");
    assert_eq!(ended["message"], why);
    let conditions = ended["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget");
    assert_eq!(target.unwrap_or(&Value::Null)["message"], why, "{ended:#}");
    let told = |api: &FakeApi| {
        let events = [api.events(), api.node_events()].concat();
        let wanted = [
            format!("Evicted: {why}"),
            "EvictionThresholdMet: Attempting to reclaim memory".to_owned(),
            "NodeHasInsufficientMemory: Node node status is now: NodeHasInsufficientMemory"
                .to_owned(),
        ];
        wanted.iter().all(|w| events.contains(w)).then_some(())
    };
    world.api.until("told", told).await;
    let condition = pressed(&world, "MemoryPressure", "True").await;
    assert_eq!(condition["reason"], "KubeletHasInsufficientMemory");
    // A second of grace, which is two at the least.
    let calls = runtime.calls();
    assert!(calls.contains(&"stop c 2".to_owned()), "{calls:?}");

    // Two are left, and no more of that kind are let in; a critical one is.
    put(&world, "late", 0);
    let refused = in_phase(&world, "late", "Failed").await;
    assert_eq!(refused["reason"], "Evicted");
    let why = "Pod was rejected: The node had condition: [MemoryPressure]. ";
    assert_eq!(refused["message"], why);
    runtime.use_memory(0);
    put(&world, "critical-too", 2_000_000_000);
    in_phase(&world, "critical-too", "Running").await;
    for name in ["critical", "high"] {
        in_phase(&world, name, "Running").await;
    }
    // Five minutes later it is over.
    tokio::time::sleep(Duration::from_secs(280)).await;
    let condition = pressed(&world, "MemoryPressure", "False").await;
    assert_eq!(condition["reason"], "KubeletHasSufficientMemory");
    let over = "NodeHasSufficientMemory: Node node status is now: NodeHasSufficientMemory";
    let told = |api: &FakeApi| api.node_events().contains(&over.to_owned()).then_some(());
    world.api.until("told", told).await;
    put(&world, "later", 0);
    in_phase(&world, "later", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_go_is_told_of() {
    let runtime = Arc::new(FakeRuntime::new());
    let hard = hard("memory.available", "100Mi");
    let world = start_evicting(FakeApi::new(), runtime.clone(), &hard);
    put(&world, "stuck", 0);
    in_phase(&world, "stuck", "Running").await;
    runtime.refuse_stops(1000);
    runtime.use_memory(1000 * MEBI);
    let why = "ExceededGracePeriod: Container runtime did not kill the pod within specified grace period.";
    let told = |api: &FakeApi| api.events().contains(&why.to_owned()).then_some(());
    world.api.until("told", told).await;
    // Once it can be stopped it goes.
    runtime.refuse_stops(0);
    in_phase(&world, "stuck", "Failed").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_may_begin_under_pressure() {
    let runtime = Arc::new(FakeRuntime::new());
    let hard = hard("nodefs.available", "8E");
    let world = start_evicting(FakeApi::new(), runtime, &hard);
    put(&world, "refused", 0);
    let refused = in_phase(&world, "refused", "Failed").await;
    let why = "Pod was rejected: The node had condition: [DiskPressure]. ";
    assert_eq!(refused["message"], why);
    let condition = pressed(&world, "DiskPressure", "True").await;
    assert_eq!(condition["reason"], "KubeletHasDiskPressure");
    put(&world, "critical", 2_000_000_000);
    in_phase(&world, "critical", "Running").await;
}

#[tokio::test(start_paused = true)]
async fn a_soft_threshold_waits_and_leaves_time() {
    let runtime = Arc::new(FakeRuntime::new());
    let soft = Settings {
        soft: texts("memory.available", "100Mi"),
        soft_grace_period: texts("memory.available", "33s"),
        max_pod_grace_period: 20,
        ..Settings::default()
    };
    let world = start_evicting(FakeApi::new(), runtime.clone(), &soft);
    put(&world, "patient", 0);
    in_phase(&world, "patient", "Running").await;
    runtime.use_memory(1000 * MEBI);
    pressed(&world, "MemoryPressure", "True").await;
    let begun = tokio::time::Instant::now();
    let ended = in_phase(&world, "patient", "Failed").await;
    assert_eq!(ended["reason"], "Evicted");
    let lasted = begun.elapsed();
    let wanted = Duration::from_secs(32)..Duration::from_secs(34);
    assert!(wanted.contains(&lasted), "{lasted:?}");
    let calls = runtime.calls();
    assert!(calls.contains(&"stop c 20".to_owned()), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn unused_images_go_before_pods() {
    let hard = hard("imagefs.available", "8E");
    let world = start_evicting(FakeApi::new(), Arc::new(FakeRuntime::new()), &hard);
    world
        .images
        .list(&["busybox:1.36", "old", "older", "stuck"], &["loaded"]);
    put(&world, "critical", 2_000_000_000);
    in_phase(&world, "critical", "Running").await;
    let left = ["busybox:1.36", "stuck", "loaded"];
    let left = left.map(|name| format!("docker.io/library/{name}"));
    let images = world.images.clone();
    let is_left = |_: &FakeApi| (images.names() == left).then_some(());
    world.api.until("images left", is_left).await;
    in_phase(&world, "critical", "Running").await;
    let told = |api: &FakeApi| {
        let events = api.node_events();
        let failed = events.iter().find(|e| e.starts_with("ImageGCFailed: "));
        failed.cloned()
    };
    let failed = world.api.until("told", told).await;
    assert!(failed.contains("sha256:stuck"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_being_removed_is_not_used() {
    let hard = hard("imagefs.available", "8E");
    let world = start_evicting(FakeApi::new(), Arc::new(FakeRuntime::new()), &hard);
    world.images.list(&["heavy:1"], &[]);
    // Images are looked at when Pods are here.
    put(&world, "critical", 2_000_000_000);
    world.images.removing.notified().await;
    let late = json!([{"name": "c", "image": "heavy:1", "imagePullPolicy": "IfNotPresent"}]);
    let late = pod("late", late, json!({"priority": 2_000_000_000}));
    world.api.put(&path("late"), late);
    let pulls = "Pulling: Pulling image \"heavy:1\"";
    let told = |api: &FakeApi| api.events().contains(&pulls.to_owned()).then_some(());
    world.api.until("pulled", told).await;
    assert_eq!(world.images.names(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_any_room_is_no_full_disk() {
    let hard = hard("nodefs.available", "100Mi");
    let world = start_evicting(FakeApi::new(), Arc::new(FakeRuntime::new()), &hard);
    world.volumes.have(Space::default());
    put(&world, "here", 0);
    in_phase(&world, "here", "Running").await;
    let why = "InvalidDiskCapacity: invalid capacity 0 on image filesystem".to_owned();
    let told = |api: &FakeApi| api.node_events().contains(&why).then_some(());
    world.api.until("told", told).await;
    pressed(&world, "DiskPressure", "False").await;
    // Once there is a capacity, what is left of it counts.
    world.volumes.have(Space {
        capacity_bytes: 1 << 30,
        available_bytes: 1 << 20,
        ..Space::default()
    });
    let ended = in_phase(&world, "here", "Failed").await;
    assert_eq!(ended["reason"], "Evicted");
    pressed(&world, "DiskPressure", "True").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_for_the_disk_is_said_to_be_the_last_resort() {
    let hard = hard("imagefs.available", "8E");
    let world = start_evicting(FakeApi::new(), Arc::new(FakeRuntime::new()), &hard);
    world.images.list(&["busybox:1.36", "old"], &[]);
    // It was let in before the disk was full.
    let mut here = pod("here", json!([container("c")]), json!({}));
    here["status"] = json!({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"});
    world.api.put(&path("here"), here);
    let ended = in_phase(&world, "here", "Failed").await;
    assert_eq!(ended["reason"], "Evicted");
    let told = |api: &FakeApi| {
        let events = api.node_events();
        let mut failed = events
            .iter()
            .filter(|e| e.starts_with("FreeDiskSpaceFailed: "));
        failed.next().cloned()
    };
    let failed = world.api.until("told", told).await;
    assert!(failed.contains("(freed 1 bytes)"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn directories_that_cannot_be_made_are_told_of() {
    let world = start();
    world.volumes.be_full(true);
    put(&world, "late", 0);
    let why = "Failed: error making pod data directories: make the directory: no storage space";
    let told = |api: &FakeApi| api.events().contains(&why.to_owned()).then_some(());
    world.api.until("told", told).await;
    world.volumes.be_full(false);
    in_phase(&world, "late", "Running").await;
}
