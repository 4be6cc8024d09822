//! Events on objects: posted in order by one task, so that nobody who tells something ever waits for it (spec pod-lifecycle `§14`).
//!
//! They are handed to a bounded queue; when it is full, they are dropped, as upstream drops them. What is posted is decided by
//! [`correlate`], which is pure: what happens again is counted, what is much alike is combined, and no object has too many. The newer
//! form of Events is [`series`]' business.

mod correlate;
pub mod series;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use correlate::{Correlator, Post};

/// Most Events that wait to be posted.
const QUEUE: usize = 1000;
/// How much later than it was told an Event is posted: what it tells of, such as the start of a Pod, goes first.
const LATER: Duration = Duration::from_millis(30);
/// How often an Event is posted to a server that does not answer, and how long after each time.
const TRIES: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// It is.
    Normal,
    /// It has to be looked at.
    Warning,
}

impl Type {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Type::Normal => "Normal",
            Type::Warning => "Warning",
        }
    }
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Whether it is as it should be.
    pub type_: Type,
    /// One word, such as `BackOff`.
    pub reason: Cow<'static, str>,
    /// A sentence.
    pub message: String,
    /// The Event's annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Words {
    /// Of something that is as it should be.
    pub fn normal(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Words {
            type_: Type::Normal,
            reason: reason.into(),
            message: message.into(),
            annotations: BTreeMap::new(),
        }
    }

    /// Of something that has to be looked at.
    pub fn warning(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Words {
            type_: Type::Warning,
            ..Words::normal(reason, message)
        }
    }
}

/// What is told, until it is posted: in order, and none before its time.
struct Queue<T> {
    told: mpsc::Receiver<(Instant, T)>,
    /// The next, whose time has not come.
    next: Option<(Instant, T)>,
}

/// Where it is told.
struct Teller<T>(mpsc::Sender<(Instant, T)>);

impl<T> Clone for Teller<T> {
    fn clone(&self) -> Self {
        Teller(self.0.clone())
    }
}

impl<T> Teller<T> {
    fn tell(&self, item: T) {
        if self.0.try_send((Instant::now() + LATER, item)).is_err() {
            tracing::debug!("an event was dropped: too many wait");
        }
    }
}

impl<T> Queue<T> {
    fn new() -> (Teller<T>, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (told, next) = (receiver, None);
        (Teller(sender), Queue { told, next })
    }

    /// The next that is to be posted, when it is time. Nothing is lost if nobody waits so long.
    async fn next(&mut self) -> Option<T> {
        if self.next.is_none() {
            self.next = self.told.recv().await;
        }
        let (due, _) = self.next.as_ref()?;
        tokio::time::sleep_until(*due).await;
        self.next.take().map(|(_, item)| item)
    }
}

/// An Event on its way.
struct Item {
    source: Arc<EventSource>,
    about: ObjectReference,
    words: Words,
    at: Timestamp,
}

/// What tells the time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Takes what one component tells; cheap to clone, never waits.
#[derive(Clone)]
pub struct Recorder {
    queue: Teller<Item>,
    now: Now,
    source: Arc<EventSource>,
}

impl Recorder {
    /// The same way to the API for another component.
    pub fn of(&self, component: &str) -> Recorder {
        let source = EventSource {
            component: Some(component.to_owned()),
            host: self.source.host.clone(),
        };
        Recorder {
            source: Arc::new(source),
            ..self.clone()
        }
    }

    /// Tells something of an object.
    pub fn record(&self, about: ObjectReference, words: Words) {
        let item = Item {
            source: self.source.clone(),
            about,
            words,
            at: (self.now)(),
        };
        self.queue.tell(item);
    }
}

/// Posts what recorders take.
pub struct Poster {
    client: Client,
    queue: Queue<Item>,
    correlator: Correlator,
}

/// A recorder for a component, on this host if it has one, and the task behind it.
pub fn new(client: Client, now: Now, component: &str, host: Option<String>) -> (Recorder, Poster) {
    let (teller, queue) = Queue::new();
    let source = EventSource {
        component: Some(component.to_owned()),
        host,
    };
    let recorder = Recorder {
        queue: teller,
        now,
        source: Arc::new(source),
    };
    let poster = Poster {
        client,
        queue,
        correlator: Correlator::default(),
    };
    (recorder, poster)
}

impl Poster {
    /// Posts until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let item = tokio::select! {
                () = shutdown.cancelled() => return,
                item = self.queue.next() => item,
            };
            let Some(item) = item else { return };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.deliver(item) => {}
            }
        }
    }

    /// Posts an Event. One that the server refuses is given up; a server that cannot be reached is asked again.
    async fn deliver(&mut self, item: Item) {
        let source = item.source.component.as_deref().unwrap_or_default();
        let post = self
            .correlator
            .correlate(source, &item.about, &item.words, item.at);
        insist(|| self.post(&item, &post)).await;
    }

    async fn post(&self, item: &Item, post: &Post) -> Result<(), kube::Error> {
        // What is in no namespace is told of in this one.
        let namespace = item.about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let new = match post {
            Post::Drop => return Ok(()),
            Post::Create { name, message } => wire(item, name, message, 1, item.at),
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
                        wire(item, name, message, *count, *first)
                    }
                    other => return other.map(drop),
                }
            }
        };
        api.create(&PostParams::default(), &new).await.map(drop)
    }
}

/// Posts until the server has answered, or for too long.
async fn insist<F: Future<Output = Result<(), kube::Error>>>(post: impl Fn() -> F) {
    for attempt in 1..=TRIES {
        match post().await {
            Ok(()) => return,
            Err(kube::Error::Api(refusal)) => {
                tracing::debug!(%refusal, "an event is not taken");
                return;
            }
            Err(error) => tracing::debug!(%error, "posting an event"),
        }
        if attempt < TRIES {
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn wire(item: &Item, name: &str, message: &str, count: i32, first: Timestamp) -> Event {
    let Item {
        source,
        about,
        words,
        at,
    } = item;
    let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace),
            annotations: Some(words.annotations.clone()).filter(|a| !a.is_empty()),
            ..ObjectMeta::default()
        },
        involved_object: about.clone(),
        type_: Some(words.type_.name().into()),
        reason: Some(words.reason.to_string()),
        message: Some(message.to_owned()),
        count: Some(count),
        first_timestamp: Some(Time(whole(first))),
        last_timestamp: Some(Time(whole(*at))),
        source: Some(EventSource::clone(source)),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        ..Event::default()
    }
}

/// Times of this form of Event have whole seconds.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
