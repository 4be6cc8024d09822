//! The scheduler before an API of nodes and Pods that do not change unless a test says so.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

type Out = UnsyncBoxBody<Bytes, Infallible>;

type Events = mpsc::UnboundedReceiver<Value>;

/// Lists of fixed objects, watches that bring what a test sends; everything written is sent to the test.
#[derive(Clone)]
struct FakeApi {
    nodes: Value,
    pods: Value,
    /// What the first watch of nodes and the first of Pods bring.
    events: Arc<Mutex<[Option<Events>; 2]>>,
    writes: mpsc::UnboundedSender<(String, Value)>,
}

/// A scheduler at work.
struct World {
    written: mpsc::UnboundedReceiver<(String, Value)>,
    node_events: mpsc::UnboundedSender<Value>,
    pod_events: mpsc::UnboundedSender<Value>,
    _guard: tokio_util::sync::DropGuard,
}

impl FakeApi {
    async fn serve(self, request: Request<Body>) -> Response<Out> {
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        if parts.method != Method::GET {
            let body = body.collect().await.unwrap().to_bytes();
            let sent: Value = serde_json::from_slice(&body).unwrap();
            self.writes.send((path.to_owned(), sent.clone())).unwrap();
            return whole(&sent);
        }
        let nothing = json!([]);
        let (items, which) = match path.rsplit('/').next() {
            Some("nodes") => (&self.nodes, Some(0)),
            Some("pods") => (&self.pods, Some(1)),
            _ => (&nothing, None),
        };
        if query.contains("watch=") {
            let mut events = self.events.lock().unwrap();
            let events = which.and_then(|which| events.get_mut(which)?.take());
            let frames = futures::stream::iter(events).flat_map(|mut events| {
                futures::stream::poll_fn(move |context| events.poll_recv(context))
            });
            let frames =
                frames.map(|event| Ok(hyper::body::Frame::data(testkit::line(&event).into())));
            let frames = frames.chain(futures::stream::pending());
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        whole(
            &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn whole(value: &Value) -> Response<Out> {
    Response::new(Full::new(line(value)).boxed_unsync())
}

/// Starts a scheduler.
fn start(nodes: Value, pods: Value) -> World {
    let (writes, written) = mpsc::unbounded_channel();
    let (node_events, of_nodes) = mpsc::unbounded_channel();
    let (pod_events, of_pods) = mpsc::unbounded_channel();
    let api = FakeApi {
        nodes,
        pods,
        events: Arc::new(Mutex::new([Some(of_nodes), Some(of_pods)])),
        writes,
    };
    let service = tower::service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.serve(request).await) }
    });
    let stop = CancellationToken::new();
    let client = kube::Client::new(service, "default");
    let clock = Arc::new(ports::clock::SystemClock);
    tokio::spawn(scheduler::run(client, clock, stop.clone()));
    World {
        written,
        node_events,
        pod_events,
        _guard: stop.drop_guard(),
    }
}

fn node(unschedulable: bool) -> Value {
    json!({"metadata": {"name": "one", "resourceVersion": "1"}, "spec": {"unschedulable": unschedulable},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "1", "memory": "1Gi", "pods": "9"}}})
}

fn pod(name: &str, scheduler: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"schedulerName": scheduler, "containers": []}})
}

/// A Pod that asks for so much, on a node or waiting for one.
fn asking(name: &str, cpu: &str, node: Value) -> Value {
    let mut pod = pod(name, "default-scheduler");
    pod["spec"]["nodeName"] = node;
    pod["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
    pod
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

impl World {
    /// What is written next, if anything is.
    async fn any(&mut self) -> Option<(String, Value)> {
        let write = tokio::time::timeout(Duration::from_secs(60), self.written.recv()).await;
        write.ok().map(|write| write.expect("it has ended"))
    }

    /// The next that is written, but for counts.
    async fn next(&mut self) -> (String, Value) {
        loop {
            let (path, value) = self.any().await.expect("it writes nothing");
            if value["series"].is_null() {
                return (path, value);
            }
        }
    }

    /// The next thing that is written is that this Pod gets the node, and that it is told.
    async fn expect_bound(&mut self, name: &str) {
        let (path, _) = self.next().await;
        assert_eq!(path, format!("/api/v1/namespaces/n/pods/{name}/binding"));
        let (_, event) = self.next().await;
        assert_eq!(event["reason"], "Scheduled");
    }

    /// The next thing that is written is why this Pod gets none, in its status and in an event.
    async fn expect_refused(&mut self, name: &str, why: &str) {
        let (path, patch) = self.next().await;
        assert_eq!(path, format!("/api/v1/namespaces/n/pods/{name}/status"));
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(condition["reason"], "Unschedulable");
        assert_eq!(condition["message"], why);
        let (_, event) = self.next().await;
        assert_eq!(
            (&event["reason"], &event["message"]),
            (&json!("FailedScheduling"), &json!(why))
        );
    }

    async fn expect_nothing(&mut self) {
        let more = self.any().await;
        assert!(more.is_none(), "{more:?}");
    }
}

fn none_because(reasons: &str, preemption: &str) -> String {
    format!(
        "0/1 nodes are available: {reasons}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 {preemption}."
    )
}

const HOPELESS: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_and_told_of_it() {
    let pods = json!([pod("other", "another"), pod("mine", "default-scheduler")]);
    let mut world = start(json!([node(false)]), pods);
    let (path, binding) = world.next().await;
    assert_eq!(path, "/api/v1/namespaces/n/pods/mine/binding");
    assert_eq!(binding["target"]["name"], "one");
    assert_eq!(binding["metadata"]["uid"], "uid-mine");
    let (path, event) = world.next().await;
    assert_eq!(path, "/api/v1/namespaces/n/events");
    assert_eq!(event["reason"], "Scheduled");
    assert_eq!(event["message"], "Successfully assigned n/mine to one");
    world.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_and_ends_with_the_obstacle() {
    let pods = json!([pod("mine", "default-scheduler")]);
    let mut world = start(json!([node(true)]), pods);
    let why = none_because("1 node(s) were unschedulable", HOPELESS);
    world.expect_refused("mine", &why).await;
    let events = &world.node_events;
    events.send(event("MODIFIED", node(true))).unwrap();
    events.send(event("MODIFIED", node(false))).unwrap();
    world.expect_bound("mine").await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_still_holds_is_a_series() {
    let pods = json!([
        pod("mine", "default-scheduler"),
        asking("a", "0", json!("one")),
        asking("b", "0", json!("one")),
        asking("c", "0", json!("one")),
    ]);
    let mut world = start(json!([node(true)]), pods);
    let why = none_because("1 node(s) were unschedulable", HOPELESS);
    let (_, patch) = world.next().await;
    assert_eq!(patch["status"]["conditions"][0]["message"], why);
    let (path, told) = world.next().await;
    assert_eq!(path, "/api/v1/namespaces/n/events");
    let shape = ["reason", "action", "reportingComponent", "type"].map(|f| &told[f]);
    let wanted = [
        "FailedScheduling",
        "Scheduling",
        "default-scheduler",
        "Warning",
    ];
    assert_eq!(shape, wanted.map(Value::from).each_ref());
    for absent in ["count", "firstTimestamp", "series"] {
        assert_eq!(told[absent], Value::Null, "{absent}");
    }
    // What others leave does not help: the second time it is a series, the third is only counted.
    let events = world.pod_events.clone();
    let leave = |name: &str| {
        let left = event("DELETED", asking(name, "0", json!("one")));
        events.send(left).unwrap();
    };
    leave("a");
    let (path, patch) = world.any().await.expect("a count");
    let name = told["metadata"]["name"].as_str().unwrap();
    assert_eq!(path, format!("/api/v1/namespaces/n/events/{name}"));
    assert_eq!(patch["series"]["count"], 2);
    assert!(patch["series"]["lastObservedTime"].is_string(), "{patch}");
    leave("b");
    leave("c");
    world.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_what_others_leave() {
    let on = |node: &str| json!(node);
    let pods = json!([
        asking("here", "700m", on("one")),
        asking("there", "9", on("two")),
        asking("mine", "500m", json!(null)),
    ]);
    let mut world = start(json!([node(false)]), pods);
    let short = none_because("1 Insufficient cpu", NO_VICTIMS);
    world.expect_refused("mine", &short).await;
    // Who fits is not held up, and holds its share from then on.
    let events = world.pod_events.clone();
    let send = |kind, pod| events.send(event(kind, pod)).unwrap();
    send("ADDED", asking("small", "200m", json!(null)));
    world.expect_bound("small").await;
    send("ADDED", asking("late", "101m", json!(null)));
    world.expect_refused("late", &short).await;
    send("ADDED", asking("huge", "2", json!(null)));
    let never = none_because("1 Insufficient cpu", HOPELESS);
    world.expect_refused("huge", &never).await;
    // One that shrinks leaves something, one that ends the rest; who came first is served first.
    send("MODIFIED", asking("here", "650m", on("one")));
    world.expect_bound("late").await;
    let waiting = |name, second| {
        let mut pod = asking(name, "500m", json!(null));
        pod["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:0{second}Z"));
        pod
    };
    send("MODIFIED", waiting("mine", 1));
    send("ADDED", waiting("again", 2));
    world.expect_refused("again", &short).await;
    send("DELETED", asking("here", "650m", on("one")));
    world.expect_bound("mine").await;
    world.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_node_takes_no_more_pods() {
    let bound = |name: &str| asking(name, "0", json!("one"));
    let port = |name: &str, node: Value| {
        let mut pod = asking(name, "0", node);
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
        pod
    };
    let pods = json!([
        bound("a"),
        port("b", json!("one")),
        port("mine", json!(null))
    ]);
    let mut node = node(false);
    node["status"]["allocatable"]["pods"] = json!("3");
    let mut world = start(json!([node]), pods);
    let ports = "1 node(s) didn't have free ports for the requested pod ports";
    let taken = none_because(ports, NO_VICTIMS);
    world.expect_refused("mine", &taken).await;
    let events = world.pod_events.clone();
    let send = |kind, pod| events.send(event(kind, pod)).unwrap();
    send("ADDED", bound("c"));
    send("ADDED", asking("more", "2", json!(null)));
    let full = none_because("1 Insufficient cpu, 1 Too many pods", HOPELESS);
    world.expect_refused("more", &full).await;
}
