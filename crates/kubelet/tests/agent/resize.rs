//! In-place resize (spec `§12.7`): what was granted is noted before it is carried out, and nobody forgets who waits.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::{World, container, pod, start, start_with};

const P: &str = "/api/v1/namespaces/n/pods/p";
const BIG: &str = "/api/v1/namespaces/n/pods/big";

/// A Pod whose container `c` asks for this.
fn sized(name: &str, resources: Value) -> Value {
    let mut c = container("c");
    c["resources"] = resources;
    let mut pod = pod(name, json!([c]), json!({}));
    pod["status"]["qosClass"] = json!("Burstable");
    pod
}

/// Changes what its container asks for, as the API does.
fn resize(api: &FakeApi, path: &str, resources: Value) {
    let mut pod = api.get(path).unwrap();
    let generation = pod["metadata"]["generation"].as_i64().unwrap();
    pod["metadata"]["generation"] = json!(generation + 1);
    pod["spec"]["containers"][0]["resources"] = resources;
    api.put(path, pod);
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == kind)
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
}

async fn until_running(world: &World, path: &str) {
    let running = |api: &FakeApi| api.get(path).filter(is_running);
    world.api.until("running", running).await;
}

#[tokio::test(start_paused = true)]
async fn a_resize_is_noted_carried_out_and_told() {
    let world = start();
    let old = json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}});
    let new = json!({"requests": {"cpu": "200m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}});
    world.api.put(P, sized("p", old));
    until_running(&world, P).await;
    let before = world.runtime.calls().len();
    resize(&world.api, P, new.clone());
    let done = world.api.until("resized", |api| {
        let pod = api.get(P)?;
        let status = &pod["status"];
        (status["containerStatuses"][0]["resources"] == new
            && condition(&pod, "PodResizeInProgress").is_none())
        .then(|| status.clone())
    });
    let done = done.await;
    let memory = 96 << 20;
    assert_eq!(
        world.runtime.calls()[before..],
        [
            "resize pod ".to_owned(),
            format!("resize pod memory={memory}"),
            format!("resize c memory={memory}"),
            "resize pod shares=204".to_owned(),
            "resize c shares=204".to_owned(),
        ]
    );
    assert_eq!(done["observedGeneration"], 2);
    assert_eq!(done["resources"], new);
    // Whoever sees the new generation sees a resize, or its end.
    let seen = world.api.history(P);
    let mut about_new = seen
        .iter()
        .filter(|p| p["status"]["observedGeneration"] == 2);
    assert!(
        about_new.all(|pod| {
            condition(pod, "PodResizeInProgress").is_some()
                || pod["status"]["containerStatuses"][0]["resources"] == new
        }),
        "{seen:#?}"
    );
    let told = |api: &FakeApi| {
        let events = api.events();
        let resizes = events.iter().filter(|e| e.starts_with("Resize"));
        let reasons: Vec<_> = resizes.filter_map(|e| e.split(':').next()).collect();
        (reasons == ["ResizeStarted", "ResizeCompleted"]).then_some(())
    };
    world.api.until("told", told).await;
    // What another generation changes otherwise is no resize.
    let calls = world.runtime.calls().len();
    let mut pod = world.api.get(P).unwrap();
    pod["metadata"]["generation"] = json!(3);
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("0.2");
    world.api.put(P, pod);
    let observed = |api: &FakeApi| {
        let pod = api.get(P)?;
        (pod["status"]["observedGeneration"] == 3).then_some(())
    };
    world.api.until("observed", observed).await;
    assert_eq!(world.runtime.calls().len(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_restart_for_another_size_is_seen_as_one() {
    let world = start();
    let memory =
        |amount: &str| json!({"limits": {"memory": amount}, "requests": {"memory": amount}});
    let mut sized = sized("p", memory("32Mi"));
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    sized["spec"]["containers"][0]["resizePolicy"] = policy;
    world.api.put(P, sized);
    until_running(&world, P).await;
    world.runtime.slow_resizes(Duration::from_secs(5));
    resize(&world.api, P, memory("64Mi"));
    let again = |api: &FakeApi| {
        let pod = api.get(P)?;
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        (is_running(&pod) && *restarts == 1).then_some(())
    };
    world.api.until("restarted", again).await;
    let seen = world.api.history(P);
    let has_run = seen.iter().skip_while(|pod| !is_running(pod));
    let between: Vec<&Value> = has_run.filter(|pod| !is_running(pod)).collect();
    assert!(between.is_empty(), "{between:#?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_remembered_and_gets_what_another_leaves() {
    let world = start();
    let big = json!({"requests": {"cpu": "1200m"}});
    world.api.put(BIG, sized("big", big.clone()));
    world
        .api
        .put(P, sized("p", json!({"requests": {"cpu": "100m"}})));
    until_running(&world, BIG).await;
    until_running(&world, P).await;
    resize(&world.api, P, big.clone());
    let deferred = |api: &FakeApi| {
        let pod = api.get(P)?;
        let pending = condition(&pod, "PodResizePending").cloned()?;
        (pod["status"]["observedGeneration"] == 2).then_some(pending)
    };
    let pending = world.api.until("deferred", deferred).await;
    assert_eq!(pending["reason"], "Deferred");
    assert_eq!(
        pending["message"],
        "Node didn't have enough resource: cpu, requested: 1200, used: 1200, capacity: 2000"
    );
    let told = |api: &FakeApi| {
        let events = api.events();
        let is_it = |e: &&String| e.starts_with("ResizeDeferred: Pod resize Deferred: ");
        (events.iter().filter(is_it).count() == 1).then_some(())
    };
    world.api.until("told", told).await;

    let calls = world.runtime.calls().len();
    let (api, runtime) = (world.api.clone(), world.runtime.clone());
    drop(world);
    let world = start_with(api, runtime);
    world.api.delete_gracefully(BIG, 0);
    let granted = |api: &FakeApi| {
        let pod = api.get(P)?;
        let allocated = &pod["status"]["containerStatuses"][0]["allocatedResources"];
        (*allocated == big["requests"] && condition(&pod, "PodResizePending").is_none())
            .then_some(())
    };
    world.api.until("granted", granted).await;
    let resizes = |world: &World| {
        let calls = &world.runtime.calls()[calls..];
        let of_resizes = calls.iter().filter(|c| c.starts_with("resize"));
        of_resizes.cloned().collect::<Vec<_>>()
    };
    while resizes(&world).len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(
        resizes(&world),
        [
            "resize pod ",
            "resize pod shares=1228",
            "resize c shares=1228"
        ]
    );
    // The second agent did not tell again that it had to wait.
    let events = world.api.events();
    let deferred = events.iter().filter(|e| e.starts_with("ResizeDeferred"));
    assert_eq!(deferred.count(), 1, "{events:#?}");
}
