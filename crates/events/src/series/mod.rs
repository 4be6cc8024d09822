//! Events in their newer form, as upstream's scheduler has them (spec pod-lifecycle `§14.1`): what happens again is one Event with a
//! `series`. It is the same when type, reason, action and the object in its version are; the words of the first time stay.

mod book;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSeries, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::book::{Book, Seen};
use crate::{Now, Queue, Teller, Words, insist};

/// Most bytes of an Event's words, and what longer ones end with.
const LONGEST: usize = 1024;
const CUT: &str = " ...";

/// What has happened.
struct Item {
    about: ObjectReference,
    words: Words,
    action: &'static str,
    at: Timestamp,
}

/// Takes what one controller tells; cheap to clone, never waits.
#[derive(Clone)]
pub struct SeriesRecorder {
    queue: Teller<Item>,
    now: Now,
}

impl SeriesRecorder {
    /// Tells something of an object, and what was done or tried (`Binding`).
    pub fn record(&self, about: ObjectReference, words: Words, action: &'static str) {
        let item = Item {
            about,
            words,
            action,
            at: (self.now)(),
        };
        self.queue.tell(item);
    }
}

/// Kind, namespace, name, UID and version of the object, type, reason and action.
type Key = [String; 8];

/// Posts what recorders take.
pub struct SeriesPoster {
    client: Client,
    now: Now,
    controller: String,
    instance: String,
    queue: Queue<Item>,
    book: Book<Key, Event>,
    /// The time in the last name: names differ even if the clock stands still.
    named: i128,
}

/// A recorder for a controller, by its name and its own among others of that name, and the task behind it.
pub fn new(
    client: Client,
    now: Now,
    controller: &str,
    instance: &str,
) -> (SeriesRecorder, SeriesPoster) {
    let (teller, queue) = Queue::new();
    let recorder = SeriesRecorder {
        queue: teller,
        now: now.clone(),
    };
    let poster = SeriesPoster {
        client,
        now,
        controller: controller.to_owned(),
        instance: instance.to_owned(),
        queue,
        book: Book::default(),
        named: 0,
    };
    (recorder, poster)
}

impl SeriesPoster {
    /// Posts until `shutdown`. Counts that were not written then are lost, as upstream's are.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.post_all() => {}
        }
    }

    async fn post_all(&mut self) {
        loop {
            let left = self.book.next().map(|due| due.duration_since((self.now)()));
            let left = left.map(|left| left.try_into().unwrap_or_default());
            tokio::select! {
                item = self.queue.next() => match item {
                    Some(item) => self.take(item).await,
                    None => return,
                },
                () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {
                    for (event, seen) in self.book.due((self.now)()) {
                        self.write(&event, seen).await;
                    }
                }
            }
        }
    }

    async fn take(&mut self, item: Item) {
        let key = key(&item);
        self.named = item.at.as_nanosecond().max(self.named.saturating_add(1));
        let (named, at) = (self.named, item.at);
        let event = || wire(item, named, &self.controller, &self.instance);
        if let Some((event, seen)) = self.book.see(key, event, at) {
            self.write(&event, seen).await;
        }
    }

    async fn write(&self, event: &Event, seen: Seen) {
        insist(|| write(&self.client, event, seen)).await;
    }
}

async fn write(client: &Client, event: &Event, seen: Seen) -> Result<(), kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    if seen.count == 1 {
        return api.create(&PostParams::default(), event).await.map(drop);
    }
    let series = EventSeries {
        count: Some(seen.count),
        last_observed_time: Some(MicroTime(seen.last)),
    };
    let name = event.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({ "series": series });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    match api.patch(name, &params, &patch).await {
        // It expired meanwhile.
        Err(kube::Error::Api(e)) if e.code == 404 => {
            let mut whole = event.clone();
            whole.series = Some(series);
            api.create(&PostParams::default(), &whole).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn key(item: &Item) -> Key {
    let ObjectReference {
        kind,
        namespace,
        name,
        uid,
        resource_version,
        ..
    } = &item.about;
    let [kind, namespace, name, uid, version] =
        [kind, namespace, name, uid, resource_version].map(|f| f.clone().unwrap_or_default());
    let (type_, reason) = (item.words.type_.name(), &*item.words.reason);
    let [type_, reason, action] = [type_, reason, item.action].map(str::to_owned);
    [kind, namespace, name, uid, version, type_, reason, action]
}

fn wire(item: Item, named: i128, controller: &str, instance: &str) -> Event {
    let Item {
        about,
        words,
        action,
        at,
    } = item;
    let object = about.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{named:016x}")),
            namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".into())),
            ..ObjectMeta::default()
        },
        involved_object: about,
        type_: Some(words.type_.name().into()),
        reason: Some(words.reason.into_owned()),
        action: Some(action.into()),
        message: Some(cut(words.message)),
        event_time: Some(MicroTime(at)),
        reporting_component: Some(controller.into()),
        reporting_instance: Some(instance.into()),
        source: Some(EventSource::default()),
        ..Event::default()
    }
}

/// Words that are not longer than they may be.
fn cut(mut words: String) -> String {
    if words.len() > LONGEST {
        let end = words.floor_char_boundary(LONGEST - CUT.len());
        words.truncate(end);
        words.push_str(CUT);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut() {
        let longest = "x".repeat(LONGEST);
        assert_eq!(cut(longest.clone()), longest);
        let long = cut(format!("{longest}y"));
        assert_eq!(long.len(), LONGEST);
        assert!(long.ends_with("x ..."), "{long}");
        assert_eq!(cut("é".repeat(LONGEST)).len(), LONGEST);
    }

    #[test]
    fn another_version_of_the_object_is_another_event() {
        let item = |version: &str, note: &str| Item {
            about: ObjectReference {
                name: Some("p".into()),
                resource_version: Some(version.into()),
                ..ObjectReference::default()
            },
            words: Words::warning("FailedScheduling", note),
            action: "Scheduling",
            at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(key(&item("1", "a")), key(&item("1", "b")));
        assert_ne!(key(&item("1", "a")), key(&item("2", "a")));
    }
}
