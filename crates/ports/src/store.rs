//! The revisioned key-value store under the API server: etcd's model, one revision counter for all keys.

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

/// A store-wide, ever-growing number; every committed change gets the next one.
pub type Revision = u64;

/// A stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `/registry/<resource>/[namespace/]<name>`.
    pub key: String,
    /// The encoded object, with its `resourceVersion` inside. Shared, never copied.
    pub value: Bytes,
    /// Revision of its last change.
    pub mod_revision: Revision,
    /// Revision at which it was created.
    pub create_revision: Revision,
}

/// Encodes the object once its revision is known. Runs on the committer, so it must be quick and cannot fail.
pub type Encode = Box<dyn FnOnce(Revision) -> Bytes + Send>;

/// What must hold for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key's last change is this one.
    ModRevision(Revision),
}

/// One change.
pub enum Change {
    /// Write the key.
    Put(Encode),
    /// Remove the key. The encoder gives the last state of the object, which watchers are shown.
    Delete(Encode),
}

/// A change to one key, made if the expectation holds.
pub struct Write {
    /// The key.
    pub key: String,
    /// What must hold.
    pub expect: Expect,
    /// What is done.
    pub change: Change,
}

/// What must hold of many keys for changes to be made: none that is there and begins with `prefix` was written after `since`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchanged {
    /// What the keys begin with.
    pub prefix: String,
    /// The revision at which they were looked at.
    pub since: Revision,
}

/// How soon a change must be safe from a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the caller is told. For everything a user may rely on.
    Synced,
    /// With the next synced commit, or within seconds. For Events.
    Relaxed,
}

/// What a watcher is told, in order of revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchKind,
    /// The object after the change, or its last state when it was deleted.
    pub entry: Entry,
    /// The object before the change; `None` when it was created. Lets selectors tell leaving from changing.
    pub previous: Option<Bytes>,
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchKind {
    /// The key did not exist before.
    Created,
    /// The key existed before.
    Modified,
    /// The key exists no more.
    Deleted,
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// A change under the watched prefix.
    Event(std::sync::Arc<WatchEvent>),
    /// Nothing of interest changed up to and including this revision.
    Progress(Revision),
}

/// An ordered, gap-free stream of changes. It ends when the watcher fell behind further than history is kept, or the store closes.
pub type Watch = tokio::sync::mpsc::Receiver<WatchItem>;

/// Why the store refused.
#[derive(Debug, Error)]
pub enum StoreError {
    /// An expectation did not hold; here is what is there instead.
    #[error("the key changed meanwhile")]
    Conflict {
        /// What the key holds now.
        current: Option<Entry>,
    },
    /// That revision's history is no longer kept.
    #[error("revision {asked} is older than {oldest}, the oldest kept")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision that can be asked for.
        oldest: Revision,
    },
    /// That revision is in the future.
    #[error("revision {asked} is newer than {current}, the newest")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// The disk failed; the change was not made.
    #[error("store: {0}")]
    Storage(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// The store's verbs. Reads are served from memory and never wait for the disk.
#[async_trait]
pub trait RevisionedStore: Send + Sync {
    /// The newest committed revision.
    fn revision(&self) -> Revision;

    /// One object.
    fn get(&self, key: &str) -> Option<Entry>;

    /// Every object whose key begins with `prefix`, in key order, starting after `after` when given, at most `limit` (0: all),
    /// and the revision at which this was so.
    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Revision, Vec<Entry>);

    /// Makes one change if `expect` holds, and returns the entry as stored (for a deletion, as last seen) once it is as durable
    /// as asked.
    async fn commit(
        &self,
        key: &str,
        expect: Expect,
        change: Change,
        durability: Durability,
    ) -> Result<Entry, StoreError> {
        let write = Write {
            key: key.to_owned(),
            expect,
            change,
        };
        let made = self.commit_all(vec![write], None, durability).await?;
        made.into_iter().next().ok_or(StoreError::Closed)
    }

    /// As [`RevisionedStore::commit`], of several changes to different keys: all of them, one after the other with nothing between,
    /// or none if an expectation does not hold. The entries come in the order of the changes.
    async fn commit_all(
        &self,
        writes: Vec<Write>,
        unchanged: Option<Unchanged>,
        durability: Durability,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Every change after `from` to keys that begin with `prefix`.
    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError>;

    /// Forgets history before `revision`; objects stay.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
}
