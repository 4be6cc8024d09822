//! Watchers: delivered to directly by the committer, or by a task of their own while they are behind.
//!
//! The committer never waits for a watcher. One whose channel is full becomes *behind*: a task feeds it from history at its own
//! pace and makes it live again once it has caught up. When history has gone on without it, its channel closes.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use ports::store::{Revision, StoreError, Watch, WatchEvent, WatchItem};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::memory::Memory;

/// Items a watcher may leave unread before it is behind.
const CHANNEL: usize = 1024;
/// A live watcher is told how far it is after this many revisions without anything of interest.
const PROGRESS: Revision = 100;
/// Events taken from history at once by a watcher that is behind.
const CHUNK: usize = 256;

struct Watcher {
    prefix: String,
    /// Everything up to here was put into the channel.
    position: Revision,
    /// `None` while a task feeds it.
    sender: Option<mpsc::Sender<WatchItem>>,
}

/// All watchers by number.
#[derive(Default)]
pub(crate) struct Watchers {
    next: u64,
    all: BTreeMap<u64, Watcher>,
    closed: bool,
}

impl Watchers {
    pub(crate) fn add<'a>(
        &mut self,
        prefix: &str,
        from: Revision,
        current: Revision,
        missed: impl Iterator<Item = &'a Arc<WatchEvent>>,
        shared: &Arc<RwLock<Memory>>,
    ) -> Result<Watch, StoreError> {
        if self.closed {
            return Err(StoreError::Closed);
        }
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let mut watcher = Watcher {
            prefix: prefix.to_owned(),
            position: from,
            sender: None,
        };
        let mut behind = false;
        for event in missed.filter(|e| e.entry.key.starts_with(prefix)) {
            if sender.try_send(WatchItem::Event(event.clone())).is_err() {
                behind = true;
                break;
            }
            watcher.position = event.entry.mod_revision;
        }
        let id = self.next;
        self.next += 1;
        if behind {
            let runtime = Handle::try_current().map_err(|e| StoreError::Storage(e.to_string()))?;
            runtime.spawn(catch_up(
                shared.clone(),
                id,
                watcher.prefix.clone(),
                watcher.position,
                sender,
            ));
        } else {
            watcher.position = current;
            watcher.sender = Some(sender);
        }
        self.all.insert(id, watcher);
        Ok(receiver)
    }

    pub(crate) fn publish(
        &mut self,
        events: &[Arc<WatchEvent>],
        current: Revision,
        shared: &Arc<RwLock<Memory>>,
        runtime: &Handle,
    ) {
        self.all.retain(|id, watcher| {
            let Some(sender) = watcher.sender.take() else {
                return true;
            };
            match watcher.deliver(&sender, events, current) {
                Ok(()) => watcher.sender = Some(sender),
                Err(Stopped::Gone) => return false,
                Err(Stopped::Full) => {
                    runtime.spawn(catch_up(
                        shared.clone(),
                        *id,
                        watcher.prefix.clone(),
                        watcher.position,
                        sender,
                    ));
                }
            }
            true
        });
    }

    /// Ends every watch; channels drain and close.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.all.clear();
    }

    fn resume(&mut self, id: u64, position: Revision, sender: mpsc::Sender<WatchItem>) {
        if let Some(watcher) = self.all.get_mut(&id) {
            watcher.position = position;
            watcher.sender = Some(sender);
        }
    }
}

enum Stopped {
    Full,
    Gone,
}

impl Watcher {
    fn deliver(
        &mut self,
        sender: &mpsc::Sender<WatchItem>,
        events: &[Arc<WatchEvent>],
        current: Revision,
    ) -> Result<(), Stopped> {
        let mut item = None;
        for event in events
            .iter()
            .filter(|e| e.entry.key.starts_with(&self.prefix))
        {
            item = Some(event.entry.mod_revision);
            send(sender, WatchItem::Event(event.clone()))?;
            self.position = event.entry.mod_revision;
        }
        if item.is_none() && current >= self.position + PROGRESS {
            send(sender, WatchItem::Progress(current))?;
            self.position = current;
        }
        Ok(())
    }
}

fn send(sender: &mpsc::Sender<WatchItem>, item: WatchItem) -> Result<(), Stopped> {
    sender.try_send(item).map_err(|e| match e {
        TrySendError::Full(_) => Stopped::Full,
        TrySendError::Closed(_) => Stopped::Gone,
    })
}

/// Feeds a watcher that is behind from history until it is level with the committer.
async fn catch_up(
    memory: Arc<RwLock<Memory>>,
    id: u64,
    prefix: String,
    mut position: Revision,
    sender: mpsc::Sender<WatchItem>,
) {
    loop {
        let Some((chunk, upto)) = next_chunk(&memory, &prefix, position) else {
            break;
        };
        if chunk.is_empty() {
            let mut state = memory.write().unwrap_or_else(|e| e.into_inner());
            if state.revision() == upto {
                state.watchers.resume(id, upto, sender);
                return;
            }
        }
        for event in chunk {
            // A dropped receiver is noticed below, so what is left of the chunk may be thrown at it.
            let _ = sender.send(WatchItem::Event(event)).await;
        }
        if sender.is_closed() {
            break;
        }
        position = upto;
    }
    memory
        .write()
        .unwrap_or_else(|e| e.into_inner())
        .watchers
        .all
        .remove(&id);
}

/// The next events under `prefix` and the revision they reach; `None` when history went on without this watcher.
fn next_chunk(
    memory: &RwLock<Memory>,
    prefix: &str,
    position: Revision,
) -> Option<(Vec<Arc<WatchEvent>>, Revision)> {
    let state = memory.read().unwrap_or_else(|e| e.into_inner());
    if state.watchers.closed {
        return None;
    }
    let matching = state
        .events_after(position)?
        .filter(|e| e.entry.key.starts_with(prefix));
    let chunk: Vec<_> = matching.take(CHUNK).cloned().collect();
    let upto = match chunk.last() {
        Some(last) if chunk.len() == CHUNK => last.entry.mod_revision,
        _ => state.revision(),
    };
    Some((chunk, upto))
}
