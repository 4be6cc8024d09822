//! Static Pods, with an API that answers, does not, or says something else.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::ports::FakeRuntime;
use crate::support::{World, start_static};

const MIRROR: &str = "/api/v1/namespaces/default/pods/web-node";
const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: c, image: "busybox:1.36"}]}
"#;

fn world(api: FakeApi) -> World {
    let runtime = Arc::new(FakeRuntime::new());
    start_static(api, runtime, &[("web.yaml", MANIFEST)])
}

fn running(api: &FakeApi) -> Option<Value> {
    let mirror = api.get(MIRROR);
    mirror.filter(|pod| pod["status"]["phase"] == "Running")
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_runs_whether_the_api_tells_of_pods_or_not() {
    let api = FakeApi::new();
    api.hold_lists();
    let world = world(api);
    let ran = |what: &'static str| {
        let runtime = world.runtime.clone();
        let has = move |_: &FakeApi| runtime.calls().contains(&what.to_owned()).then_some(());
        world.api.until(what, has)
    };
    ran("create c 0").await;
    world.runtime.exit("c", 3);
    ran("create c 1").await;
    assert_eq!(world.api.get(MIRROR), None);
    world.api.answer_lists();
    let mirror = world.api.until("running", running).await;
    let status = &mirror["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    let meta = &mirror["metadata"];
    let notes = &meta["annotations"];
    let hash = &notes["kubernetes.io/config.hash"];
    assert_eq!(&notes["kubernetes.io/config.mirror"], hash);
    assert_ne!(&meta["uid"], hash);
    assert_eq!(meta["ownerReferences"][0]["kind"], "Node");
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_is_deleted_is_made_again() {
    let world = world(FakeApi::new());
    let before = world.api.until("running", running).await;
    let calls = world.runtime.calls();
    let again = |api: &FakeApi| {
        let is_other = |pod: &Value| pod["metadata"]["uid"] != before["metadata"]["uid"];
        running(api).filter(is_other)
    };
    world.api.delete_gracefully(MIRROR, 30);
    let after = world.api.until("another", again).await;
    for field in ["startTime", "containerStatuses", "podIP"] {
        assert_eq!(before["status"][field], after["status"][field]);
    }
    assert_eq!(world.runtime.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_finds_its_static_pods_whatever_the_api_says_of_them() {
    let world = world(FakeApi::new());
    let mut mirror = world.api.until("running", running).await;
    let calls = world.runtime.calls();
    let id = mirror["status"]["containerStatuses"][0]["containerID"].clone();
    let since = mirror["status"]["startTime"].clone();
    mirror["status"]["phase"] = "Failed".into();
    world.api.put(MIRROR, mirror);
    // Nobody has a manifest for this one.
    let stray = "/api/v1/namespaces/default/pods/stray-node";
    let notes = json!({"kubernetes.io/config.mirror": "x"});
    let meta =
        json!({"name": "stray-node", "namespace": "default", "uid": "s", "annotations": notes});
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "node", "containers": []}});
    world.api.put(stray, object);
    let world = world.restart();
    let is_gone = |api: &FakeApi| api.get(stray).is_none().then_some(());
    world.api.until("without the stray", is_gone).await;
    let mirror = world.api.until("running again", running).await;
    assert_eq!(mirror["status"]["containerStatuses"][0]["containerID"], id);
    assert_eq!(mirror["status"]["startTime"], since);
    assert_eq!(world.runtime.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_api_cannot_say_that_it_is_static() {
    let world = world(FakeApi::new());
    let path = "/api/v1/namespaces/n/pods/p";
    let mut pod = crate::support::pod("p", json!([crate::support::container("a")]), json!({}));
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.source": "file"});
    world.api.put(path, pod);
    let runs = |api: &FakeApi| {
        api.get(path)
            .filter(|pod| pod["status"]["phase"] == "Running")
    };
    world.api.until("running", runs).await;
    world.api.delete_gracefully(path, 1);
    let is_gone = |api: &FakeApi| api.get(path).is_none().then_some(());
    world.api.until("gone", is_gone).await;
}
