//! Pods from the first look to the last, among fakes and on paused time.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::ports::FakeRuntime;
use crate::support::{container, pod, start, start_with};

const P: &str = "/api/v1/namespaces/n/pods/p";

fn state<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    statuses
        .iter()
        .find(|c| c["name"] == container)
        .map_or(&Value::Null, |c| &c["state"])
}

fn running(api: &FakeApi) -> Option<Value> {
    api.get(P).filter(|pod| pod["status"]["phase"] == "Running")
}

#[tokio::test(start_paused = true)]
async fn last_words_said_before_the_start_is_told_are_heard() {
    let world = start();
    let once = json!({"restartPolicy": "Never"});
    world
        .api
        .put(P, pod("p", json!([container("brief")]), once));
    let ended = |api: &FakeApi| api.get(P).filter(|p| p["status"]["phase"] == "Succeeded");
    let seen = world.api.until("succeeded", ended).await;
    let message = &state(&seen, "brief")["terminated"]["message"];
    assert_eq!(message, "last words", "{seen:#}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_ends_in_order() {
    let world = start();
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    let seen = world.api.until("running", running).await;
    assert_eq!(seen["status"]["podIP"], "10.244.0.2");
    assert_eq!(seen["status"]["hostIP"], "192.0.2.1");
    assert!(state(&seen, "a")["running"].is_object(), "{seen:#}");
    assert_eq!(world.runtime.calls(), ["run sandbox 0", "create a 0"]);
    let config = world.runtime.newest("a").1;
    let mounted: Vec<_> = config
        .mounts
        .iter()
        .map(|m| m.container_path.to_str().unwrap())
        .collect();
    assert_eq!(
        mounted,
        [
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/dev/termination-log"
        ]
    );
    world
        .api
        .until("events", |api| (api.events().len() == 3).then_some(()))
        .await;
    let present = "Pulled: Container image \"busybox:1.36\" already present on machine and can be accessed by the pod";
    assert_eq!(
        world.api.events(),
        [
            present,
            "Created: Container created",
            "Started: Container started"
        ]
    );

    world.api.delete_gracefully(P, 30);
    world
        .api
        .until("gone", |api| api.get(P).is_none().then_some(()))
        .await;
    world
        .api
        .until("killing", |api| {
            api.events()
                .iter()
                .any(|e| e == "Killing: Stopping container a")
                .then_some(())
        })
        .await;
    while world.runtime.sandboxes() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(
        world.runtime.calls()[2..],
        ["stop a 30", "stop sandbox", "remove sandbox"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_exit_is_reported_before_the_restart() {
    let world = start();
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    world.api.until("running", running).await;
    world.runtime.exit("a", 3);
    let again = world.api.until("restarted", |api| {
        let pod = api.get(P)?;
        (pod["status"]["containerStatuses"][0]["restartCount"] == 1
            && state(&pod, "a")["running"].is_object())
        .then_some(pod)
    });
    let again = again.await;
    assert_eq!(
        again["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        3
    );
    let seen = world.api.history(P);
    assert!(
        seen.iter()
            .any(|pod| state(pod, "a")["terminated"]["exitCode"] == 3),
        "{seen:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_configmap_is_awaited_by_watch() {
    let world = start();
    let mut a = container("a");
    a["env"] = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    world
        .api
        .put(P, pod("p", json!([a, container("b")]), json!({})));
    let held = |api: &FakeApi| {
        let pod = api.get(P)?;
        (state(&pod, "a")["waiting"]["reason"] == "CreateContainerConfigError"
            && state(&pod, "b")["running"].is_object())
        .then_some(pod)
    };
    let pod = world.api.until("held", held).await;
    assert_eq!(
        state(&pod, "a")["waiting"]["message"],
        "configmap \"c\" not found"
    );
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let before = tokio::time::Instant::now();
    world.api.put(
        "/api/v1/namespaces/n/configmaps/c",
        json!({"metadata": {"name": "c", "namespace": "n"}, "data": {"k": "v"}}),
    );
    world.api.until("running", running).await;
    assert!(
        before.elapsed() < std::time::Duration::from_millis(500),
        "{:?}",
        before.elapsed()
    );
    assert!(
        world
            .runtime
            .newest("a")
            .1
            .env
            .contains(&("X".into(), "v".into()))
    );
    let told = "Failed: Error: configmap \"c\" not found".to_owned();
    let is_told = |api: &FakeApi| api.events().contains(&told).then_some(());
    world.api.until("told", is_told).await;
}

#[tokio::test(start_paused = true)]
async fn volumes_wait_for_their_object_and_follow_it() {
    let world = start();
    let mut a = container("a");
    a["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    world.api.put(
        P,
        pod(
            "p",
            json!([a]),
            json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
        ),
    );
    let text = "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"c\" not found";
    world
        .api
        .until("held", |api| {
            api.events().iter().any(|e| e == text).then_some(())
        })
        .await;
    assert!(world.runtime.calls().is_empty());
    let object = |v: &str| json!({"metadata": {"name": "c", "namespace": "n"}, "data": {"k": v}});
    let path = "/api/v1/namespaces/n/configmaps/c";
    world.api.put(path, object("1"));
    world.api.until("running", running).await;
    assert_eq!(world.volumes.file("v", "k").as_deref(), Some("1"));
    let read_before = world.api.reads_of(path);
    assert!(
        world
            .runtime
            .newest("a")
            .1
            .mounts
            .iter()
            .any(|m| m.container_path.ends_with("v") && m.readonly)
    );
    world.api.put(path, object("2"));
    let followed = async {
        while world.volumes.file("v", "k").as_deref() != Some("2") {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_millis(50), followed)
        .await
        .unwrap();
    let reads = world.api.reads_of(path) - read_before;
    assert_eq!(reads, 0, "its watch tells what it holds now");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_wait_for_a_pull() {
    let world = start();
    let mut a = container("a");
    a["image"] = json!("slow:1");
    world.api.put(P, pod("p", json!([a]), json!({})));
    world
        .api
        .until("pulling", |api| {
            api.events()
                .contains(&"Pulling: Pulling image \"slow:1\"".to_owned())
                .then_some(())
        })
        .await;
    let before = tokio::time::Instant::now();
    world.api.delete_gracefully(P, 30);
    world
        .api
        .until("gone", |api| api.get(P).is_none().then_some(()))
        .await;
    assert!(
        before.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(
        world.runtime.calls()[..2],
        ["run sandbox 0", "stop sandbox"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_adopts_what_runs_without_a_write() {
    let (api, runtime) = {
        let world = start();
        world
            .api
            .put(P, pod("p", json!([container("a")]), json!({})));
        world.api.until("running", running).await;
        world
            .api
            .until("events", |api| (api.events().len() == 3).then_some(()))
            .await;
        (world.api.clone(), world.runtime.clone())
    };
    let writes = api.writes();
    let (calls, settled) = (runtime.calls(), api.get(P));
    let world = start_with(api, runtime);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(world.api.writes(), writes);
    assert_eq!(world.runtime.calls(), calls);
    assert_eq!(world.api.get(P), settled);
    world.runtime.exit("a", 0);
    world
        .api
        .until("restarted", |api| {
            (api.get(P)?["status"]["containerStatuses"][0]["restartCount"] == 1).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn services_whose_status_cannot_be_read_hold_nothing_up() {
    let api = FakeApi::new();
    let condition = json!({"type": "Odd", "status": "True", "lastTransitionTime": null});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}, "status": {"conditions": [condition]},
    });
    api.put("/api/v1/namespaces/n/services/s", service);
    let world = start_with(api, Arc::new(FakeRuntime::new()));
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    world.api.until("running", running).await;
    let env = world.runtime.newest("a").1.env;
    let host = env.iter().find(|e| e.0 == "S_SERVICE_HOST");
    assert_eq!(host.map(|e| e.1.as_str()), Some("10.96.0.7"), "{env:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_pods_are_listed_is_heard_of() {
    let (api, runtime) = {
        let world = start();
        world
            .api
            .put(P, pod("p", json!([container("a")]), json!({})));
        world.api.until("running", running).await;
        (world.api.clone(), world.runtime.clone())
    };
    api.hold_lists();
    let world = start_with(api, runtime);
    world.api.list_is_held().await;
    world.runtime.exit("a", 0);
    world.api.answer_lists();
    world
        .api
        .until("restarted", |api| {
            (api.get(P)?["status"]["containerStatuses"][0]["restartCount"] == 1).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn orphans_are_killed_and_forced_deletions_clean_up() {
    let (api, runtime) = {
        let world = start();
        world
            .api
            .put(P, pod("p", json!([container("a")]), json!({})));
        world.api.until("running", running).await;
        (world.api.clone(), world.runtime.clone())
    };
    api.remove(P);
    let world = start_with(api, runtime);
    while world.runtime.sandboxes() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    world.api.until("running", running).await;
    world.api.remove(P);
    while world.runtime.sandboxes() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let stops: Vec<String> = world
        .runtime
        .calls()
        .into_iter()
        .filter(|c| c.starts_with("stop a"))
        .collect();
    assert_eq!(stops, ["stop a 2", "stop a 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_pull_backs_off() {
    let world = start();
    let mut a = container("a");
    a["image"] = json!("never:1");
    world.api.put(P, pod("p", json!([a]), json!({})));
    let waiting = |reason: &'static str| {
        move |api: &FakeApi| {
            let pod = api.get(P)?;
            (state(&pod, "a")["waiting"]["reason"] == reason).then_some(pod)
        }
    };
    world.api.until("failed", waiting("ErrImagePull")).await;
    let pod = world
        .api
        .until("back-off", waiting("ImagePullBackOff"))
        .await;
    let message = state(&pod, "a")["waiting"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("Back-off pulling image \"never:1\": ErrImagePull: "),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn only_what_steps_lead_to_is_written() {
    let world = start();
    let containers = json!([container("a"), container("b")]);
    world.api.put(P, pod("p", containers, json!({})));
    world.api.until("running", running).await;
    let phases: Vec<Value> = world
        .api
        .history(P)
        .iter()
        .map(|pod| pod["status"]["phase"].clone())
        .collect();
    assert_eq!(phases, ["Pending", "Running"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_beside_a_long_pull_is_told_after_a_second() {
    let world = start();
    let mut b = container("b");
    b["image"] = json!("slow:1");
    let before = tokio::time::Instant::now();
    world
        .api
        .put(P, pod("p", json!([container("a"), b]), json!({})));
    let told = |api: &FakeApi| {
        let pod = api.get(P)?;
        state(&pod, "a")["running"].is_object().then_some(pod)
    };
    let seen = world.api.until("told", told).await;
    assert_eq!(before.elapsed().as_secs(), 1, "{:?}", before.elapsed());
    assert_eq!(state(&seen, "b")["waiting"]["reason"], "ContainerCreating");
    assert_eq!(world.api.history(P).len(), 2, "{:#?}", world.api.history(P));
}

#[tokio::test(start_paused = true)]
async fn a_long_pull_alone_is_told_before_it_ends() {
    let world = start();
    let mut a = container("a");
    a["image"] = json!("slow:1");
    let before = tokio::time::Instant::now();
    world.api.put(P, pod("p", json!([a]), json!({})));
    world
        .api
        .until("creating", |api| {
            (state(&api.get(P)?, "a")["waiting"]["reason"] == "ContainerCreating").then_some(())
        })
        .await;
    let took = before.elapsed().as_millis();
    assert!((100..150).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn of_a_burst_the_first_change_is_written_at_once() {
    let world = start();
    let containers = json!([container("a"), container("b"), container("c")]);
    world
        .api
        .put(P, pod("p", containers, json!({"restartPolicy": "Never"})));
    world.api.until("running", running).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = tokio::time::Instant::now();
    let ended = |name: &'static str| {
        move |api: &FakeApi| {
            state(&api.get(P)?, name)["terminated"]
                .is_object()
                .then_some(())
        }
    };
    world.runtime.exit("a", 0);
    world.api.until("the first exit", ended("a")).await;
    assert!(before.elapsed().as_millis() <= 5, "{:?}", before.elapsed());
    world.runtime.exit("b", 0);
    world.api.until("the second exit", ended("b")).await;
    let took = before.elapsed().as_millis();
    assert!((100..150).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn a_rule_restarts_all_containers_in_place() {
    let world = start();
    let mut a = container("a");
    a["restartPolicy"] = json!("Never");
    a["restartPolicyRules"] = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let more = json!({"restartPolicy": "Never"});
    world.api.put(P, pod("p", json!([a, container("b")]), more));
    world.api.until("running", running).await;
    world.runtime.exit("a", 42);
    let again = |api: &FakeApi| {
        let pod = api.get(P)?;
        let statuses = pod["status"]["containerStatuses"].as_array()?.clone();
        let runs = |s: &Value| s["restartCount"] == 1 && s["state"]["running"].is_object();
        statuses.iter().all(runs).then_some(())
    };
    world.api.until("restarted", again).await;
    assert_eq!(
        world.runtime.calls()[3..],
        [
            "stop b 2",
            "remove container",
            "remove container",
            "create a 1",
            "create b 1"
        ]
    );
    let removed = |pod: &Value| state(pod, "b")["waiting"]["reason"] == "RestartingAllContainers";
    let states = world.api.history(P);
    assert!(states.iter().any(removed), "{states:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_status_holds_no_restart_up() {
    let world = start();
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    world.api.until("running", running).await;
    world.api.refuse("\"terminated\":{\"containerID\"");
    world.runtime.exit("a", 3);
    let restarted = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while world.runtime.newest("a").0.attempt == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    assert!(restarted.await.is_ok(), "{:?}", world.runtime.calls());
}

#[tokio::test(start_paused = true)]
async fn only_the_pods_asked_for_are_measured() {
    let world = start();
    for name in ["p", "q"] {
        let path = format!("/api/v1/namespaces/n/pods/{name}");
        let containers = json!([container(&format!("c-{name}"))]);
        world.api.put(&path, pod(name, containers, json!({})));
        let running =
            |api: &FakeApi| (api.get(&path)?["status"]["phase"] == "Running").then_some(());
        world.api.until("running", running).await;
    }
    let asked = ["uid-p".to_owned(), "uid-nobody".to_owned()].into();
    let used = world.server.usage(&asked).await.unwrap();
    let of_pods: Vec<_> = used.pods.keys().collect();
    assert_eq!(of_pods, ["uid-p"]);
    assert!(used.pods["uid-p"].contains_key("c-p"), "{used:?}");
    assert!(
        world.runtime.measured().iter().all(|uid| uid == "uid-p"),
        "{:?}",
        world.runtime.measured()
    );
}

#[tokio::test(start_paused = true)]
async fn pods_are_shown_with_the_status_that_is_known_here() {
    let world = start();
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    world.api.until("running", running).await;
    let shown = world.server.pods().await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["metadata"]["uid"], "uid-p");
    assert_eq!(shown[0]["spec"]["containers"][0]["name"], "a");
    assert_eq!(shown[0]["status"]["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn who_fills_a_volume_beyond_its_limit_is_evicted() {
    let world = start();
    let more = json!({"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]});
    let mut a = container("a");
    a["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    world.api.put(P, pod("p", json!([a]), more));
    world.volumes.fill("scratch", 1 << 19);
    world.api.until("running", running).await;
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    assert!(running(&world.api).is_some());
    world.volumes.fill("scratch", 3 << 19);
    let status = world.api.until("evicted", |api| {
        let status = api.get(P)?["status"].clone();
        (status["phase"] == "Failed").then_some(status)
    });
    let status = status.await;
    assert_eq!(status["reason"], "Evicted");
    let why = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ";
    assert_eq!(status["message"], why);
    let told = |api: &FakeApi| {
        api.events()
            .contains(&format!("Evicted: {why}"))
            .then_some(())
    };
    world.api.until("told", told).await;
}

#[tokio::test(start_paused = true)]
async fn logs_are_linked_to_while_their_runs_are_known() {
    let world = start();
    world
        .api
        .put(P, pod("p", json!([container("a")]), json!({})));
    let started = |api: &FakeApi| {
        let is_start = |event: &&String| event.starts_with("Started: ");
        api.events().iter().find(is_start).map(drop)
    };
    world.api.until("started", started).await;
    let name = format!("p_n_a-{}.log", world.runtime.newest("a").0.id);
    assert_eq!(world.links(), [(name, PathBuf::from("a/0.log"))]);
    let mut pod = world.api.get(P).unwrap();
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    world.api.put(P, pod);
    let gone = |api: &FakeApi| api.get(P).is_none().then_some(());
    world.api.until("gone", gone).await;
    assert!(world.links().is_empty());
}
