//! Events expire after an hour. One task; it sleeps until the next one is due and is told of new ones by a watch.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use ports::store::{Entry, Expect, Revision, StoreError, Watch, WatchItem, WatchKind};
use serde_json::Value;
use tokio::time::Instant;

use crate::rest;
use crate::server::Inner;

const LIFETIME: Duration = Duration::from_secs(3600);
const PREFIX: &str = "/registry/events/";

/// Events in the order in which they end, by key and the change they had then.
type Due = VecDeque<(Instant, String, Revision)>;

pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        let (revision, entries) = inner.store.range(PREFIX, None, 0);
        let due = known(&inner, entries);
        let Ok(changes) = inner.store.watch(PREFIX, revision) else {
            return;
        };
        if follow(&inner, due, changes).await.is_none() {
            return;
        }
        // The watch was too slow for the kept history: begin anew.
    }
}

/// What is there already ends an hour after it was last written.
fn known(inner: &Inner, entries: Vec<Entry>) -> Due {
    let now = inner.clock.now();
    let age = |entry: &Entry| {
        let object: Value = serde_json::from_slice(&entry.value).ok()?;
        let last = ["lastTimestamp", "eventTime"]
            .iter()
            .find_map(|f| object[*f].as_str());
        let at: jiff::Timestamp = last
            .or(object["metadata"]["creationTimestamp"].as_str())?
            .parse()
            .ok()?;
        Duration::try_from(now.duration_since(at)).ok()
    };
    let mut due: Vec<_> = entries
        .into_iter()
        .map(|e| {
            (
                Instant::now() + LIFETIME.saturating_sub(age(&e).unwrap_or_default()),
                e.key.clone(),
                e.mod_revision,
            )
        })
        .collect();
    due.sort();
    due.into()
}

/// `None` when the server stops.
async fn follow(inner: &Inner, mut due: Due, mut changes: Watch) -> Option<()> {
    loop {
        let next = due.front().map(|(at, ..)| *at);
        let next = async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = inner.shutdown.cancelled() => return None,
            item = changes.recv() => match item {
                Some(WatchItem::Event(event)) if event.kind != WatchKind::Deleted => {
                    due.push_back((Instant::now() + LIFETIME, event.entry.key.clone(), event.entry.mod_revision));
                }
                Some(_) => {}
                None => return Some(()),
            },
            () = next => {
                if let Some((_, key, revision)) = due.pop_front() {
                    expire(inner, &key, revision).await?;
                }
            }
        }
    }
}

/// Removes an Event unless it was written again. `None` when the store is closed.
async fn expire(inner: &Inner, key: &str, revision: Revision) -> Option<()> {
    let Some(entry) = inner.store.get(key).filter(|e| e.mod_revision == revision) else {
        return Some(());
    };
    let Ok(object) = serde_json::from_slice(&entry.value) else {
        return Some(());
    };
    match rest::remove(inner, key, Expect::ModRevision(revision), object).await {
        Err(StoreError::Closed) => None,
        Err(StoreError::Storage(error)) => {
            tracing::warn!(error, key, "an expired event could not be removed");
            Some(())
        }
        _ => Some(()),
    }
}
