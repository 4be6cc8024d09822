//! Which events are posted, counted or dropped (spec `§14.3`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

use crate::{Type, Words};

/// Events an object may have at once; one more every [`REFILL_SECONDS`].
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// So many different messages of one reason within [`WINDOW_SECONDS`] of each other are combined from then on.
const SIMILAR: usize = 10;
const WINDOW_SECONDS: i64 = 600;
/// Keys remembered; what was not used for longest is forgotten first.
const REMEMBERED: usize = 4096;
const COMBINED: &str = "(combined from similar events): ";

/// What to do with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Post {
    /// Nothing: the object has too many.
    Drop,
    /// A new one.
    Create { name: String, message: String },
    /// One that is there happened again.
    Count {
        name: String,
        message: String,
        count: i32,
        first: Timestamp,
    },
}

/// Who tells, and the object's kind, namespace, name and UID.
type Object = [String; 5];

fn object(source: &str, about: &ObjectReference) -> Object {
    let fields = [&about.kind, &about.namespace, &about.name, &about.uid];
    let [kind, namespace, name, uid] = fields.map(|field| field.clone().unwrap_or_default());
    [source.to_owned(), kind, namespace, name, uid]
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    object: Object,
    field: Option<String>,
    type_: Type,
    reason: String,
    message: String,
}

#[derive(Default)]
struct Group {
    messages: BTreeSet<String>,
    last: Timestamp,
}

struct Posted {
    name: String,
    count: i32,
    first: Timestamp,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// Remembers what was posted.
#[derive(Default)]
pub(crate) struct Correlator {
    posted: Bounded<Same, Posted>,
    groups: Bounded<(Object, Type, String), Group>,
    buckets: Bounded<(Object, Type), Bucket>,
    /// The time in the last name: names differ even if the clock stands still.
    named: i128,
}

impl Correlator {
    /// Decides about an event that `source` tells of, which happened at `at`.
    pub(crate) fn correlate(
        &mut self,
        source: &str,
        about: &ObjectReference,
        event: &Words,
        at: Timestamp,
    ) -> Post {
        let object = object(source, about);
        let type_ = event.type_;
        if !self.take_token(&object, type_, at) {
            return Post::Drop;
        }
        let combined = self.is_one_of_many(&object, event, at);
        let message = if combined {
            format!("{COMBINED}{}", event.message)
        } else {
            event.message.clone()
        };
        let same = Same {
            object,
            field: about.field_path.clone(),
            type_,
            reason: event.reason.to_string(),
            message: if combined {
                COMBINED.to_owned()
            } else {
                event.message.clone()
            },
        };
        self.named = at.as_nanosecond().max(self.named.saturating_add(1));
        let name = format!(
            "{}.{:016x}",
            about.name.as_deref().unwrap_or_default(),
            self.named
        );
        let mut fresh = false;
        let posted = self.posted.entry(same, || {
            fresh = true;
            Posted {
                name,
                count: 0,
                first: at,
            }
        });
        posted.count = posted.count.saturating_add(1);
        match fresh {
            true => Post::Create {
                name: posted.name.clone(),
                message,
            },
            false => Post::Count {
                name: posted.name.clone(),
                message,
                count: posted.count,
                first: posted.first,
            },
        }
    }

    fn take_token(&mut self, object: &Object, type_: Type, at: Timestamp) -> bool {
        let bucket = self
            .buckets
            .entry((object.clone(), type_), || Bucket { tokens: BURST, at });
        let passed = at.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed / REFILL_SECONDS).min(BURST);
        bucket.at = at;
        let has = bucket.tokens >= 1.0;
        if has {
            bucket.tokens -= 1.0;
        }
        has
    }

    fn is_one_of_many(&mut self, object: &Object, event: &Words, at: Timestamp) -> bool {
        let group = self.groups.entry(
            (object.clone(), event.type_, event.reason.to_string()),
            Group::default,
        );
        if at.duration_since(group.last).as_secs() > WINDOW_SECONDS {
            group.messages.clear();
        }
        group.last = at;
        group.messages.insert(event.message.clone());
        if group.messages.len() < SIMILAR {
            return false;
        }
        group.messages.pop_first();
        true
    }
}

/// A map that forgets the keys that were not used for longest.
struct Bounded<K, V> {
    map: HashMap<K, Used<V>>,
    /// Keys by when they were used.
    order: BTreeMap<u64, K>,
    uses: u64,
}

struct Used<V> {
    at: u64,
    value: V,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Bounded {
            map: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Bounded<K, V> {
    fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        let at = self.uses;
        if let Some(used) = self.map.get(&key) {
            self.order.remove(&used.at);
        } else if self.order.len() >= REMEMBERED
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.map.remove(&oldest);
        }
        self.order.insert(at, key.clone());
        let value = || Used { at, value: make() };
        let used = self.map.entry(key).or_insert_with(value);
        used.at = at;
        &mut used.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            name: Some(name.into()),
            ..ObjectReference::default()
        }
    }

    fn event(message: &str) -> Words {
        Words::warning("BackOff", message)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn the_same_event_is_counted() {
        let mut correlator = Correlator::default();
        let Post::Create { name, .. } =
            correlator.correlate("kubelet", &about("p"), &event("m"), at(0))
        else {
            panic!("not created")
        };
        assert_eq!(name, format!("p.{:016x}", at(0).as_nanosecond()));
        let again = correlator.correlate("kubelet", &about("p"), &event("m"), at(5));
        assert_eq!(
            again,
            Post::Count {
                name,
                message: "m".into(),
                count: 2,
                first: at(0)
            }
        );
        assert!(matches!(
            correlator.correlate("kubelet", &about("q"), &event("m"), at(5)),
            Post::Create { .. }
        ));
    }

    #[test]
    fn each_tells_for_itself() {
        let mut correlator = Correlator::default();
        let pod = ObjectReference {
            kind: Some("Pod".into()),
            ..about("p")
        };
        for (source, about) in [("a", &about("p")), ("a", &pod), ("b", &pod)] {
            let post = correlator.correlate(source, about, &event("m"), at(0));
            assert!(matches!(post, Post::Create { .. }), "{source}");
        }
    }

    #[test]
    fn many_different_messages_are_combined() {
        let mut correlator = Correlator::default();
        for n in 0..9 {
            assert!(
                matches!(correlator.correlate("kubelet", &about("p"), &event(&n.to_string()), at(n)), Post::Create { message, .. } if message == n.to_string())
            );
        }
        let Post::Create { name, message } =
            correlator.correlate("kubelet", &about("p"), &event("x"), at(9))
        else {
            panic!("not created")
        };
        assert_eq!(message, format!("{COMBINED}x"));
        let next = correlator.correlate("kubelet", &about("p"), &event("y"), at(10));
        assert_eq!(
            next,
            Post::Count {
                name,
                message: format!("{COMBINED}y"),
                count: 2,
                first: at(9)
            }
        );
    }

    #[test]
    fn a_flood_is_dropped_until_tokens_come_back() {
        let mut correlator = Correlator::default();
        for _ in 0..25 {
            assert_ne!(
                correlator.correlate("kubelet", &about("p"), &event("m"), at(0)),
                Post::Drop
            );
        }
        assert_eq!(
            correlator.correlate("kubelet", &about("p"), &event("m"), at(0)),
            Post::Drop
        );
        assert_eq!(
            correlator.correlate("kubelet", &about("p"), &event("m"), at(299)),
            Post::Drop
        );
        assert_ne!(
            correlator.correlate("kubelet", &about("p"), &event("m"), at(300)),
            Post::Drop
        );
    }

    #[test]
    fn what_goes_on_is_not_forgotten() {
        let mut correlator = Correlator::default();
        let count = |post| match post {
            Post::Count { count, .. } => count,
            _ => 1,
        };
        correlator.correlate("kubelet", &about("old"), &event("m"), at(0));
        for n in 0..REMEMBERED {
            correlator.correlate("kubelet", &about(&n.to_string()), &event("m"), at(1));
            if n % 1000 == 0 {
                correlator.correlate("kubelet", &about("old"), &event("m"), at(1));
            }
        }
        let again = correlator.correlate("kubelet", &about("old"), &event("m"), at(2));
        assert_eq!(count(again), 7);
        let forgotten = correlator.correlate("kubelet", &about("0"), &event("m"), at(2));
        assert!(matches!(forgotten, Post::Create { .. }));
    }
}
