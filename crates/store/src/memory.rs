//! What the store knows: current objects in key order, recent events in revision order, and the watchers.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use ports::store::{Entry, Revision, StoreError, Watch, WatchEvent, WatchKind};
use tokio::runtime::Handle;

use crate::Limits;
use crate::watch::Watchers;

/// The in-memory state. Written by the committer only, after the change is in SQLite.
pub(crate) struct Memory {
    objects: BTreeMap<String, Entry>,
    history: VecDeque<Arc<WatchEvent>>,
    history_bytes: usize,
    limits: Limits,
    revision: Revision,
    compacted: Revision,
    pub(crate) watchers: Watchers,
}

impl Memory {
    /// An empty state whose history begins after `compacted`.
    pub(crate) fn new(limits: Limits, compacted: Revision) -> Memory {
        Memory {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            limits,
            revision: compacted,
            compacted,
            watchers: Watchers::default(),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Events up to and including this revision are no longer kept.
    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.objects.get(key)
    }

    pub(crate) fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> (Revision, Vec<Entry>) {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries = self.from(start, prefix).take(limit).cloned().collect();
        (self.revision, entries)
    }

    /// Every object whose key begins with `prefix`.
    pub(crate) fn under(&self, prefix: &str) -> impl Iterator<Item = &Entry> {
        self.from(Bound::Included(prefix), prefix)
    }

    fn from(&self, start: Bound<&str>, prefix: &str) -> impl Iterator<Item = &Entry> {
        let found = self.objects.range::<str, _>((start, Bound::Unbounded));
        found
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry)
    }

    /// Makes `event` part of the state, without telling watchers.
    pub(crate) fn apply(&mut self, event: Arc<WatchEvent>) {
        let entry = &event.entry;
        self.revision = entry.mod_revision;
        match event.kind {
            WatchKind::Deleted => self.objects.remove(&entry.key),
            WatchKind::Created | WatchKind::Modified => {
                self.objects.insert(entry.key.clone(), entry.clone())
            }
        };
        self.history_bytes += entry.value.len();
        self.history.push_back(event);
        while self.history.len() > self.limits.events || self.history_bytes > self.limits.bytes {
            self.forget_oldest();
        }
    }

    /// Puts back an object whose last change is older than the kept history.
    pub(crate) fn restore(&mut self, entry: Entry) {
        self.objects.insert(entry.key.clone(), entry);
    }

    /// Goes on counting from `revision`.
    pub(crate) fn skip_to(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Forgets events up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) {
        while self
            .history
            .front()
            .is_some_and(|e| e.entry.mod_revision <= revision)
        {
            self.forget_oldest();
        }
        self.compacted = self.compacted.max(revision.min(self.revision));
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= event.entry.value.len();
            self.compacted = event.entry.mod_revision;
        }
    }

    /// Events after `from` in order; `None` when some are forgotten.
    pub(crate) fn events_after(
        &self,
        from: Revision,
    ) -> Option<impl Iterator<Item = &Arc<WatchEvent>>> {
        let first = self
            .history
            .partition_point(|e| e.entry.mod_revision <= from);
        (from >= self.compacted).then(|| self.history.range(first..))
    }

    /// Registers a watcher and gives it what it missed. `shared` is this very state, for watchers that fall behind.
    pub(crate) fn watch(
        &mut self,
        prefix: &str,
        from: Revision,
        shared: &Arc<RwLock<Memory>>,
    ) -> Result<Watch, StoreError> {
        if from > self.revision {
            return Err(StoreError::Future {
                asked: from,
                current: self.revision,
            });
        }
        if from < self.compacted {
            return Err(StoreError::Compacted {
                asked: from,
                oldest: self.compacted,
            });
        }
        let first = self
            .history
            .partition_point(|e| e.entry.mod_revision <= from);
        self.watchers.add(
            prefix,
            from,
            self.revision,
            self.history.range(first..),
            shared,
        )
    }

    /// Tells the watchers about `events`, which were just applied.
    pub(crate) fn publish(
        &mut self,
        events: &[Arc<WatchEvent>],
        shared: &Arc<RwLock<Memory>>,
        runtime: &Handle,
    ) {
        self.watchers
            .publish(events, self.revision, shared, runtime);
    }
}
