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

/// Lists and watches of fixed objects; everything written is sent to the test.
#[derive(Clone)]
struct FakeApi {
    nodes: Value,
    pods: Value,
    /// What the next watch of nodes brings.
    node_events: Arc<Mutex<Vec<Value>>>,
    writes: mpsc::UnboundedSender<(String, Value)>,
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
        let of_nodes = path.ends_with("/nodes");
        if query.contains("watch=") {
            let events = match of_nodes {
                true => std::mem::take(&mut *self.node_events.lock().unwrap()),
                false => Vec::new(),
            };
            let frames = events
                .into_iter()
                .map(|event| Ok(hyper::body::Frame::data(line(&event))));
            let frames = futures::stream::iter(frames).chain(futures::stream::pending());
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let items = if of_nodes { &self.nodes } else { &self.pods };
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

/// Starts a scheduler; what it writes.
fn start(
    nodes: Value,
    pods: Value,
    node_events: Vec<Value>,
) -> (
    mpsc::UnboundedReceiver<(String, Value)>,
    tokio_util::sync::DropGuard,
) {
    let (writes, written) = mpsc::unbounded_channel();
    let api = FakeApi {
        nodes,
        pods,
        node_events: Arc::new(Mutex::new(node_events)),
        writes,
    };
    let service = tower::service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.serve(request).await) }
    });
    let stop = CancellationToken::new();
    let client = kube::Client::new(service, "default");
    let scheduler = scheduler::Scheduler::new(client, Arc::new(ports::clock::SystemClock));
    tokio::spawn(scheduler.run(stop.clone()));
    (written, stop.drop_guard())
}

fn node(unschedulable: bool) -> Value {
    json!({"metadata": {"name": "one", "resourceVersion": "1"}, "spec": {"unschedulable": unschedulable},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(name: &str, scheduler: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"schedulerName": scheduler, "containers": []}})
}

async fn next(written: &mut mpsc::UnboundedReceiver<(String, Value)>) -> (String, Value) {
    let write = tokio::time::timeout(Duration::from_secs(60), written.recv()).await;
    write.expect("it writes nothing").expect("it has ended")
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_and_told_of_it() {
    let pods = json!([pod("other", "another"), pod("mine", "default-scheduler")]);
    let (mut written, _guard) = start(json!([node(false)]), pods, Vec::new());
    let (path, binding) = next(&mut written).await;
    assert_eq!(path, "/api/v1/namespaces/n/pods/mine/binding");
    assert_eq!(binding["target"]["name"], "one");
    assert_eq!(binding["metadata"]["uid"], "uid-mine");
    let (path, event) = next(&mut written).await;
    assert_eq!(path, "/api/v1/namespaces/n/events");
    assert_eq!(event["reason"], "Scheduled");
    assert_eq!(event["message"], "Successfully assigned n/mine to one");
    let more = tokio::time::timeout(Duration::from_secs(60), written.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_and_ends_with_the_obstacle() {
    let pods = json!([pod("mine", "default-scheduler")]);
    let same = json!({"type": "MODIFIED", "object": node(true)});
    let free = json!({"type": "MODIFIED", "object": node(false)});
    let (mut written, _guard) = start(json!([node(true)]), pods, vec![same, free]);
    let (path, patch) = next(&mut written).await;
    assert_eq!(path, "/api/v1/namespaces/n/pods/mine/status");
    let condition = &patch["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Unschedulable");
    let why = "0/1 nodes are available: 1 node(s) were unschedulable. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(condition["message"], why);
    let (_, event) = next(&mut written).await;
    assert_eq!(
        (&event["reason"], &event["message"]),
        (&json!("FailedScheduling"), &json!(why))
    );
    let (path, _) = next(&mut written).await;
    assert_eq!(path, "/api/v1/namespaces/n/pods/mine/binding");
}
