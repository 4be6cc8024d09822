//! The guard before an API whose NetworkPolicies, Pods and namespaces a test sets, and a filter that tells what it was asked for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use nat::policy::Change;
use ports::network::{Filter, Gate, NetworkError, PodName};
use proxy::{Guard, Waiting};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

type Out = UnsyncBoxBody<Bytes, Infallible>;

/// Empty lists, and watches that bring what a test sends, by the path's last part.
#[derive(Clone, Default)]
struct FakeApi {
    watches: Arc<Mutex<BTreeMap<&'static str, mpsc::UnboundedReceiver<Value>>>>,
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
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
        Response::new(Full::new(line(&list)).boxed_unsync())
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// Tells of each change, and carries it out if the test lets it.
struct Recorder {
    asked: mpsc::UnboundedSender<Change>,
    answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<bool>>,
}

#[async_trait]
impl Filter for Recorder {
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
    watches: BTreeMap<&'static str, mpsc::UnboundedSender<Value>>,
    asked: mpsc::UnboundedReceiver<Change>,
    answers: mpsc::UnboundedSender<bool>,
    waiting: Waiting,
    _guard: DropGuard,
}

impl World {
    /// With nothing to be kept from anybody, which is carried out.
    async fn start() -> World {
        let (api, mut watches) = (FakeApi::default(), BTreeMap::new());
        for kind in ["networkpolicies", "pods", "namespaces"] {
            let (send, receive) = mpsc::unbounded_channel();
            watches.insert(kind, send);
            api.watches.lock().unwrap().insert(kind, receive);
        }
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
        let (guard, waiting) = Guard::new(client, Arc::new(recorder));
        let stop = CancellationToken::new();
        tokio::spawn(guard.run(stop.clone()));
        let mut world = World {
            watches,
            asked: of_asked,
            answers,
            waiting,
            _guard: stop.drop_guard(),
        };
        let first = world.change().await;
        assert!(first.opens_all(), "{first:?}");
        world.answers.send(true).expect("the recorder waits");
        world
    }

    async fn change(&mut self) -> Change {
        self.asked.recv().await.expect("the guard lives")
    }

    fn tell(&self, kind: &str, event: &str, object: Value) {
        let event = json!({"type": event, "object": object});
        self.watches[kind].send(event).expect("the guard watches");
    }

    fn tell_policy(&self, event: &str) {
        let spec =
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]});
        self.tell(
            "networkpolicies",
            event,
            json!({"metadata": meta("p"), "spec": spec}),
        );
    }

    fn tell_pod(&self, name: &str) {
        let pod = json!({"metadata": meta(name), "spec": {"containers": []}, "status": {"phase": "Pending"}});
        self.tell("pods", "ADDED", pod);
    }

    /// Somebody waits for a Pod with this address.
    fn pass(&self, name: &'static str, address: Ipv4Addr) -> tokio::task::JoinHandle<()> {
        let waiting = self.waiting.clone();
        tokio::spawn(async move {
            let pod = PodName {
                namespace: "default",
                name,
                uid: name,
            };
            waiting.pass(&pod, &[IpAddr::V4(address)]).await;
        })
    }
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "default", "uid": name, "labels": {"app": name}, "resourceVersion": "2"})
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 7);

#[tokio::test]
async fn without_policies_pods_pass_at_once() {
    let world = World::start().await;
    world.pass("web", ADDRESS).await.expect("passes");
}

#[tokio::test]
async fn a_pod_passes_when_it_is_bound() {
    let mut world = World::start().await;
    world.tell_policy("ADDED");
    // Two that nobody has heard of yet.
    let bound = world.pass("web", ADDRESS);
    let free = world.pass("other", Ipv4Addr::new(10, 244, 0, 8));
    world.tell_pod("web");
    let change = world.change().await;
    assert!(
        change.anew && change.pods.contains_key(&IpAddr::V4(ADDRESS)),
        "{change:?}"
    );
    assert!(!bound.is_finished(), "it is not carried out yet");

    // It cannot be carried out, and is tried again as a whole.
    world.answers.send(false).expect("the recorder waits");
    assert_eq!(world.change().await, change);
    assert!(!bound.is_finished());
    world.answers.send(true).expect("the recorder waits");
    bound.await.expect("passes");
    assert!(!free.is_finished(), "nobody has heard of it");
    world.tell_pod("other");
    free.await.expect("passes, and nothing is to be done");

    // With the last policy everything is open, and nobody waits.
    world.tell_policy("DELETED");
    let change = world.change().await;
    assert!(change.opens_all(), "{change:?}");
    world.answers.send(true).expect("the recorder waits");
    let unheard = world.pass("third", ADDRESS);
    unheard.await.expect("passes");
}
