//! The revisioned store on SQLite: current objects and recent history in memory, every change durable before its caller is told.
//!
//! One committer thread owns the write connection. It takes whatever changes wait, checks their expectations against memory and
//! against the changes before them in the same batch, writes one transaction, applies the batch to memory and hands the events to
//! the watchers. The syncer thread makes written transactions durable, as many as have gathered with one sync, and answers the
//! callers; a third checkpoints the write-ahead log, so a commit never waits for the database file. Reads and watches are served
//! from memory. So what follows from a change (binding a new Pod, starting it) goes on while the disk is still at work on it.
//!
//! Invariants: memory never shows what is not in SQLite; a change survives a crash of the process from the moment it is shown, and
//! a power cut from the moment its caller is answered; a watcher sees every change under its prefix exactly once and in order,
//! or its channel closes; revisions only grow, also over restarts and lost unsynced changes; nothing is written while nothing changes.
//!
//! What objects are, how they are encoded and who may see them is left to the API server.

mod committer;
mod disk;
mod memory;
mod syncer;
mod watch;

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use ports::store::{
    Durability, Entry, Revision, RevisionedStore, StoreError, Unchanged, Watch, Write,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::committer::{Command, Committer};
use crate::disk::{Checkpointer, Disk};
use crate::memory::Memory;
use crate::syncer::Syncer;

/// How much history is kept for watches. Objects are always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events kept at most.
    pub events: usize,
    /// Bytes of encoded objects in those events, at most.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            events: 8192,
            bytes: 24 << 20,
        }
    }
}

/// An open store. Cheap to share in an `Arc`; [`Store::close`] or dropping it ends its threads after the waiting changes were written.
pub struct Store {
    memory: Arc<RwLock<Memory>>,
    commands: mpsc::Sender<Command>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Opens or creates the store in the file `path` (SQLite adds `-wal` and `-shm` beside it) with the usual [`Limits`].
    ///
    /// # Errors
    /// [`StoreError::Storage`] when the file cannot be opened, is damaged, or there is no Tokio runtime to serve slow watchers.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_with(path, Limits::default())
    }

    /// As [`Store::open`], with other limits.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: &Path, limits: Limits) -> Result<Store, StoreError> {
        let runtime = Handle::try_current().map_err(|e| StoreError::Storage(e.to_string()))?;
        let mut disk = Disk::open(path)?;
        let memory = Arc::new(RwLock::new(disk.load(limits)?));
        let loaded = memory.read().unwrap_or_else(|e| e.into_inner()).revision();
        let (checkpoints, checkpointer) = Checkpointer::start(path)?;
        let (syncer, sync_thread) = Syncer::start(path, loaded)?;
        let (commands, queue) = mpsc::channel();
        let committer = Committer::new(disk, memory.clone(), queue, checkpoints, syncer, runtime);
        let thread = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || committer.run())
            .map_err(|e| StoreError::Storage(e.to_string()))?;
        Ok(Store {
            memory,
            commands,
            threads: Mutex::new(vec![thread, checkpointer, sync_thread]),
        })
    }

    /// Writes what waits, ends every watch and closes the files. Later changes are refused with [`StoreError::Closed`];
    /// reads go on from memory. Blocks until done; calling it again does nothing.
    pub fn close(&self) {
        // A failed send means the committer has ended already.
        let _ = self.commands.send(Command::Close);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(|e| e.into_inner()));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a store thread panicked");
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl RevisionedStore for Store {
    fn revision(&self) -> Revision {
        self.read().revision()
    }

    fn get(&self, key: &str) -> Option<Entry> {
        self.read().get(key).cloned()
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Revision, Vec<Entry>) {
        self.read().range(prefix, after, limit)
    }

    async fn commit_all(
        &self,
        writes: Vec<Write>,
        unchanged: Option<Unchanged>,
        durability: Durability,
    ) -> Result<Vec<Entry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = committer::Request {
            writes,
            unchanged,
            durability,
            reply,
        };
        self.commands
            .send(Command::Change(request))
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        let memory = self.memory.clone();
        self.memory
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .watch(prefix, from, &memory)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Compact(revision, reply))
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
