//! The store against a plain map with revisions: results, reads and every watcher's view agree, also over restarts.

use std::collections::BTreeMap;

use bytes::Bytes;
use ports::store::{
    Change, Durability, Expect, Revision, RevisionedStore, StoreError, Unchanged, WatchItem,
    WatchKind, Write,
};
use proptest::prelude::*;
use store::{Limits, Store};

#[derive(Debug, Clone)]
enum Op {
    /// Key, whether the expectation is right, size of the value.
    Put(u8, bool, u16),
    Delete(u8, bool),
    Watch {
        prefix: bool,
        back: u8,
    },
    Compact(u8),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..6u8, prop::bool::weighted(0.9), 0..3000u16).prop_map(|(k, right, n)| Op::Put(k, right, n)),
        3 => (0..6u8, prop::bool::weighted(0.9)).prop_map(|(k, right)| Op::Delete(k, right)),
        2 => (any::<bool>(), 0..12u8).prop_map(|(prefix, back)| Op::Watch { prefix, back }),
        1 => (0..6u8).prop_map(Op::Compact),
        1 => Just(Op::Reopen),
    ]
}

/// One change as it happened.
#[derive(Debug, Clone, PartialEq)]
struct Happened {
    revision: Revision,
    key: String,
    kind: WatchKind,
    value: Bytes,
    previous: Option<Bytes>,
}

#[derive(Default)]
struct Model {
    objects: BTreeMap<String, (Bytes, Revision)>,
    log: Vec<Happened>,
}

fn key(n: u8) -> String {
    format!("/{}/{n}", if n.is_multiple_of(2) { "even" } else { "odd" })
}

fn encode(text: String) -> Box<dyn FnOnce(Revision) -> Bytes + Send> {
    Box::new(move |revision| Bytes::from(format!("{revision}:{text}")))
}

impl Model {
    async fn commit(&mut self, store: &Store, n: u8, right: bool, size: Option<u16>) {
        let key = key(n);
        let current = self.objects.get(&key).cloned();
        let expect = match (&current, right) {
            (None, true) if size.is_some() => Expect::Absent,
            (Some((_, revision)), true) => Expect::ModRevision(*revision),
            (Some(_), false) => Expect::Absent,
            (None, _) => Expect::ModRevision(1),
        };
        let text = "x".repeat(size.unwrap_or(3).into());
        let change = if size.is_some() {
            Change::Put(encode(text))
        } else {
            Change::Delete(encode(text))
        };
        let durability = if n == 5 {
            Durability::Relaxed
        } else {
            Durability::Synced
        };
        let holds = right && (size.is_some() || current.is_some());
        match store.commit(&key, expect, change, durability).await {
            Ok(entry) => {
                assert!(holds, "{key} {expect:?}");
                assert!(entry.mod_revision > self.log.last().map_or(0, |h| h.revision));
                let kind = match (size, &current) {
                    (None, _) => WatchKind::Deleted,
                    (Some(_), None) => WatchKind::Created,
                    (Some(_), Some(_)) => WatchKind::Modified,
                };
                let previous = current.map(|(value, _)| value);
                self.log.push(Happened {
                    revision: entry.mod_revision,
                    key: key.clone(),
                    kind,
                    value: entry.value.clone(),
                    previous,
                });
                match kind {
                    WatchKind::Deleted => self.objects.remove(&key),
                    _ => self.objects.insert(key, (entry.value, entry.mod_revision)),
                };
            }
            Err(StoreError::Conflict { current: found }) => {
                assert!(!holds);
                assert_eq!(
                    found.map(|e| e.mod_revision),
                    current.map(|(_, revision)| revision)
                );
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn check(&self, store: &Store) {
        let (revision, all) = store.range("/", None, 0);
        assert!(revision >= self.log.last().map_or(0, |h| h.revision));
        let found: Vec<_> = all
            .iter()
            .map(|e| (e.key.clone(), (e.value.clone(), e.mod_revision)))
            .collect();
        assert_eq!(found, self.objects.clone().into_iter().collect::<Vec<_>>());
        let (_, odd) = store.range("/odd/", Some("/odd/1"), 1);
        let expected = self.objects.keys().find(|k| k.as_str() > "/odd/1");
        assert_eq!(odd.first().map(|e| &e.key), expected);
    }

    /// What a watcher of `prefix` must have been told since `from`.
    fn since(&self, prefix: &str, from: Revision) -> Vec<Happened> {
        self.log
            .iter()
            .filter(|h| h.revision > from && h.key.starts_with(prefix))
            .cloned()
            .collect()
    }
}

struct Watching {
    prefix: &'static str,
    from: Revision,
    watch: ports::store::Watch,
    until: Option<Revision>,
}

impl Watching {
    fn check(mut self, model: &Model) {
        let mut seen = Vec::new();
        while let Ok(item) = self.watch.try_recv() {
            if let WatchItem::Event(event) = item {
                let entry = event.entry.clone();
                seen.push(Happened {
                    revision: entry.mod_revision,
                    key: entry.key,
                    kind: event.kind,
                    value: entry.value,
                    previous: event.previous.clone(),
                });
            }
        }
        let mut expected = model.since(self.prefix, self.from);
        expected.retain(|h| self.until.is_none_or(|until| h.revision <= until));
        assert_eq!(seen, expected);
    }
}

async fn run(ops: Vec<Op>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let limits = Limits {
        events: 40,
        bytes: 1 << 20,
    };
    let mut store = Store::open_with(&path, limits).unwrap();
    let mut model = Model::default();
    let mut watching: Vec<Watching> = Vec::new();
    for op in ops {
        match op {
            Op::Put(n, right, size) => model.commit(&store, n, right, Some(size)).await,
            Op::Delete(n, right) => model.commit(&store, n, right, None).await,
            Op::Watch { prefix, back } => {
                let prefix = if prefix { "/even/" } else { "/" };
                let at = model.log.len().saturating_sub(back.into());
                let from = if at == 0 {
                    0
                } else {
                    model.log[at - 1].revision
                };
                match store.watch(prefix, from) {
                    Ok(watch) => watching.push(Watching {
                        prefix,
                        from,
                        watch,
                        until: None,
                    }),
                    Err(StoreError::Compacted { asked, oldest }) => {
                        assert!(asked == from && oldest > from)
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Compact(back) => {
                let at = model.log.len().saturating_sub(back.into());
                if at > 0 {
                    let revision = model.log[at - 1].revision;
                    store.compact(revision).await.unwrap();
                    assert!(matches!(
                        store.watch("/", revision - 1),
                        Err(StoreError::Compacted { .. })
                    ));
                }
            }
            Op::Reopen => {
                store.close();
                let last = model.log.last().map_or(0, |h| h.revision);
                watching
                    .iter_mut()
                    .for_each(|w| w.until = Some(w.until.unwrap_or(last)));
                drop(store);
                store = Store::open_with(&path, limits).unwrap();
            }
        }
        model.check(&store);
    }
    watching.into_iter().for_each(|w| w.check(&model));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_the_model(ops in prop::collection::vec(op(), 1..70)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(run(ops));
    }
}

/// A watcher that reads nothing while thousands of changes go by sees them all afterwards, or the end of its channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_watchers_catch_up_or_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    for (kept, complete) in [(10_000, true), (500, false)] {
        let path = dir.path().join(kept.to_string());
        let store = Store::open_with(
            &path,
            Limits {
                events: kept,
                bytes: 64 << 20,
            },
        )
        .unwrap();
        let mut watch = store.watch("/", 0).unwrap();
        let mut last = None;
        for n in 0..3000u32 {
            let expect = last.map_or(Expect::Absent, Expect::ModRevision);
            let change = Change::Put(encode(n.to_string()));
            last = Some(
                store
                    .commit("/a/b", expect, change, Durability::Relaxed)
                    .await
                    .unwrap()
                    .mod_revision,
            );
        }
        let mut seen = Vec::new();
        while let Some(item) = watch.recv().await {
            if let WatchItem::Event(event) = item {
                seen.push(event.entry.mod_revision);
                if Some(event.entry.mod_revision) == last {
                    break;
                }
            }
        }
        assert!(seen.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(seen.len() == 3000, complete, "{}", seen.len());
    }
}

/// Who comes too late finds, when it looks again, what was in the way, also if both were in one batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_comes_when_what_is_in_the_way_can_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(Store::open(&dir.path().join("db")).unwrap());
    let tasks = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..100u32 {
                let seen = store.get("/k").map(|entry| entry.mod_revision);
                let expect = seen.map_or(Expect::Absent, Expect::ModRevision);
                let change = Change::Put(encode(n.to_string()));
                let answer = store
                    .commit("/k", expect, change, Durability::Relaxed)
                    .await;
                if let Err(StoreError::Conflict { current }) = answer {
                    let way = current.unwrap().mod_revision;
                    let found = store.get("/k").unwrap().mod_revision;
                    assert!(found >= way, "{way} is in the way, {found} is seen");
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Several changes are made together, one after the other, or none of them; and not when something they were decided on has changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_belong_together_are_made_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("db")).unwrap();
    let write = |key: &str, expect| Write {
        key: key.to_owned(),
        expect,
        change: Change::Put(encode("x".to_owned())),
    };
    let under = |prefix: &str, since| {
        let prefix = prefix.to_owned();
        Some(Unchanged { prefix, since })
    };
    let both = |expect| vec![write("/a/1", Expect::Absent), write("/b/1", expect)];
    let made = store
        .commit_all(both(Expect::Absent), under("/c/", 0), Durability::Synced)
        .await;
    let made = made.unwrap();
    let keys: Vec<&str> = made.iter().map(|entry| &*entry.key).collect();
    assert_eq!(keys, ["/a/1", "/b/1"]);
    let last = made[1].mod_revision;
    assert_eq!(made[0].mod_revision + 1, last);
    for (key, expect, unchanged) in [
        ("/a/2", Expect::Absent, None),
        ("/a/2", Expect::ModRevision(last), under("/b/", last - 1)),
        ("/a/1", Expect::ModRevision(last), under("/b/", last)),
    ] {
        let writes = vec![write(key, Expect::Absent), write("/b/1", expect)];
        let refused = store
            .commit_all(writes, unchanged, Durability::Synced)
            .await;
        assert!(
            matches!(refused, Err(StoreError::Conflict { current: Some(_) })),
            "{key}"
        );
        assert_eq!(store.revision(), last);
    }
    let writes = vec![
        write("/a/2", Expect::Absent),
        write("/b/1", Expect::ModRevision(last)),
    ];
    let made = store
        .commit_all(writes, under("/b/", last), Durability::Relaxed)
        .await;
    assert_eq!(made.unwrap().len(), 2);
}
