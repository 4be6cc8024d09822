//! Ephemeral containers, and what annotations ask for, among fakes and on paused time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::{container, pod, start};

const P: &str = "/api/v1/namespaces/n/pods/p";

fn running(api: &FakeApi) -> Option<Value> {
    api.get(P).filter(|pod| pod["status"]["phase"] == "Running")
}

fn debugger(target: &str) -> Value {
    let mut spec = container("dbg");
    spec["targetContainerName"] = json!(target);
    spec["stdin"] = json!(true);
    spec
}

/// Changes the Pod as a user does.
fn change(api: &FakeApi, change: impl FnOnce(&mut Value)) {
    let mut pod = api.get(P).unwrap();
    change(&mut pod);
    api.put(P, pod);
}

/// The Pod once its ephemeral container is in this state.
fn debugs(state: &'static str) -> impl Fn(&FakeApi) -> Option<Value> {
    move |api| {
        api.get(P).filter(|pod| {
            pod["status"]["ephemeralContainerStatuses"][0]["state"][state].is_object()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn one_is_added_and_asked_to_end() {
    let world = start();
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    world.api.until("running", running).await;
    change(&world.api, |pod| {
        pod["spec"]["ephemeralContainers"] = json!([debugger("a")])
    });
    let seen = world.api.until("debugging", debugs("running")).await;
    let status = &seen["status"]["ephemeralContainerStatuses"][0];
    assert_eq!(
        (&status["ready"], &status["started"]),
        (&json!(false), &Value::Null)
    );
    let (_, config) = world.runtime.newest("dbg");
    assert!(config.stdin);
    assert_eq!(
        config.security.pid_target,
        Some(world.runtime.newest("a").0.id)
    );
    let stop = json!({"carob/stop-ephemeral-containers": "[\"dbg\"]"});
    change(&world.api, |pod| pod["metadata"]["annotations"] = stop);
    let seen = world.api.until("over", debugs("terminated")).await;
    assert_eq!(seen["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(world.runtime.calls()[2..], ["create dbg 0", "stop dbg 30"]);
}

#[tokio::test(start_paused = true)]
async fn its_target_has_to_have_run() {
    let world = start();
    let mut a = container("a");
    a["image"] = json!("never:1");
    world.api.put(
        P,
        pod(
            "p",
            json!([a]),
            json!({"ephemeralContainers": [debugger("a")]}),
        ),
    );
    let held = world.api.until("held", debugs("waiting")).await;
    let waiting =
        |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0]["state"]["waiting"].clone();
    let held = match waiting(&held)["message"] {
        Value::Null => {
            let told = |api: &FakeApi| api.get(P).filter(|pod| waiting(pod)["message"].is_string());
            world.api.until("told", told).await
        }
        _ => held,
    };
    assert_eq!(waiting(&held)["reason"], "CreateContainerConfigError");
    assert_eq!(
        waiting(&held)["message"],
        "unable to find target container a"
    );
}

#[tokio::test(start_paused = true)]
async fn a_back_off_is_skipped_when_that_is_asked_for() {
    let world = start();
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    world.api.until("running", running).await;
    let count = |n: i32| {
        move |api: &FakeApi| {
            let pod = api.get(P)?;
            let status = &pod["status"]["containerStatuses"][0];
            (status["restartCount"] == n && status["state"]["running"].is_object()).then_some(())
        }
    };
    world.runtime.exit("a", 1);
    world.api.until("restarted", count(1)).await;
    world.runtime.exit("a", 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.runtime.newest("a").0.attempt, 1);
    let now = "2026-01-01T00:00:02Z";
    let retry = json!({"carob/retry": format!("{{\"\":\"{now}\"}}")});
    change(&world.api, |pod| pod["metadata"]["annotations"] = retry);
    let before = tokio::time::Instant::now();
    world.api.until("restarted again", count(2)).await;
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
}
