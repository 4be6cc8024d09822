//! Events on Pods and their node: posted in order by one task, so that no worker ever waits for them (spec `§14`).
//!
//! Workers hand events to a bounded queue and go on; when it is full, events are dropped, as upstream drops them. What is posted
//! is decided by [`correlate`], which is pure.

mod correlate;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as Wire, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use lifecycle::{Event, EventType};
use ports::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use correlate::{Correlator, Post};

const COMPONENT: &str = "kubelet";
/// Most events that wait to be posted.
const QUEUE: usize = 1000;
/// How often an event is posted to a server that does not answer, and how long after each time.
const TRIES: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);

/// An event on its way.
struct Item {
    about: ObjectReference,
    event: Event,
    at: Timestamp,
}

/// Takes events; cheap to clone, never waits.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Item>,
    clock: Arc<dyn Clock>,
}

impl Recorder {
    /// Reports an event on a Pod.
    pub(crate) fn record(&self, pod: &Pod, event: Event) {
        let meta = &pod.metadata;
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: event.field_path(),
        };
        self.put(about, event);
    }

    /// Reports an event on the node, which goes by its name for a UID, as upstream has it.
    pub(crate) fn record_node(&self, name: &str, event: Event) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.put(about, event);
    }

    fn put(&self, about: ObjectReference, event: Event) {
        if self
            .queue
            .try_send(Item {
                about,
                event,
                at: self.clock.now(),
            })
            .is_err()
        {
            tracing::debug!("an event was dropped: too many wait");
        }
    }
}

/// Posts what recorders take.
pub(crate) struct Poster {
    client: Client,
    node: String,
    queue: mpsc::Receiver<Item>,
    correlator: Correlator,
}

/// A recorder and the task behind it.
pub(crate) fn new(client: Client, node: String, clock: Arc<dyn Clock>) -> (Recorder, Poster) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (
        Recorder {
            queue: sender,
            clock,
        },
        Poster {
            client,
            node,
            queue,
            correlator: Correlator::default(),
        },
    )
}

impl Poster {
    /// Posts until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let item = tokio::select! {
                () = shutdown.cancelled() => return,
                item = self.queue.recv() => item,
            };
            let Some(item) = item else { return };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.deliver(item) => {}
            }
        }
    }

    /// Posts an event. One that the server refuses is given up; a server that cannot be reached is asked again.
    async fn deliver(&mut self, item: Item) {
        let post = self.correlator.correlate(&item.about, &item.event, item.at);
        for _ in 0..TRIES {
            match self.post(&item, &post).await {
                Ok(()) => return,
                Err(kube::Error::Api(refusal)) => {
                    tracing::debug!(%refusal, "an event is not taken");
                    return;
                }
                Err(error) => tracing::debug!(%error, "posting an event"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn post(&self, item: &Item, post: &Post) -> Result<(), kube::Error> {
        let namespace = item.about.namespace.as_deref().unwrap_or("default");
        let api: Api<Wire> = Api::namespaced(self.client.clone(), namespace);
        let new = match post {
            Post::Drop => return Ok(()),
            Post::Create { name, message } => self.wire(item, name, message, 1, item.at),
            Post::Count {
                name,
                message,
                count,
                first,
            } => {
                let patch = serde_json::json!({"count": count, "lastTimestamp": Time(whole(item.at)), "message": message});
                let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
                match api.patch(name, &params, &patch).await {
                    // It expired meanwhile.
                    Err(kube::Error::Api(e)) if e.code == 404 => {
                        self.wire(item, name, message, *count, *first)
                    }
                    other => return other.map(drop),
                }
            }
        };
        api.create(&PostParams::default(), &new).await.map(drop)
    }

    fn wire(&self, item: &Item, name: &str, message: &str, count: i32, first: Timestamp) -> Wire {
        let Item { about, event, at } = item;
        Wire {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: about.namespace.clone(),
                annotations: Some(event.annotations.clone()).filter(|a| !a.is_empty()),
                ..ObjectMeta::default()
            },
            involved_object: about.clone(),
            type_: Some(type_name(event.event_type).into()),
            reason: Some(event.reason.clone()),
            message: Some(message.to_owned()),
            count: Some(count),
            first_timestamp: Some(Time(whole(first))),
            last_timestamp: Some(Time(whole(*at))),
            source: Some(EventSource {
                component: Some(COMPONENT.into()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some(COMPONENT.into()),
            reporting_instance: Some(self.node.clone()),
            ..Wire::default()
        }
    }
}

fn type_name(event_type: EventType) -> &'static str {
    match event_type {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    }
}

/// Times of this form of event have whole seconds.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
