//! Probes and what comes of their answers, among fakes and on paused time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::{container, pod, start, start_with};

const P: &str = "/api/v1/namespaces/n/pods/p";

/// A probe that runs a program every second.
fn probe(failures: i32) -> Value {
    json!({"exec": {"command": ["ask", "$(WHAT)"]}, "periodSeconds": 1, "failureThreshold": failures})
}

fn probed(name: &str, kind: &str, failures: i32) -> Value {
    let mut container = container(name);
    container["env"] = json!([{"name": "WHAT", "value": "health"}]);
    container[kind] = probe(failures);
    container
}

/// The status of a container, whatever its kind.
fn status(pod: &Value, name: &str) -> Value {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists
        .iter()
        .filter_map(|list| pod["status"][list].as_array());
    let mut all = all.flatten();
    all.find(|c| c["name"] == name).cloned().unwrap_or_default()
}

/// The Pod once a container's status has this value in a field.
fn has(
    name: &'static str,
    field: &'static str,
    value: Value,
) -> impl Fn(&FakeApi) -> Option<Value> {
    move |api| api.get(P).filter(|pod| status(pod, name)[field] == value)
}

fn ready(value: bool) -> impl Fn(&FakeApi) -> Option<Value> {
    has("a", "ready", json!(value))
}

fn condition(pod: &Value, kind: &str) -> Value {
    let all = pod["status"]["conditions"].as_array().unwrap();
    all.iter().find(|c| c["type"] == kind).unwrap()["status"].clone()
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_probe() {
    let world = start();
    world.runtime.answer("a", 1, "not yet\n");
    let containers = json!([probed("a", "readinessProbe", 1)]);
    world.api.put(P, pod("p", containers, json!({})));
    let running = world
        .api
        .until("running", has("a", "started", json!(true)))
        .await;
    assert_eq!(status(&running, "a")["ready"], false);
    assert_eq!(condition(&running, "Ready"), "False");
    let unhealthy = "Unhealthy: Readiness probe failed: not yet\n".to_owned();
    let told = |api: &FakeApi| api.events().contains(&unhealthy).then_some(());
    world.api.until("told", told).await;
    world.runtime.answer("a", 0, "");
    let pod = world.api.until("ready", ready(true)).await;
    assert_eq!(condition(&pod, "Ready"), "True");
    world.runtime.answer("a", 1, "no more");
    let pod = world.api.until("unready", ready(false)).await;
    assert_eq!(condition(&pod, "ContainersReady"), "False");
    assert_eq!(status(&pod, "a")["restartCount"], 0);
    assert_eq!(world.runtime.execs()[0], "a: ask health");
}

#[tokio::test(start_paused = true)]
async fn readiness_is_asked_for_until_the_end() {
    let world = start();
    let mut slow = probed("a", "readinessProbe", 1);
    slow["name"] = json!("slow");
    world.api.put(P, pod("p", json!([slow]), json!({})));
    world
        .api
        .until("ready", has("slow", "ready", json!(true)))
        .await;
    world.runtime.answer("slow", 1, "ending");
    world.api.delete_gracefully(P, 30);
    let pod = world
        .api
        .until("unready", has("slow", "ready", json!(false)))
        .await;
    assert!(
        status(&pod, "slow")["state"]["running"].is_object(),
        "{pod:#}"
    );
    world.runtime.exit("slow", 0);
    world
        .api
        .until("gone", |api| api.get(P).is_none().then_some(()))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_liveness_probe_restarts_its_container() {
    let world = start();
    world.runtime.answer("a", 1, "dead");
    let containers = json!([probed("a", "livenessProbe", 2), container("b")]);
    world.api.put(P, pod("p", containers, json!({})));
    world
        .api
        .until("restarted", has("a", "restartCount", json!(1)))
        .await;
    world.runtime.answer("a", 0, "");
    let killing = "Killing: Container a failed liveness probe, will be restarted".to_owned();
    let told = |api: &FakeApi| api.events().contains(&killing).then_some(());
    world.api.until("told", told).await;
    let calls = world.runtime.calls();
    assert_eq!(calls[3..], ["stop a 30", "create a 1"]);
    // Stopping and starting are one thing: nobody sees the exit between them.
    let states = world.api.history(P);
    let ended = |pod: &Value| status(pod, "a")["state"]["terminated"].is_object();
    assert!(!states.iter().any(ended), "{states:#?}");
    let last = world.api.get(P).unwrap();
    assert_eq!(
        status(&last, "a")["lastState"]["terminated"]["exitCode"],
        143
    );
    assert_eq!(status(&last, "b")["restartCount"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_a_back_off_hides_nothing_while_it_pulls() {
    let world = start();
    world.runtime.answer("a", 1, "dead");
    let containers = json!([probed("a", "livenessProbe", 1), container("b")]);
    world.api.put(P, pod("p", containers, json!({})));
    let held = |api: &FakeApi| {
        let pod = api.get(P)?;
        let reason = &status(&pod, "a")["state"]["waiting"]["reason"];
        (reason == "CrashLoopBackOff").then_some(())
    };
    world.api.until("held", held).await;
    world.images.lose();
    let pulling = |api: &FakeApi| {
        let pulling = "Pulling: Pulling image \"busybox:1.36\"".to_owned();
        api.events().contains(&pulling).then_some(())
    };
    world.api.until("pulling", pulling).await;
    world.runtime.exit("b", 7);
    let told = |api: &FakeApi| {
        let pod = api.get(P)?;
        let ended = &status(&pod, "b")["state"]["terminated"];
        (ended["exitCode"] == 7).then_some(())
    };
    world.api.until("told", told).await;
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_holds_the_containers_after_a_sidecar() {
    let world = start();
    world.runtime.answer("side", 1, "starting");
    let mut side = probed("side", "startupProbe", 30);
    side["restartPolicy"] = json!("Always");
    let more = json!({"initContainers": [side]});
    world.api.put(P, pod("p", json!([container("a")]), more));
    world
        .api
        .until("running", |api| {
            let pod = api.get(P)?;
            status(&pod, "side")["state"]["running"]
                .is_object()
                .then_some(())
        })
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.runtime.calls(), ["run sandbox 0", "create side 0"]);
    world.runtime.answer("side", 0, "");
    world
        .api
        .until("running", has("a", "started", json!(true)))
        .await;
    // Once it has started it is not asked any more.
    let asked = world.runtime.execs().len();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.runtime.execs().len(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_keeps_what_was_reported_until_it_knows_better() {
    let (api, runtime) = {
        let world = start();
        let mut a = probed("a", "readinessProbe", 1);
        a["startupProbe"] = probe(3);
        a["livenessProbe"] = probe(3);
        world.api.put(P, pod("p", json!([a]), json!({})));
        world.api.until("ready", ready(true)).await;
        (world.api.clone(), world.runtime.clone())
    };
    let writes = api.writes();
    let asked = runtime.execs().len();
    let world = start_with(api, runtime);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.api.writes(), writes);
    assert!(world.runtime.execs().len() > asked + 10);
    assert_eq!(world.runtime.calls(), ["run sandbox 0", "create a 0"]);
    world.runtime.answer("a", 1, "no");
    world.api.until("unready", ready(false)).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_again_is_held_back_at_once() {
    let world = start();
    world.runtime.answer("a", 1, "dead");
    let containers = json!([probed("a", "livenessProbe", 1)]);
    world.api.put(P, pod("p", containers, json!({})));
    let held = |api: &FakeApi| {
        let pod = api.get(P)?;
        (status(&pod, "a")["state"]["waiting"]["reason"] == "CrashLoopBackOff").then_some(pod)
    };
    let pod = world.api.until("held", held).await;
    assert_eq!(status(&pod, "a")["restartCount"], 1);
    let states = world.api.history(P);
    let ended = |pod: &Value| status(pod, "a")["state"]["terminated"].is_object();
    assert!(!states.iter().any(ended), "{states:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_takes_its_time_is_one_thing_too() {
    let world = start();
    let containers = json!([probed("lazy", "livenessProbe", 1)]);
    world.api.put(P, pod("p", containers, json!({})));
    world
        .api
        .until("running", has("lazy", "started", json!(true)))
        .await;
    world.runtime.answer("lazy", 1, "dead");
    world
        .api
        .until("restarted", has("lazy", "restartCount", json!(1)))
        .await;
    let states = world.api.history(P);
    let ended = |pod: &Value| status(pod, "lazy")["state"]["terminated"].is_object();
    assert!(!states.iter().any(ended), "{states:#?}");
}
