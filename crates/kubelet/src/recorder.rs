//! Events on Pods and their node (spec `§14`).

use std::sync::Arc;

use events::{Poster, Type, Words};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Client;
use lifecycle::{Event, EventType};
use ports::clock::Clock;

const COMPONENT: &str = "kubelet";

/// Takes events; cheap to clone, never waits.
#[derive(Clone)]
pub(crate) struct Recorder(events::Recorder);

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
        self.0.record(about, words(event));
    }

    /// Reports an event on the node, which goes by its name for a UID, as upstream has it.
    pub(crate) fn record_node(&self, name: &str, event: Event) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.0.record(about, words(event));
    }
}

fn words(event: Event) -> Words {
    let type_ = match event.event_type {
        EventType::Normal => Type::Normal,
        EventType::Warning => Type::Warning,
    };
    Words {
        type_,
        reason: event.reason.into(),
        message: event.message,
        annotations: event.annotations,
    }
}

/// A recorder and the task behind it.
pub(crate) fn new(client: Client, node: String, clock: Arc<dyn Clock>) -> (Recorder, Poster) {
    let now = Arc::new(move || clock.now());
    let (recorder, poster) = events::new(client, now, COMPONENT, Some(node));
    (Recorder(recorder), poster)
}
