//! Events as upstream's controllers write them: each is its own object, told once.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use ports::clock::Clock;

/// What is told.
pub(crate) struct Words {
    /// `Normal` or `Warning`.
    pub(crate) type_: &'static str,
    /// One word.
    pub(crate) reason: Cow<'static, str>,
    /// A sentence.
    pub(crate) message: String,
}

/// Who tells.
pub(crate) struct Teller {
    client: Client,
    clock: Arc<dyn Clock>,
    /// As upstream names it.
    component: &'static str,
}

impl Teller {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>, component: &'static str) -> Self {
        Teller {
            client,
            clock,
            component,
        }
    }

    /// Tells something of an object. Nothing depends on it: what cannot be told is logged.
    pub(crate) async fn tell(&self, about: ObjectReference, words: Words) {
        // What is in no namespace is told of in this one.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let name = about.name.clone().unwrap_or_default();
        let now = self.clock.now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:016x}", now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(words.type_.into()),
            reason: Some(words.reason.to_string()),
            message: Some(words.message),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.component.into()),
                host: None,
            }),
            reporting_component: Some(self.component.into()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(%error, reason = %words.reason, name, "telling of an object");
        }
    }
}
