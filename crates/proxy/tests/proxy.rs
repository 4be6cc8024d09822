//! The proxy before an API whose Services and EndpointSlices a test sets, and redirects that tell what they were asked for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use nat::{Change, Table};
use ports::network::{NetworkError, Redirects};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

type Out = UnsyncBoxBody<Bytes, Infallible>;
type Events = mpsc::UnboundedReceiver<Value>;

/// Lists of fixed objects, each given out when a test says so, and watches that bring what a test sends; by the path's last part.
#[derive(Clone)]
struct FakeApi {
    lists: Arc<Mutex<BTreeMap<&'static str, mpsc::UnboundedReceiver<Value>>>>,
    watches: Arc<Mutex<BTreeMap<&'static str, Events>>>,
}

impl FakeApi {
    async fn serve(self, request: Request<Body>) -> Response<Out> {
        let path = request.uri().path().to_owned();
        let kind = path.rsplit('/').next().unwrap_or_default();
        if request.uri().query().unwrap_or_default().contains("watch=") {
            let events = self.watches.lock().unwrap().remove(kind);
            let frames = futures::stream::iter(events).flat_map(|mut events| {
                futures::stream::poll_fn(move |context| events.poll_recv(context))
            });
            let frames =
                frames.map(|event| Ok(hyper::body::Frame::data(testkit::line(&event).into())));
            let frames = frames.chain(futures::stream::pending());
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let list = self.lists.lock().unwrap().remove(kind);
        let items = list.expect("one list").recv().await.expect("a list");
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
        Response::new(Full::new(line(&list)).boxed_unsync())
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// Tells of each change, and carries it out if the test lets it.
struct Recorder {
    asked: mpsc::UnboundedSender<Change>,
    /// Answers to the changes in order: whether they can be carried out.
    answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<bool>>,
}

#[async_trait]
impl Redirects for Recorder {
    async fn change(&self, change: Change) -> Result<(), NetworkError> {
        self.asked.send(change).expect("the test listens");
        match self.answers.lock().await.recv().await {
            Some(true) => Ok(()),
            _ => Err(NetworkError::Exhausted {
                range: "the kernel's patience".into(),
            }),
        }
    }
}

struct World {
    lists: BTreeMap<&'static str, mpsc::UnboundedSender<Value>>,
    watches: BTreeMap<&'static str, mpsc::UnboundedSender<Value>>,
    asked: mpsc::UnboundedReceiver<Change>,
    answers: mpsc::UnboundedSender<bool>,
    _guard: DropGuard,
}

impl World {
    fn start() -> World {
        let kinds = ["services", "endpointslices", "pods"];
        let (mut lists, mut of_lists) = (BTreeMap::new(), BTreeMap::new());
        let (mut watches, mut of_watches) = (BTreeMap::new(), BTreeMap::new());
        for kind in kinds {
            let (send, receive) = mpsc::unbounded_channel();
            lists.insert(kind, send);
            of_lists.insert(kind, receive);
            let (send, receive) = mpsc::unbounded_channel();
            watches.insert(kind, send);
            of_watches.insert(kind, receive);
        }
        let api = FakeApi {
            lists: Arc::new(Mutex::new(of_lists)),
            watches: Arc::new(Mutex::new(of_watches)),
        };
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        let (asked, of_asked) = mpsc::unbounded_channel();
        let (answers, of_answers) = mpsc::unbounded_channel();
        let recorder = Recorder {
            asked,
            answers: of_answers.into(),
        };
        let client = kube::Client::new(service, "default");
        let stop = CancellationToken::new();
        let proxy = proxy::Proxy::new(client, Arc::new(recorder), "one");
        tokio::spawn(proxy.run(stop.clone()));
        World {
            lists,
            watches,
            asked: of_asked,
            answers,
            _guard: stop.drop_guard(),
        }
    }

    fn list(&self, kind: &str, items: Value) {
        self.lists[kind].send(items).expect("is listed");
    }

    fn tell(&self, kind: &str, what: &str, object: Value) {
        let event = json!({"type": what, "object": object});
        self.watches[kind].send(event).expect("is watched");
    }

    /// The next change that is asked for; it is carried out or not.
    async fn next(&mut self, can_be: bool) -> Change {
        let change = self.asked.recv().await.expect("a change");
        self.answers.send(can_be).expect("is awaited");
        change
    }
}

fn service(name: &str, n: u8) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "n", "resourceVersion": "2"},
        "spec": {"clusterIP": format!("10.96.0.{n}"), "ports": [{"port": 80}]}, "status": {}})
}

fn slice(service: &str, address: &str) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "namespace": "n", "resourceVersion": "3",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}]})
}

/// `front -> backends` for each.
fn shown(table: &Table) -> Vec<String> {
    let lines = table.iter().map(|(front, redirect)| {
        let backends: Vec<_> = redirect.backends.iter().map(ToString::to_string).collect();
        format!("{front} -> {}", backends.join(" "))
    });
    lines.collect()
}

fn all(change: Change) -> Vec<String> {
    match change {
        Change::All(table) => shown(&table),
        some @ Change::Some { .. } => panic!("not all: {some:?}"),
    }
}

fn some(change: Change) -> (Vec<String>, usize) {
    match change {
        Change::Some { set, gone } => (shown(&set), gone.len()),
        all @ Change::All(_) => panic!("all: {all:?}"),
    }
}

#[tokio::test]
async fn nothing_changes_before_all_is_known_and_then_only_what_is_told() {
    let mut world = World::start();
    world.list("services", json!([service("a", 1), service("b", 2)]));
    tokio::task::yield_now().await;
    world
        .asked
        .try_recv()
        .expect_err("the slices are not known");
    world.list("endpointslices", json!([slice("a", "10.0.0.1")]));
    world.list("pods", json!([]));
    let first = all(world.next(true).await);
    assert_eq!(
        first,
        ["tcp/10.96.0.1/80 -> 10.0.0.1:8080", "tcp/10.96.0.2/80 -> "]
    );

    world.tell("endpointslices", "ADDED", slice("b", "10.0.0.2"));
    let line = vec!["tcp/10.96.0.2/80 -> 10.0.0.2:8080".to_owned()];
    assert_eq!(some(world.next(true).await), (line, 0));
    world.tell("services", "DELETED", service("a", 1));
    assert_eq!(some(world.next(true).await), (vec![], 1));
}

#[tokio::test]
async fn what_is_heard_meanwhile_is_one_change_and_a_failure_is_made_good() {
    let mut world = World::start();
    world.list("services", json!([service("a", 1)]));
    world.list("endpointslices", json!([]));
    world.list("pods", json!([]));
    let first = world.asked.recv().await.expect("a change");
    assert_eq!(all(first), ["tcp/10.96.0.1/80 -> "]);
    world.tell("endpointslices", "ADDED", slice("a", "10.0.0.1"));
    world.tell("endpointslices", "MODIFIED", slice("a", "10.0.0.2"));
    world.answers.send(false).expect("is awaited");
    let again = all(world.next(true).await);
    assert_eq!(again, ["tcp/10.96.0.1/80 -> 10.0.0.2:8080"]);
}

#[tokio::test]
async fn host_ports_follow_their_pod() {
    let mut world = World::start();
    let pod = |phase: &str| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "resourceVersion": "4"},
            "spec": {"nodeName": "one", "containers": [{"name": "c",
                "ports": [{"containerPort": 8080, "hostPort": 80, "hostIP": "192.0.2.1"}]}]},
            "status": {"phase": phase, "podIP": "10.0.0.9"}})
    };
    world.list("services", json!([]));
    world.list("endpointslices", json!([]));
    world.list("pods", json!([pod("Running")]));
    let line = "tcp/192.0.2.1/80 -> 10.0.0.9:8080";
    assert_eq!(all(world.next(true).await), [line]);
    world.tell("pods", "MODIFIED", pod("Failed"));
    assert_eq!(some(world.next(true).await), (vec![], 1));
}
