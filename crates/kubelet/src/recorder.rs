//! Events on Pods and their node: posted in order by one task, so that no worker ever waits for them (spec `§14`).
//!
//! Workers hand events to a bounded queue and go on; when it is full, events are dropped, as upstream drops them. What is posted
//! is decided by [`correlate`], which is pure.

mod correlate;

use std::sync::Arc;

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
            if let Err(error) = self.post(item).await {
                tracing::debug!(%error, "posting an event");
            }
        }
    }

    async fn post(&mut self, item: Item) -> Result<(), kube::Error> {
        let namespace = item
            .about
            .namespace
            .clone()
            .unwrap_or_else(|| "default".into());
        let api: Api<Wire> = Api::namespaced(self.client.clone(), &namespace);
        let post = self.correlator.correlate(&item.about, &item.event, item.at);
        match post {
            Post::Drop => Ok(()),
            Post::Create { name, message } => self.create(&api, item, name, message, 1, None).await,
            Post::Count {
                name,
                message,
                count,
                first,
            } => {
                let patch = serde_json::json!({"count": count, "lastTimestamp": Time(whole(item.at)), "message": message});
                match api
                    .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
                {
                    // It expired meanwhile.
                    Err(kube::Error::Api(e)) if e.code == 404 => {
                        self.create(&api, item, name, message, count, Some(first))
                            .await
                    }
                    other => other.map(drop),
                }
            }
        }
    }

    async fn create(
        &self,
        api: &Api<Wire>,
        item: Item,
        name: String,
        message: String,
        count: i32,
        first: Option<Timestamp>,
    ) -> Result<(), kube::Error> {
        let event = Wire {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: item.about.namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: item.about,
            type_: Some(type_name(item.event.event_type).into()),
            reason: Some(item.event.reason),
            message: Some(message),
            count: Some(count),
            first_timestamp: Some(Time(whole(first.unwrap_or(item.at)))),
            last_timestamp: Some(Time(whole(item.at))),
            source: Some(EventSource {
                component: Some(COMPONENT.into()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some(COMPONENT.into()),
            reporting_instance: Some(self.node.clone()),
            ..Wire::default()
        };
        api.create(&PostParams::default(), &event).await.map(drop)
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
