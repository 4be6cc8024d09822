//! How services follow what the API holds: a [`Watch`] of a kind, and a [`Mirror`] of what it has told.
//!
//! A watch never ends. It lists what there is and goes on from there; when it breaks it says so and begins anew, later each time. It
//! leaves to its reader what becomes of the events, and starts no task.

mod mirror;
mod unread;

use std::fmt::Debug;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceSpec, ServiceStatus};
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use unread::Unread;

pub use mirror::{Heard, Key, Mirror, key_of, revision_of};

/// What happens to the objects of a kind, in order.
pub type Watch<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Watches the objects of `api` that `config` selects. They come without `managedFields`, the longest part of many: nobody here reads them,
/// and what is written without them keeps those it has.
pub fn watch<K>(api: Api<K>, config: Config) -> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    if K::metadata_api() {
        return watch_unread(unread::of::<K, true>(api), config);
    }
    watch_unread(unread::of::<K, false>(api), config)
}

fn watch_unread<K, const METADATA: bool>(api: Api<Unread<METADATA>>, config: Config) -> Watch<K>
where
    K: DeserializeOwned + Send + 'static,
{
    let events = watcher(api, config).default_backoff();
    events.map(unread::read).boxed()
}

/// Watches every object of a kind.
pub fn watch_all<K>(client: &Client) -> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watch(Api::all(client.clone()), Config::default())
}

/// What is followed only while it is needed: a [`Watch`], or several of them as one.
pub struct Wanted<E>(Option<BoxStream<'static, E>>);

impl<E> Default for Wanted<E> {
    fn default() -> Self {
        Wanted(None)
    }
}

impl<E> Wanted<E> {
    /// Follows this from now on, instead of what it has followed.
    pub fn follow(&mut self, stream: BoxStream<'static, E>) {
        self.0 = Some(stream);
    }

    /// Begins to follow it, or stops; whether it stopped, so that what was heard is to be forgotten.
    pub fn follow_if(
        &mut self,
        is_needed: bool,
        open: impl FnOnce() -> BoxStream<'static, E>,
    ) -> bool {
        match (is_needed, &self.0) {
            (true, None) => self.follow(open()),
            (false, Some(_)) => {
                self.0 = None;
                return true;
            }
            _ => {}
        }
        false
    }

    /// The next there is to hear; while nothing is followed none ever.
    pub async fn next(&mut self) -> Option<E> {
        match &mut self.0 {
            Some(stream) => stream.next().await,
            None => std::future::pending().await,
        }
    }
}

/// A Service with no more of its status than what balancers say. Users may write there what cannot be read, conditions without a time,
/// and such a Service would be served by nobody.
pub type FoundService = Object<ServiceSpec, Balanced>;

/// What balancers say of a Service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Balanced {
    /// Where they take its traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerStatus>,
}

/// Watches every Service.
pub fn watch_services(client: &Client) -> Watch<FoundService> {
    let kind = ApiResource::erase::<Service>(&());
    watch(Api::all_with(client.clone(), &kind), Config::default())
}

/// A Service without conditions.
pub fn service_of(found: FoundService) -> Service {
    Service {
        metadata: found.metadata,
        spec: Some(found.spec),
        status: found.status.map(|status| ServiceStatus {
            load_balancer: status.load_balancer,
            conditions: None,
        }),
    }
}

/// Passes on what an event says of objects of a kind: each as it is now, or that it is gone.
pub fn hear_each<K: Resource>(
    kind: &str,
    known: &mut Mirror<()>,
    event: Result<Event<K>, watcher::Error>,
    mut tell: impl FnMut(Key, Option<K>),
) {
    let event = match event {
        Ok(event) => event,
        Err(error) => return tracing::warn!(%error, "watching {kind}"),
    };
    match known.hear(event, |object| tell(key_of(&object), Some(object))) {
        Heard::One {
            key,
            is_there: false,
            ..
        } => tell(key, None),
        Heard::All { vanished } => vanished.into_iter().for_each(|key| tell(key, None)),
        _ => {}
    }
}
