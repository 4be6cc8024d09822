//! Volumes of kind `image`.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::api::FakeApi;
use crate::support::{World, container, pod, start};

const P: &str = "/api/v1/namespaces/n/pods/p";

fn status<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let found = statuses.and_then(|all| all.iter().find(|c| c["name"] == container));
    found.unwrap_or(&Value::Null)
}

/// Waits until a container waits for this reason, and returns its message.
async fn waiting(world: &World, container: &str, reason: &str) -> String {
    let held = |api: &FakeApi| {
        let pod = api.get(P)?;
        let waiting = &status(&pod, container)["state"]["waiting"];
        (waiting["reason"] == reason).then(|| waiting["message"].as_str().unwrap().to_owned())
    };
    world.api.until(reason, held).await
}

fn mounting(name: &str, mounts: Value) -> Value {
    let mut container = container(name);
    container["volumeMounts"] = mounts;
    container
}

#[tokio::test(start_paused = true)]
async fn an_image_is_mounted_by_who_asks_for_it() {
    let world = start();
    let volumes = json!({"volumes": [
        {"name": "tools", "image": {"reference": "tools:1", "pullPolicy": "IfNotPresent"}},
        {"name": "unused", "image": {"reference": "never:1", "pullPolicy": "IfNotPresent"}},
    ]});
    let mounts = json!([
        {"name": "tools", "mountPath": "/all"},
        {"name": "tools", "mountPath": "/part", "subPathExpr": "$(DIR)/bin"},
    ]);
    let mut a = mounting("a", mounts);
    a["env"] = json!([{"name": "DIR", "value": "usr"}]);
    let containers = json!([a, container("b")]);
    world.api.put(P, pod("p", containers, volumes));
    let is_up = |api: &FakeApi| api.get(P).filter(|pod| pod["status"]["phase"] == "Running");
    world.api.until("running", is_up).await;
    let config = world.runtime.newest("a").1;
    let mounted: Vec<_> = config
        .image_mounts
        .iter()
        .map(|m| {
            let path = |path: &std::path::Path| path.display().to_string();
            (
                m.image_id.as_str(),
                path(&m.sub_path),
                path(&m.container_path),
            )
        })
        .collect();
    let whole = ("sha256:tools:1", String::new(), "/all".to_owned());
    let part = ("sha256:tools:1", "usr/bin".to_owned(), "/part".to_owned());
    assert_eq!(mounted, [whole, part]);
    assert_eq!(world.runtime.newest("b").1.image_mounts, []);
    let told = |api: &FakeApi| (api.events().len() >= 7).then(|| api.events());
    let events = world.api.until("events", told).await;
    let pulled = |image| {
        format!(
            "Pulled: Container image \"{image}\" already present on machine and can be accessed by the pod"
        )
    };
    assert_eq!(events[..2], [pulled("tools:1"), pulled("busybox:1.36")]);
    assert!(!events.iter().any(|e| e.contains("never:1")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_had_holds_its_container() {
    let world = start();
    let volumes = json!({"volumes": [
        {"name": "one", "image": {"reference": "never:1", "pullPolicy": "Always"}},
        {"name": "two", "image": {"reference": "never:2", "pullPolicy": "Never"}},
        {"name": "bad", "image": {"reference": "No Name", "pullPolicy": "Never"}},
    ]});
    let at = |volume: &str| json!([{"name": volume, "mountPath": "/x"}]);
    let containers = json!([
        mounting("a", at("one")),
        mounting("b", at("two")),
        mounting("c", at("bad")),
        container("d"),
    ]);
    world.api.put(P, pod("p", containers, volumes));
    waiting(&world, "a", "ErrImagePull").await;
    let message = waiting(&world, "a", "ImagePullBackOff").await;
    let start = "Back-off pulling image \"never:1\": ErrImagePull: ";
    assert!(message.starts_with(start), "{message}");
    assert_eq!(
        waiting(&world, "b", "ErrImageNeverPull").await,
        "Container image \"never:2\" is not present with pull policy of Never"
    );
    waiting(&world, "c", "InvalidImageName").await;
    let seen = world.api.get(P).unwrap();
    assert!(
        status(&seen, "d")["state"]["running"].is_object(),
        "{seen:#}"
    );
    let calls = world.runtime.calls();
    assert_eq!(calls, ["run sandbox 0", "create d 0"], "no other is made");
    let told = |api: &FakeApi| {
        let wanted = [
            "Pulling: Pulling image \"never:1\"",
            "Failed: Failed to pull image \"never:1\": never:1: not found",
            "Failed: Error: ErrImagePull",
            "BackOff: Back-off pulling image \"never:1\"",
            "Failed: Error: ImagePullBackOff",
            "ErrImageNeverPull: Container image \"never:2\" is not present with pull policy of Never",
            "Failed: Error: ErrImageNeverPull",
            "Failed: Error: InvalidImageName",
        ];
        let events = api.events();
        wanted
            .iter()
            .all(|w| events.iter().any(|e| e == w))
            .then_some(())
    };
    world.api.until("events", told).await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_missing_makes_no_container() {
    let world = start();
    let volumes = json!({"volumes": [{"name": "tools", "image": {"reference": "tools:1", "pullPolicy": "Never"}}]});
    let mounts = json!([{"name": "tools", "mountPath": "/x", "subPath": "missing"}]);
    let containers = json!([mounting("a", mounts)]);
    world.api.put(P, pod("p", containers, volumes));
    let message = waiting(&world, "a", "CreateContainerError").await;
    assert_eq!(message, "ImageVolumeMountFailed: missing is missing");
    let told = |api: &FakeApi| {
        let event = format!("Failed: Error: {message}");
        api.events().contains(&event).then_some(())
    };
    world.api.until("event", told).await;
}

/// Makes a pull secret for a user of a registry.
fn secret(world: &World, name: &str, registry: &str, user: &str) {
    let config = json!({"auths": {registry: {"username": user, "password": "p"}}});
    let data = base64::engine::general_purpose::STANDARD.encode(config.to_string());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data},
    });
    let path = format!("/api/v1/namespaces/n/secrets/{name}");
    world.api.put(&path, secret);
}

#[tokio::test(start_paused = true)]
async fn every_pull_secret_is_tried() {
    let world = start();
    secret(&world, "other", "quay.io", "elsewhere");
    secret(&world, "old", "docker.io", "wrong");
    secret(&world, "new", "docker.io", "right");
    let names = json!([{"name": "other"}, {"name": "old"}, {"name": "new"}]);
    let container = json!({"name": "a", "image": "private:1", "imagePullPolicy": "IfNotPresent"});
    let spec = json!({"imagePullSecrets": names});
    world.api.put(P, pod("p", json!([container]), spec));
    let running = |api: &FakeApi| (api.get(P)?["status"]["phase"] == "Running").then_some(());
    world.api.until("running", running).await;
    assert_eq!(world.images.users(), ["wrong", "right"]);
}

/// Makes a Pod of the private image, and waits for what becomes of it: `Running`, or what its container waits for.
async fn private(world: &World, name: &str, policy: &str, secrets: &[&str]) -> String {
    let names: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    let container = json!({"name": "a", "image": "private:1", "imagePullPolicy": policy});
    let path = format!("/api/v1/namespaces/n/pods/{name}");
    let spec = json!({"imagePullSecrets": names});
    world.api.put(&path, pod(name, json!([container]), spec));
    let settled = |api: &FakeApi| {
        let pod = api.get(&path)?;
        let reason = status(&pod, "a")["state"]["waiting"]["reason"].as_str();
        match reason {
            Some("ContainerCreating" | "PodInitializing") => None,
            Some(reason) => Some(reason.to_owned()),
            None => (pod["status"]["phase"] == "Running").then(|| "Running".to_owned()),
        }
    };
    world.api.until(name, settled).await
}

#[tokio::test(start_paused = true)]
async fn an_image_pulled_with_a_secret_is_for_who_has_it() {
    let world = start();
    secret(&world, "good", "docker.io", "right");
    secret(&world, "same", "docker.io", "right");
    secret(&world, "bad", "docker.io", "wrong");
    assert_eq!(
        private(&world, "first", "IfNotPresent", &["good"]).await,
        "Running"
    );
    // Two lives of an agent: what it knows of its pulls is on the disk.
    let mut world = world;
    for life in ["1", "2"] {
        let rows: [(&str, &[&str], &str); 5] = [
            ("IfNotPresent", &["good"], "Running"),
            ("Never", &["bad", "same"], "Running"),
            ("IfNotPresent", &["bad"], "ErrImagePull"),
            ("IfNotPresent", &[], "ErrImagePull"),
            ("Never", &[], "ErrImageNeverPull"),
        ];
        for (row, (policy, secrets, want)) in rows.into_iter().enumerate() {
            let name = format!("p{life}{row}");
            let came_to = private(&world, &name, policy, secrets).await;
            assert_eq!(came_to, want, "{policy} {secrets:?}");
        }
        let pulls = world.images.users();
        let asked = |user: &str| pulls.iter().filter(|&name| name == user).count();
        assert_eq!(asked("right"), 1, "who had the secret pulled nothing");
        assert!(
            asked("wrong") > 0 && asked("") > 0,
            "others asked the registry"
        );
        world = world.restart();
    }
}
