//! The garbage collector before the real server: what becomes of objects whose owners are deleted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, Config, Router, ServiceRange, UserInfo};
use bytes::Bytes;
use controllers::Controllers;
use http::Request;
use http_body_util::{BodyExt, Full};
use ports::clock::SystemClock;
use serde_json::{Value, json};
use store::Store;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const CORE: &str = "/api/v1/namespaces/default";

/// A server with its controllers; everything goes away with it.
struct World {
    api: ApiServer,
    admin: Router,
    controllers: Option<tokio_util::sync::DropGuard>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("state.db")).unwrap());
        let config = Config {
            state_dir: dir.path().join("pki"),
            address: (Ipv4Addr::LOCALHOST, 6443).into(),
            advertise: None,
            extra_addresses: Vec::new(),
            service_range: ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 24).unwrap(),
            second_service_range: None,
            name_server: None,
            cluster_domain: "cluster.local".into(),
        };
        let clock = Arc::new(SystemClock);
        let api = ApiServer::new(config, store, clock).await.unwrap();
        let admin = api.router().with_user(UserInfo::admin("admin"));
        World {
            api,
            admin,
            controllers: None,
            _dir: dir,
        }
    }

    async fn running() -> World {
        let mut world = World::new().await;
        world.run();
        world
    }

    fn run(&mut self) {
        let user = UserInfo::new("system:kube-controller-manager", &[]);
        let client = kube::Client::new(self.api.router().with_user(user), "default");
        let config = controllers::Config::default();
        let controllers = Controllers::new(client, Arc::new(SystemClock), config);
        let stop = CancellationToken::new();
        tokio::spawn(controllers.run(stop.clone()));
        self.controllers = Some(stop.drop_guard());
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let text = match body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", kind);
        let request = request.body(Full::new(text)).unwrap();
        let answer = self.admin.clone().oneshot(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Makes a ConfigMap with these owners; returns a reference to it.
    async fn map(&self, name: &str, owners: &[&Value]) -> Value {
        let metadata = json!({"name": name, "ownerReferences": owners});
        let body = json!({"metadata": metadata});
        let (code, made) = self.ask("POST", &format!("{CORE}/configmaps"), body).await;
        assert_eq!(code, 201, "{made}");
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made["metadata"]["uid"]})
    }

    /// A ConfigMap, `Null` if there is none.
    async fn get(&self, name: &str) -> Value {
        match self.ask("GET", &map_path(name), Value::Null).await {
            (200, found) => found,
            _ => Value::Null,
        }
    }

    async fn delete(&self, name: &str, policy: &str) {
        let options = json!({"propagationPolicy": policy});
        let (code, answer) = self.ask("DELETE", &map_path(name), options).await;
        assert_eq!(code, 200, "{answer}");
    }

    /// Waits until the objects below `path` are as they should be.
    async fn see(&self, path: &str, is: impl Fn(&Objects) -> bool) -> Objects {
        let (_, list) = self.ask("GET", path, Value::Null).await;
        let version = &list["metadata"]["resourceVersion"];
        let path = format!("{path}?watch=true&resourceVersion={}", text(version));
        let items = list["items"].as_array().unwrap().iter();
        let mut seen: Objects = items.map(|item| (name(item), item.clone())).collect();
        let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let mut body = self
            .admin
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_body();
        let mut told = Vec::new();
        while !is(&seen) {
            while let Some(end) = told.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = told.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                let object = event["object"].clone();
                match text(&event["type"]) {
                    "DELETED" => drop(seen.remove(&name(&object))),
                    _ => drop(seen.insert(name(&object), object)),
                }
                if is(&seen) {
                    return seen;
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("there is {seen:#?}"));
            told.extend_from_slice(frame.unwrap().unwrap().data_ref().unwrap());
        }
        seen
    }

    /// Waits until the ConfigMaps are these and no others.
    async fn left(&self, names: &[&str]) {
        let is = |seen: &Objects| {
            let seen = seen.keys().filter(|name| *name != "kube-root-ca.crt");
            seen.eq(names)
        };
        self.see(&format!("{CORE}/configmaps"), is).await;
    }

    /// Waits until the ConfigMap is as it should be.
    async fn until(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let is = |seen: &Objects| seen.get(name).is_some_and(&is);
        let mut seen = self.see(&format!("{CORE}/configmaps"), is).await;
        seen.remove(name).unwrap()
    }
}

/// Objects by name.
type Objects = BTreeMap<String, Value>;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn name(object: &Value) -> String {
    text(&object["metadata"]["name"]).to_owned()
}

fn owners(object: &Value) -> Vec<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array();
    let owners = owners.into_iter().flatten();
    owners.map(|owner| text(&owner["uid"])).collect()
}

fn map_path(name: &str) -> String {
    format!("{CORE}/configmaps/{name}")
}

fn blocking(owner: &Value) -> Value {
    let mut owner = owner.clone();
    owner["blockOwnerDeletion"] = json!(true);
    owner
}

#[tokio::test]
async fn dependents_go_after_their_last_owner() {
    let world = World::running().await;
    let (one, two) = (world.map("one", &[]).await, world.map("two", &[]).await);
    let both = world.map("both", &[&one, &two]).await;
    world.map("child", &[&one]).await;
    world.map("grandchild", &[&both]).await;
    world.map("free", &[]).await;
    world.delete("one", "Background").await;
    world.left(&["both", "free", "grandchild", "two"]).await;
    let is_left = |found: &Value| owners(found) == [text(&two["uid"])];
    world.until("both", is_left).await;
    world.delete("two", "Background").await;
    world.left(&["free"]).await;
}

#[tokio::test]
async fn who_never_had_an_owner_that_is_there_goes() {
    let world = World::running().await;
    let owner = world.map("owner", &[]).await;
    let mut stranger = owner.clone();
    stranger["uid"] = json!("another");
    let mut unserved = stranger.clone();
    unserved["kind"] = json!("Tree");
    world.map("successor", &[&stranger]).await;
    world.map("unserved", &[&unserved, &stranger]).await;
    world.map("well", &[&owner, &stranger]).await;
    world.left(&["owner", "unserved", "well"]).await;
    let is_alone = |found: &Value| owners(found) == [text(&owner["uid"])];
    world.until("well", is_alone).await;
}

#[tokio::test]
async fn what_happened_before_is_made_up_for() {
    let mut world = World::new().await;
    let gone = world.map("gone", &[]).await;
    let owner = world.map("owner", &[]).await;
    let parent = world.map("parent", &[]).await;
    world.map("child", &[&gone]).await;
    world.map("orphan", &[&owner]).await;
    world.map("first", &[&blocking(&parent)]).await;
    world.delete("gone", "Background").await;
    world.delete("owner", "Orphan").await;
    world.delete("parent", "Foreground").await;
    world.run();
    world.left(&["orphan"]).await;
    assert_eq!(owners(&world.get("orphan").await), [""; 0]);
}

#[tokio::test]
async fn orphans_stay() {
    let world = World::running().await;
    let owner = world.map("owner", &[]).await;
    let child = world.map("child", &[&owner]).await;
    world.map("grandchild", &[&child]).await;
    world.delete("owner", "Orphan").await;
    world.left(&["child", "grandchild"]).await;
    assert_eq!(owners(&world.get("child").await), [""; 0]);
    let grandchild = world.get("grandchild").await;
    assert_eq!(owners(&grandchild), [text(&child["uid"])]);
}

#[tokio::test]
async fn in_the_foreground_the_owner_goes_last() {
    let world = World::running().await;
    let owner = world.map("owner", &[]).await;
    let child = world.map("child", &[&blocking(&owner)]).await;
    world.map("grandchild", &[&blocking(&child)]).await;
    world.map("loose", &[&owner]).await;
    let other = world.map("other", &[]).await;
    world.map("shared", &[&blocking(&owner), &other]).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    for name in ["grandchild", "loose"] {
        world.ask("PATCH", &map_path(name), hold.clone()).await;
    }
    world.delete("owner", "Foreground").await;
    let waits = |found: &Value| {
        let metadata = &found["metadata"];
        let is_held = metadata["finalizers"] == json!(["foregroundDeletion"]);
        is_held && metadata["deletionTimestamp"].is_string()
    };
    world.until("owner", waits).await;
    world.until("child", waits).await;
    let is_marked = |found: &Value| found["metadata"]["deletionTimestamp"].is_string();
    world.until("grandchild", is_marked).await;
    world.until("loose", is_marked).await;
    let is_others = |found: &Value| owners(found) == [text(&other["uid"])];
    world.until("shared", is_others).await;
    let free = json!({"metadata": {"finalizers": null}});
    world.ask("PATCH", &map_path("grandchild"), free).await;
    // Who does not block is not waited for.
    world.left(&["loose", "other", "shared"]).await;
}

#[tokio::test]
async fn a_circle_goes() {
    let world = World::running().await;
    let names = ["a", "b", "c"];
    let mut made = Vec::new();
    for name in names {
        made.push(world.map(name, &[]).await);
    }
    for (n, name) in names.iter().enumerate() {
        let owner = blocking(&made[(n + 2) % 3]);
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        world.ask("PATCH", &map_path(name), patch).await;
    }
    world.delete("a", "Foreground").await;
    world.left(&[]).await;
}

#[tokio::test]
async fn an_owner_is_in_the_same_namespace() {
    let world = World::running().await;
    let owner = world.map("owner", &[]).await;
    let body = json!({"metadata": {"name": "apart"}});
    world.ask("POST", "/api/v1/namespaces", body).await;
    let body = json!({"metadata": {"name": "child", "ownerReferences": [owner]}});
    let path = "/api/v1/namespaces/apart/configmaps";
    assert_eq!(world.ask("POST", path, body.clone()).await.0, 201);
    let class = json!({"metadata": {"name": "wide", "ownerReferences": [owner]}, "value": 1});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    assert_eq!(world.ask("POST", classes, class).await.0, 201);
    for (namespace, kind, name) in [
        ("apart", "ConfigMap", "child"),
        ("default", "PriorityClass", "wide"),
    ] {
        let events = format!("/api/v1/namespaces/{namespace}/events");
        let about = |event: &Value| event["involvedObject"]["name"] == name;
        let is_told = |seen: &Objects| seen.values().any(about);
        let seen = world.see(&events, is_told).await;
        let told = seen.values().find(|event| about(event)).unwrap();
        let within = if kind == "ConfigMap" { namespace } else { "" };
        assert_eq!(told["involvedObject"]["kind"], kind, "{told}");
        assert_eq!(told["reason"], "OwnerRefInvalidNamespace");
        let uid = owner["uid"].as_str().unwrap();
        let message = format!(
            "ownerRef [v1/ConfigMap, namespace: {within}, name: owner, uid: {uid}] does not exist in namespace {within:?}"
        );
        assert_eq!(told["message"], message);
    }
    world.see(path, |seen| !seen.contains_key("child")).await;
    let (code, _) = world
        .ask("GET", &format!("{classes}/wide"), Value::Null)
        .await;
    assert_eq!(
        code, 200,
        "an object whose owner cannot be told is left alone"
    );
    world.left(&["owner"]).await;
}

#[tokio::test]
async fn of_many_dependents_none_is_left() {
    let world = World::running().await;
    let owner = world.map("owner", &[]).await;
    for n in 0..300 {
        world.map(&format!("child-{n}"), &[&blocking(&owner)]).await;
    }
    world.delete("owner", "Foreground").await;
    world.left(&[]).await;
}
