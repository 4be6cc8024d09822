//! The committer thread: batches, checks, writes, applies and tells. Answers that wait for the disk are the syncer's.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, RwLock};

use ports::store::{
    Change, Durability, Entry, Expect, Revision, StoreError, Unchanged, WatchEvent, WatchKind,
    Write,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::disk::{Checkpointer, Disk, RESTART_GAP, Row};
use crate::memory::Memory;
use crate::syncer::{Answer, Syncer, Written};

/// Changes taken into one transaction at most.
const BATCH: usize = 512;
/// History on disk may be this much longer than in memory before it is cut.
const COMPACT_EVERY: Revision = 1024;
/// SQLite's page size, for counting what the write-ahead log grew by.
const PAGE: usize = 4096;

pub(crate) enum Command {
    Change(Request),
    Compact(Revision, oneshot::Sender<Result<(), StoreError>>),
    Close,
}

pub(crate) struct Request {
    pub(crate) writes: Vec<Write>,
    pub(crate) unchanged: Option<Unchanged>,
    pub(crate) durability: Durability,
    pub(crate) reply: Reply,
}

/// Changes of one transaction, in order, with what they leave behind.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    /// Who made them, with how many of the rows are theirs.
    replies: Vec<(Durability, Reply, usize)>,
    /// Keys changed by this batch: their state after it.
    overlay: BTreeMap<String, Option<Entry>>,
    /// Answers to requests that came too late because of this batch; they wait until readers see it.
    refusals: Vec<(Reply, StoreError)>,
    pages: i64,
}

/// Where the entries go that came of a request.
pub(crate) type Reply = oneshot::Sender<Result<Vec<Entry>, StoreError>>;

fn refuse(refusals: Vec<(Reply, StoreError)>) {
    for (reply, refusal) in refusals {
        // The caller may have gone.
        let _ = reply.send(Err(refusal));
    }
}

impl Batch {
    /// What a key holds after this batch.
    fn current(&self, memory: &Memory, key: &str) -> Option<Entry> {
        match self.overlay.get(key) {
            Some(entry) => entry.clone(),
            None => memory.get(key).cloned(),
        }
    }

    /// Something under a prefix that was written too late, if there is.
    fn newer(&self, memory: &Memory, unchanged: &Unchanged) -> Option<Entry> {
        let prefix = &*unchanged.prefix;
        let own = self
            .overlay
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let own = own.take_while(|(key, _)| key.starts_with(prefix));
        let own = own.filter_map(|(_, entry)| entry.as_ref());
        let stored = memory
            .under(prefix)
            .filter(|entry| !self.overlay.contains_key(&entry.key));
        let mut all = own.chain(stored);
        all.find(|entry| entry.mod_revision > unchanged.since)
            .cloned()
    }
}

fn holds(write: &Write, current: Option<&Entry>) -> bool {
    match (write.expect, current) {
        (Expect::Absent, current) => {
            current.is_none() && !matches!(write.change, Change::Delete(_))
        }
        (Expect::ModRevision(revision), current) => {
            current.is_some_and(|entry| entry.mod_revision == revision)
        }
    }
}

pub(crate) struct Committer {
    disk: Disk,
    memory: Arc<RwLock<Memory>>,
    queue: Receiver<Command>,
    checkpoints: Checkpointer,
    syncer: Syncer,
    runtime: Handle,
    revision: Revision,
    pages: i64,
}

impl Committer {
    pub(crate) fn new(
        disk: Disk,
        memory: Arc<RwLock<Memory>>,
        queue: Receiver<Command>,
        checkpoints: Checkpointer,
        syncer: Syncer,
        runtime: Handle,
    ) -> Committer {
        let revision = memory.read().unwrap_or_else(|e| e.into_inner()).revision();
        Committer {
            disk,
            memory,
            queue,
            checkpoints,
            syncer,
            runtime,
            revision,
            pages: 0,
        }
    }

    pub(crate) fn run(mut self) {
        // It ends when the store closes or nobody can send any more.
        while let Ok(first) = self.queue.recv() {
            if !self.serve(first) {
                break;
            }
        }
        self.memory
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .watchers
            .close();
    }

    /// Serves `first` and whatever waits behind it. False when the store closes.
    fn serve(&mut self, first: Command) -> bool {
        let mut batch = Batch::default();
        let mut command = Some(first);
        let mut open = true;
        let mut compact = None;
        while let Some(next) = command.take() {
            match next {
                Command::Change(request) => self.prepare(request, &mut batch),
                Command::Compact(revision, reply) => compact = Some((revision, reply)),
                Command::Close => open = false,
            }
            if open && compact.is_none() && batch.rows.len() < BATCH {
                command = self.queue.try_recv().ok();
            }
        }
        self.commit(batch);
        match compact {
            Some((revision, reply)) => {
                // The caller may have gone; the compaction stands.
                let _ = reply.send(self.compact(revision));
            }
            None => self.follow_memory(),
        }
        open
    }

    /// Checks one request and makes it part of the batch, or refuses it.
    fn prepare(&mut self, request: Request, batch: &mut Batch) {
        let memory = self.memory.read().unwrap_or_else(|e| e.into_inner());
        let now = request.writes.iter();
        let now: Vec<Option<Entry>> = now.map(|w| batch.current(&memory, &w.key)).collect();
        let unchanged = request.unchanged.as_ref();
        let newer = unchanged.and_then(|unchanged| batch.newer(&memory, unchanged));
        drop(memory);
        let mut each = request.writes.iter().zip(&now);
        let in_the_way = each
            .find(|(write, now)| !holds(write, now.as_ref()))
            .map(|(write, now)| (write.key.clone(), now.clone()))
            .or_else(|| newer.map(|newer| (newer.key.clone(), Some(newer))));
        if let Some((key, current)) = in_the_way {
            let refusal = StoreError::Conflict { current };
            if batch.overlay.contains_key(&key) {
                // Who looks again is to find what is in the way.
                batch.refusals.push((request.reply, refusal));
            } else {
                // The caller may have gone.
                let _ = request.reply.send(Err(refusal));
            }
            return;
        }
        let count = request.writes.len();
        for (write, current) in request.writes.into_iter().zip(now) {
            self.add(write, current, batch);
        }
        batch
            .replies
            .push((request.durability, request.reply, count));
    }

    /// Makes one change part of the batch.
    fn add(&mut self, write: Write, current: Option<Entry>, batch: &mut Batch) {
        self.revision += 1;
        let (kind, encode) = match write.change {
            Change::Delete(encode) => (WatchKind::Deleted, encode),
            Change::Put(encode) if current.is_some() => (WatchKind::Modified, encode),
            Change::Put(encode) => (WatchKind::Created, encode),
        };
        let entry = Entry {
            value: encode(self.revision),
            mod_revision: self.revision,
            create_revision: current
                .as_ref()
                .map_or(self.revision, |e| e.create_revision),
            key: write.key,
        };
        batch.pages += (entry.value.len() / PAGE + 2) as i64;
        batch.overlay.insert(
            entry.key.clone(),
            (kind != WatchKind::Deleted).then(|| entry.clone()),
        );
        let previous = current.as_ref().map_or(0, |e| e.mod_revision);
        let event = Arc::new(WatchEvent {
            kind,
            entry,
            previous: current.map(|e| e.value),
        });
        batch.rows.push(Row { event, previous });
    }

    /// Writes the batch, shows it to readers and watchers, and answers or leaves it to the syncer.
    ///
    /// Watchers hear of a change before it is durable. They can not outlive a loss: a power cut ends them all, and those who
    /// come again afterwards are told to list again (see [`Disk::load`]).
    fn commit(&mut self, batch: Batch) {
        if batch.rows.is_empty() {
            return;
        }
        if let Err(error) = self.write(&batch.rows) {
            tracing::error!(%error, "a commit failed");
            refuse(batch.refusals);
            for (_, reply, _) in batch.replies {
                // The caller may have gone.
                let _ = reply.send(Err(StoreError::Storage(error.to_string())));
            }
            return;
        }
        let events: Vec<_> = batch.rows.into_iter().map(|row| row.event).collect();
        let mut memory = self.memory.write().unwrap_or_else(|e| e.into_inner());
        for event in &events {
            memory.apply(event.clone());
        }
        memory.publish(&events, &self.memory, &self.runtime);
        drop(memory);
        refuse(batch.refusals);
        let mut answers = Vec::new();
        let mut entries = events.into_iter().map(|event| event.entry.clone());
        for (durability, reply, count) in batch.replies {
            let entries = entries.by_ref().take(count).collect();
            match durability {
                Durability::Synced => answers.push(Answer { reply, entries }),
                Durability::Relaxed => {
                    // The caller may have gone; the change stands.
                    let _ = reply.send(Ok(entries));
                }
            }
        }
        self.syncer.wrote(Written {
            revision: self.revision,
            answers,
        });
        self.pages = self.checkpoints.note(self.pages + batch.pages);
    }

    /// Writes rows unless the disk has failed; never further ahead of it than restarts leave numbers out.
    fn write(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        if self.syncer.has_failed() {
            return Err(StoreError::Storage("an earlier sync failed".into()));
        }
        if self.revision - self.syncer.durable() >= RESTART_GAP {
            self.syncer.sync(rows[0].event.entry.mod_revision - 1)?;
        }
        self.disk.write(rows)
    }

    fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        let current = self.revision;
        if revision > current {
            return Err(StoreError::Future {
                asked: revision,
                current,
            });
        }
        self.memory
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .compact(revision);
        self.disk.compact(revision)
    }

    /// Cuts the history on disk once memory has forgotten much more than the disk.
    fn follow_memory(&mut self) {
        let compacted = self
            .memory
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .compacted();
        if compacted < self.disk.compacted() + COMPACT_EVERY {
            return;
        }
        if let Err(error) = self.disk.compact(compacted) {
            tracing::error!(%error, "history could not be cut");
        }
    }
}
