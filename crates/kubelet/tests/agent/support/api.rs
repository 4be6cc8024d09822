//! A Kubernetes API of the routes the agent uses: objects as JSON values, list and watch, merge patches, graceful deletion.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, watch};

type Out = UnsyncBoxBody<Bytes, Infallible>;

/// The API; clones share it.
#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<(u64, String, &'static str, Value)>,
    revision: watch::Sender<u64>,
    /// Whether lists of Pods are not answered now.
    held: watch::Sender<bool>,
    /// Rung when a list of Pods is asked for and held.
    asked: Notify,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By path: `/api/v1/namespaces/n/pods/p`.
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    /// Paths that were asked for, but for watches.
    reads: Vec<String>,
    history: Vec<(String, Value)>,
    /// Statuses with this in them are refused.
    refused: Option<String>,
}

impl FakeApi {
    /// An empty API.
    pub(crate) fn new() -> Self {
        let (changes, _) = broadcast::channel(4096);
        FakeApi(Arc::new(Shared {
            state: Mutex::default(),
            changes,
            revision: watch::Sender::new(0),
            held: watch::Sender::new(false),
            asked: Notify::new(),
        }))
    }

    /// A client of it.
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object there, new or changed.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.0.state.lock().unwrap();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let kind = if state.objects.contains_key(path) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.objects.insert(path.to_owned(), object.clone());
        state.history.push((path.to_owned(), object.clone()));
        self.tell(&state, path, kind, object);
    }

    /// From now on refuses statuses with this in them.
    pub(crate) fn refuse(&self, text: &str) {
        self.0.state.lock().unwrap().refused = Some(text.to_owned());
    }

    /// Answers no list of Pods from now on.
    pub(crate) fn hold_lists(&self) {
        self.0.held.send_replace(true);
    }

    /// Waits until somebody waits for a list of Pods.
    pub(crate) async fn list_is_held(&self) {
        self.0.asked.notified().await;
    }

    /// Answers lists of Pods again.
    pub(crate) fn answer_lists(&self) {
        self.0.held.send_replace(false);
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, path: &str) {
        let mut state = self.0.state.lock().unwrap();
        state.revision += 1;
        if let Some(object) = state.objects.remove(path) {
            self.tell(&state, path, "DELETED", object);
        }
    }

    /// Marks an object for deletion.
    pub(crate) fn delete_gracefully(&self, path: &str, grace: i64) {
        let mut object = self.get(path).unwrap();
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.put(path, object);
    }

    /// An object as it is.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.state.lock().unwrap().objects.get(path).cloned()
    }

    /// Reasons and messages of the events about Pods so far, in the order in which they were made.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events_about("Pod")
    }

    /// The same of those about the node.
    pub(crate) fn node_events(&self) -> Vec<String> {
        self.events_about("Node")
    }

    fn events_about(&self, kind: &str) -> Vec<String> {
        let state = self.0.state.lock().unwrap();
        let mut events: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(p, _)| p.contains("/events/"))
            .map(|(_, e)| e)
            .filter(|e| e["involvedObject"]["kind"] == kind)
            .collect();
        events.sort_by_key(|e| e["metadata"]["creation"].as_u64());
        events
            .iter()
            .map(|e| {
                format!(
                    "{}: {}",
                    e["reason"].as_str().unwrap(),
                    e["message"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// Takes all events away, as time does: another agent's clock begins anew, and so do the names it gives.
    pub(crate) fn expire_events(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.objects.retain(|path, _| !path.contains("/events/"));
    }

    /// Every state an object was in.
    pub(crate) fn history(&self, path: &str) -> Vec<Value> {
        let state = self.0.state.lock().unwrap();
        state
            .history
            .iter()
            .filter(|(p, _)| p == path)
            .map(|(_, o)| o.clone())
            .collect()
    }

    /// Paths written to, without events.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.0.state.lock().unwrap().writes.clone()
    }

    /// How often what is at the path was asked for.
    pub(crate) fn reads_of(&self, path: &str) -> usize {
        let state = self.0.state.lock().unwrap();
        state.reads.iter().filter(|read| *read == path).count()
    }

    /// Waits until the API is as `wanted` says, or a minute of paused time has passed.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut wanted: impl FnMut(&FakeApi) -> Option<T>,
    ) -> T {
        let mut revision = self.0.revision.subscribe();
        let found = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            loop {
                if let Some(found) = wanted(self) {
                    return found;
                }
                revision.changed().await.unwrap();
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => {
                let events = self.events();
                panic!(
                    "never {what}: {:#?} {events:?}",
                    self.0.state.lock().unwrap().objects
                )
            }
        }
    }

    fn tell(&self, state: &State, path: &str, kind: &'static str, object: Value) {
        let _ = self
            .0
            .changes
            .send((state.revision, path.to_owned(), kind, object));
        self.0.revision.send_replace(state.revision);
    }

    async fn serve(&self, request: Request<Body>) -> Response<Out> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path, &query),
            Method::GET => {
                if path.ends_with("/pods") {
                    self.may_list().await;
                }
                self.read(&path, &query)
            }
            Method::POST => self.create(&path, body),
            Method::PATCH => self.patch(&path, &body),
            Method::DELETE => self.delete(&path, &body),
            other => panic!("{other} {path}"),
        }
    }

    async fn may_list(&self) {
        let mut held = self.0.held.subscribe();
        if *held.borrow() {
            self.0.asked.notify_one();
        }
        held.wait_for(|held| !held).await.unwrap();
    }

    fn read(&self, path: &str, query: &str) -> Response<Out> {
        let mut state = self.0.state.lock().unwrap();
        state.reads.push(path.to_owned());
        if let Some(object) = state.objects.get(path) {
            return answer(StatusCode::OK, object);
        }
        let is_list = matches!(
            path.rsplit('/').next(),
            Some("pods" | "services" | "nodes" | "configmaps" | "secrets")
        );
        if !is_list {
            return status(StatusCode::NOT_FOUND, "NotFound", "not found");
        }
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(p, o)| selected(path, query, p, o))
            .map(|(_, o)| o)
            .collect();
        answer(
            StatusCode::OK,
            &json!({"metadata": {"resourceVersion": state.revision.to_string()}, "items": items}),
        )
    }

    fn watch(&self, path: &str, query: &str) -> Response<Out> {
        let state = self.0.state.lock().unwrap();
        let from: u64 = query
            .split('&')
            .find_map(|q| q.strip_prefix("resourceVersion="))
            .and_then(|v| v.parse().ok())
            .unwrap();
        assert!(from <= state.revision);
        let missed = state
            .objects
            .iter()
            .filter(|(p, o)| selected(path, query, p, o) && version(o) > from);
        let missed: Vec<Value> = missed
            .map(|(_, o)| json!({"type": "ADDED", "object": o}))
            .collect();
        let changes = self.0.changes.subscribe();
        let (path, query) = (path.to_owned(), query.to_owned());
        let later = futures::stream::unfold(changes, |mut changes| async move {
            Some((changes.recv().await.ok()?, changes))
        });
        let later = futures::StreamExt::filter_map(later, move |(_, p, kind, object)| {
            let wanted = selected(&path, &query, &p, &object)
                .then(|| json!({"type": kind, "object": object}));
            async move { wanted }
        });
        let all = futures::StreamExt::chain(futures::stream::iter(missed), later);
        let frames = futures::StreamExt::map(all, |event| {
            Ok::<_, Infallible>(hyper::body::Frame::data(testkit::line(&event).into()))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn create(&self, path: &str, mut object: Value) -> Response<Out> {
        if path.ends_with("/token") {
            let token = json!({"status": {"token": "secret", "expirationTimestamp": "2030-01-01T00:00:00Z"}});
            return answer(StatusCode::CREATED, &token);
        }
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.get(&path).is_some() {
            return status(StatusCode::CONFLICT, "AlreadyExists", "exists");
        }
        if object["metadata"]["uid"].is_null() {
            let revision = self.0.state.lock().unwrap().revision;
            object["metadata"]["uid"] = json!(format!("made-{revision}"));
        }
        object["metadata"]["creation"] = json!(self.0.state.lock().unwrap().revision);
        self.put(&path, object);
        answer(StatusCode::CREATED, &self.get(&path).unwrap())
    }

    fn patch(&self, path: &str, patch: &Value) -> Response<Out> {
        let path = path.strip_suffix("/status").unwrap_or(path);
        let Some(mut object) = self.get(path) else {
            return status(StatusCode::NOT_FOUND, "NotFound", "not found");
        };
        let refused = self.0.state.lock().unwrap().refused.clone();
        if refused.is_some_and(|text| patch["status"].to_string().contains(&text)) {
            return status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "refused");
        }
        merge(&mut object, patch);
        if !path.contains("/events/") {
            self.0.state.lock().unwrap().writes.push(path.to_owned());
        }
        self.put(path, object);
        answer(StatusCode::OK, &self.get(path).unwrap())
    }

    fn delete(&self, path: &str, options: &Value) -> Response<Out> {
        let Some(object) = self.get(path) else {
            return status(StatusCode::NOT_FOUND, "NotFound", "not found");
        };
        assert_eq!(options["preconditions"]["uid"], object["metadata"]["uid"]);
        assert_eq!(options["gracePeriodSeconds"], 0);
        self.remove(path);
        answer(StatusCode::OK, &object)
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// Whether an object at `path` belongs to a list: the right collection, in all namespaces or one, and the field selector.
fn selected(list: &str, query: &str, path: &str, object: &Value) -> bool {
    let Some((collection, _)) = path.rsplit_once('/') else {
        return false;
    };
    let all_namespaces = || {
        let (list, kind) = list.rsplit_once('/').unwrap();
        collection.starts_with(&format!("{list}/namespaces/"))
            && collection.ends_with(&format!("/{kind}"))
    };
    let field = |name: &str| {
        query
            .split('&')
            .find_map(|q| q.strip_prefix("fieldSelector="))
            .and_then(|s| s.strip_prefix(name)?.strip_prefix("%3D"))
    };
    (collection == list || all_namespaces())
        && field("spec.nodeName").is_none_or(|node| object["spec"]["nodeName"] == node)
        && field("metadata.name").is_none_or(|name| object["metadata"]["name"] == name)
}

/// A merge patch; conditions are merged by type as the strategic kind does.
fn merge(object: &mut Value, patch: &Value) {
    let (Some(fields), Some(patch)) = (object.as_object_mut(), patch.as_object()) else {
        return;
    };
    for (key, value) in patch {
        match (key.as_str(), value) {
            (_, Value::Null) => drop(fields.remove(key)),
            ("conditions", Value::Array(changes)) => {
                let list = fields
                    .entry(key)
                    .or_insert(json!([]))
                    .as_array_mut()
                    .unwrap();
                for change in changes {
                    if change["$patch"] == "delete" {
                        list.retain(|c| c["type"] != change["type"]);
                        continue;
                    }
                    match list.iter_mut().find(|c| c["type"] == change["type"]) {
                        Some(old) => merge(old, change),
                        None => list.push(change.clone()),
                    }
                }
            }
            (_, Value::Object(_)) => merge(fields.entry(key).or_insert(json!({})), value),
            _ => drop(fields.insert(key.clone(), value.clone())),
        }
    }
}

fn answer(code: StatusCode, object: &Value) -> Response<Out> {
    let body = Full::from(object.to_string().into_bytes()).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response<Out> {
    answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code.as_u16()}),
    )
}
