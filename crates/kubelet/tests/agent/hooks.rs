//! Lifecycle hooks, among fakes and on paused time.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::api::FakeApi;
use crate::support::{container, pod, start, start_with};

const P: &str = "/api/v1/namespaces/n/pods/p";

fn hooked(name: &str, hook: &str, handler: Value) -> Value {
    let mut container = container(name);
    container["lifecycle"] = json!({hook: handler});
    container
}

fn exec(command: &str) -> Value {
    json!({"exec": {"command": [command]}})
}

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

fn running(api: &FakeApi) -> Option<Value> {
    api.get(P).filter(|pod| state(pod)["running"].is_object())
}

fn gone(api: &FakeApi) -> Option<()> {
    api.get(P).is_none().then_some(())
}

#[tokio::test(start_paused = true)]
async fn a_pre_stop_hook_takes_its_time_from_the_grace() {
    let world = start();
    let containers = json!([
        hooked("a", "preStop", json!({"sleep": {"seconds": 5}})),
        container("b")
    ]);
    world.api.put(P, pod("p", containers, json!({})));
    world.api.until("running", running).await;
    let began = Instant::now();
    world.api.delete_gracefully(P, 30);
    world.api.until("gone", gone).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(world.runtime.calls()[3..5], ["stop b 30", "stop a 25"]);
    let killing = |name: &str| format!("Killing: Stopping container {name}");
    let events = world.api.events();
    assert_eq!(events[6..8], [killing("a"), killing("b")]);
}

#[tokio::test(start_paused = true)]
async fn a_pre_stop_hook_ends_with_the_grace() {
    let world = start();
    let containers = json!([hooked("a", "preStop", json!({"sleep": {"seconds": 50}}))]);
    world.api.put(P, pod("p", containers, json!({})));
    world.api.until("running", running).await;
    let began = Instant::now();
    world.api.delete_gracefully(P, 10);
    world.api.until("gone", gone).await;
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(world.runtime.calls()[2], "stop a 2");
    let told = |event: &String| event.starts_with("FailedPreStopHook");
    assert!(
        !world.api.events().iter().any(told),
        "{:?}",
        world.api.events()
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_pre_stop_hook_is_told_and_changes_nothing() {
    let world = start();
    let containers = json!([hooked("a", "preStop", exec("bye"))]);
    world.api.put(P, pod("p", containers, json!({})));
    world.api.until("running", running).await;
    world.runtime.answer("a", 3, "");
    world.api.delete_gracefully(P, 30);
    world.api.until("gone", gone).await;
    assert_eq!(world.runtime.execs(), ["a: bye"]);
    assert_eq!(world.runtime.calls()[2], "stop a 30");
    let told = "FailedPreStopHook: PreStopHook failed".to_owned();
    let is_told = |api: &FakeApi| api.events().contains(&told).then_some(());
    world.api.until("told", is_told).await;
}

#[tokio::test(start_paused = true)]
async fn what_ended_by_itself_has_no_pre_stop_hook() {
    let world = start();
    let containers = json!([hooked("a", "preStop", exec("bye"))]);
    let more = json!({"restartPolicy": "Never"});
    world.api.put(P, pod("p", containers, more));
    world.api.until("running", running).await;
    world.runtime.exit("a", 0);
    let over = |api: &FakeApi| (api.get(P)?["status"]["phase"] == "Succeeded").then_some(());
    world.api.until("over", over).await;
    assert!(world.runtime.execs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_post_start_hook_belongs_to_the_start() {
    let world = start();
    let containers = json!([
        hooked("a", "postStart", json!({"sleep": {"seconds": 5}})),
        container("b")
    ]);
    let began = Instant::now();
    world.api.put(P, pod("p", containers, json!({})));
    let pod = world.api.until("running", running).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    // The next container starts when the hook is over.
    let other = &pod["status"]["containerStatuses"][1]["state"];
    assert!(other["running"].is_object(), "{pod:#}");
    let states = world.api.history(P);
    let creating = |pod: &Value| state(pod)["waiting"]["reason"] == "ContainerCreating";
    assert!(
        states[1..states.len() - 1].iter().all(creating),
        "{states:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_post_start_hook_stops_its_container() {
    let world = start();
    let mut a = hooked("a", "postStart", exec("hello"));
    a["lifecycle"]["preStop"] = exec("bye");
    world.runtime.answer("a", 9, "why\n");
    world.api.put(P, pod("p", json!([a]), json!({})));
    let failed = |api: &FakeApi| {
        let pod = api.get(P)?;
        (state(&pod)["waiting"]["reason"] == "PostStartHookError").then_some(pod)
    };
    let pod = world.api.until("failed", failed).await;
    let message = "Exec lifecycle hook ([hello]) for Container \"a\" in Pod \"p_n(uid-p)\" failed - error: \
        command 'hello' exited with 9: , message: \"why\\n\"";
    assert_eq!(state(&pod)["waiting"]["message"], message);
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 143);
    assert_eq!(world.runtime.execs(), ["a: hello", "a: bye"]);
    let told = |api: &FakeApi| {
        let events = api.events();
        let at = events
            .iter()
            .position(|e| e == "FailedPostStartHook: PostStartHook failed")?;
        (events.get(at + 1)? == "Killing: FailedPostStartHook").then_some(())
    };
    world.api.until("told", told).await;
    assert!(
        !world
            .api
            .history(P)
            .iter()
            .any(|pod| state(pod)["running"].is_object())
    );
    // Then it is a container that has ended.
    world.runtime.answer("a", 0, "");
    let pod = world.api.until("running", running).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_hook_failed_is_stopped_until_it_has_ended() {
    let world = start();
    world.runtime.answer("a", 9, "");
    world.runtime.refuse_stops(2);
    let containers = json!([hooked("a", "postStart", exec("hello"))]);
    world.api.put(P, pod("p", containers, json!({})));
    let failed = |api: &FakeApi| {
        (state(&api.get(P)?)["waiting"]["reason"] == "PostStartHookError").then_some(())
    };
    world.api.until("failed", failed).await;
    let calls = world.runtime.calls();
    let stops: Vec<_> = calls.iter().filter(|c| c.starts_with("stop a")).collect();
    assert_eq!(stops, ["stop a 30", "stop a 29", "stop a 28"]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_run_the_pre_stop_hook_again() {
    let world = start();
    world.runtime.answer("a", 9, "");
    let mut a = hooked("a", "postStart", exec("hello"));
    a["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 20}});
    let began = Instant::now();
    world.api.put(P, pod("p", json!([a]), json!({})));
    let killed = |api: &FakeApi| {
        let killing = "Killing: FailedPostStartHook".to_owned();
        api.events().contains(&killing).then_some(())
    };
    world.api.until("killed", killed).await;
    // Events come a little later than what they tell of.
    tokio::time::sleep_until(began + Duration::from_secs(5)).await;
    world.api.delete_gracefully(P, 30);
    world.api.until("gone", gone).await;
    assert_eq!(began.elapsed().as_secs(), 20);
    let calls = world.runtime.calls();
    let stops: Vec<_> = calls.iter().filter(|c| c.starts_with("stop a")).collect();
    assert_eq!(stops, ["stop a 15"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_hook_failed_is_stopped_while_others_start() {
    let world = start();
    world.runtime.answer("a", 9, "");
    let containers = json!([
        hooked("a", "postStart", exec("hello")),
        hooked("b", "postStart", json!({"sleep": {"seconds": 50}}))
    ]);
    let began = Instant::now();
    world.api.put(P, pod("p", containers, json!({})));
    let failed = |api: &FakeApi| {
        (state(&api.get(P)?)["waiting"]["reason"] == "PostStartHookError").then_some(())
    };
    world.api.until("failed", failed).await;
    assert!(began.elapsed().as_secs() < 50, "{:?}", began.elapsed());
    let stop = "stop a 30".to_owned();
    assert!(world.runtime.calls().contains(&stop));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_wait_for_a_post_start_hook() {
    let world = start();
    let containers = json!([hooked("a", "postStart", json!({"sleep": {"seconds": 50}}))]);
    world.api.put(P, pod("p", containers, json!({})));
    while world.runtime.calls().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    world.api.delete_gracefully(P, 30);
    world.api.until("gone", gone).await;
    assert_eq!(began.elapsed().as_secs(), 0);
    assert_eq!(world.runtime.calls()[2], "stop a 30");
}

#[tokio::test(start_paused = true)]
async fn a_hook_cannot_connect() {
    let world = start();
    let containers = json!([hooked("a", "postStart", json!({"tcpSocket": {"port": 80}}))]);
    world.api.put(P, pod("p", containers, json!({})));
    let failed = |api: &FakeApi| {
        let pod = api.get(P)?;
        (state(&pod)["waiting"]["reason"] == "PostStartHookError").then_some(pod)
    };
    let pod = world.api.until("failed", failed).await;
    let message = "invalid handler: &LifecycleHandler{Exec:nil,HTTPGet:nil,TCPSocket:&TCPSocketAction{Port:{0 80 },Host:,},Sleep:nil,}";
    assert_eq!(state(&pod)["waiting"]["message"], message);
}

#[tokio::test(start_paused = true)]
async fn what_no_pod_is_known_of_has_its_pre_stop_hook() {
    let world = start();
    let mut web = hooked("web", "preStop", exec("bye"));
    web["ports"] = json!([{"name": "http", "containerPort": 80}]);
    let long = hooked("long", "preStop", json!({"sleep": {"seconds": 50}}));
    let containers = json!([web, long, container("plain")]);
    world.api.put(P, pod("p", containers, json!({})));
    world.api.until("running", running).await;
    let (api, runtime) = (world.api.clone(), world.runtime.clone());
    drop(world);
    api.remove(P);
    api.expire_events();
    let before = runtime.calls().len();
    let began = Instant::now();
    let world = start_with(api, runtime);
    while !world.runtime.calls().contains(&"remove sandbox".to_owned()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.runtime.execs(), ["web: bye"]);
    let calls = world.runtime.calls();
    let mut stops = calls[before..].to_vec();
    stops[..2].sort();
    let wanted = [
        "stop plain 2",
        "stop web 2",
        "stop long 2",
        "stop sandbox",
        "remove sandbox",
    ];
    assert_eq!(stops, wanted);
    // A hook has a second, and what runs no longer than that.
    assert_eq!(began.elapsed().as_secs(), 1);
    let told = |api: &FakeApi| {
        let events = api.events();
        let killing = |name| events.contains(&format!("Killing: Stopping container {name}"));
        ["web", "long", "plain"]
            .into_iter()
            .all(killing)
            .then_some(())
    };
    world.api.until("told", told).await;
}
