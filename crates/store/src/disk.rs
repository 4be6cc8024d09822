//! The SQLite side: one append-only table of changes, and a thread that checkpoints.
//!
//! `log` holds one row per change; the newest row of a key is its object, a row of kind `Deleted` its end. Forgetting history up
//! to a revision removes the rows that were superseded or that deleted something up to then; `meta` remembers that revision.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use ports::store::{Entry, Revision, StoreError, WatchEvent, WatchKind};
use rusqlite::{Connection, params};

use crate::Limits;
use crate::memory::Memory;

/// Revisions left out after a restart, so that numbers given to unsynced changes which a power cut took are never given again.
/// The committer never gets further ahead of the disk.
pub(crate) const RESTART_GAP: Revision = 1024;
/// The write-ahead log is checkpointed whenever it grew by this many pages.
const CHECKPOINT_PAGES: i64 = 1000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY, key TEXT NOT NULL, kind INTEGER NOT NULL,
    created INTEGER NOT NULL, previous INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (id INTEGER PRIMARY KEY CHECK (id = 1), compacted INTEGER NOT NULL, boot TEXT NOT NULL);
INSERT OR IGNORE INTO meta VALUES (1, 0, '');
";

const CREATED: i64 = 0;
const MODIFIED: i64 = 1;
const DELETED: i64 = 2;

/// The write connection.
pub(crate) struct Disk {
    connection: Connection,
    compacted: Revision,
}

/// One change as it goes to disk.
pub(crate) struct Row {
    pub(crate) event: Arc<WatchEvent>,
    /// Revision of the change it supersedes, 0 for none.
    pub(crate) previous: Revision,
}

pub(crate) fn storage(error: rusqlite::Error) -> StoreError {
    StoreError::Storage(error.to_string())
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).map_err(storage)?;
    connection
        .busy_timeout(Duration::from_secs(10))
        .map_err(storage)?;
    connection
        .pragma_update(None, "journal_mode", "wal")
        .map_err(storage)?;
    connection
        .pragma_update(None, "synchronous", "full")
        .map_err(storage)?;
    connection
        .pragma_update(None, "wal_autocheckpoint", 0)
        .map_err(storage)?;
    Ok(connection)
}

impl Disk {
    pub(crate) fn open(path: &Path) -> Result<Disk, StoreError> {
        let connection = connect(path)?;
        let fresh = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |r| {
                r.get::<_, i64>(0)
            })
            .map_err(storage)?
            == 0;
        if fresh {
            connection
                .execute_batch(&format!("BEGIN;{SCHEMA}COMMIT;"))
                .map_err(storage)?;
            sync_directory(path)?;
        }
        // From here on the log is synced by the syncer. (NORMAL still syncs around checkpoints.)
        connection
            .pragma_update(None, "synchronous", "normal")
            .map_err(storage)?;
        let compacted = connection
            .query_row("SELECT compacted FROM meta", [], |r| r.get::<_, i64>(0))
            .map_err(storage)?;
        Ok(Disk {
            connection,
            compacted: compacted as Revision,
        })
    }

    /// Reads everything into memory.
    ///
    /// Watches can go on from where they were, unless the machine was started anew since: then changes that were watched may be
    /// lost, so everybody has to list again.
    pub(crate) fn load(&mut self, limits: Limits) -> Result<Memory, StoreError> {
        let mut memory = Memory::new(limits, self.compacted);
        let mut statement = self
            .connection
            .prepare("SELECT revision, key, kind, created, value FROM log ORDER BY revision")
            .map_err(storage)?;
        let mut rows = statement.query([]).map_err(storage)?;
        while let Some(row) = rows.next().map_err(storage)? {
            let (kind, entry) = read_row(row).map_err(storage)?;
            if entry.mod_revision <= self.compacted {
                if kind != WatchKind::Deleted {
                    memory.restore(entry);
                }
                continue;
            }
            let previous = memory.get(&entry.key).map(|e| e.value.clone());
            memory.apply(Arc::new(WatchEvent {
                kind,
                entry,
                previous,
            }));
        }
        if memory.revision() > 0 {
            memory.skip_to(memory.revision() + RESTART_GAP);
        }
        drop(rows);
        drop(statement);
        self.forget_over_a_boot(&mut memory)?;
        Ok(memory)
    }

    /// Forgets all history if the machine was started anew since the store was last open. The history goes first, so that a
    /// boot is remembered only when nothing is left of those before.
    fn forget_over_a_boot(&mut self, memory: &mut Memory) -> Result<(), StoreError> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|e| StoreError::Storage(format!("read the boot id: {e}")))?;
        let known: String = self
            .connection
            .query_row("SELECT boot FROM meta", [], |r| r.get(0))
            .map_err(storage)?;
        if known == boot.trim() {
            return Ok(());
        }
        self.compact(memory.revision())?;
        memory.compact(memory.revision());
        self.connection
            .execute("UPDATE meta SET boot = ?1", [boot.trim()])
            .map(drop)
            .map_err(storage)
    }

    /// Writes `rows` in one transaction, which is not yet synced.
    pub(crate) fn write(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction().map_err(storage)?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
                .map_err(storage)?;
            for Row { event, previous } in rows {
                let entry = &event.entry;
                let kind = match event.kind {
                    WatchKind::Created => CREATED,
                    WatchKind::Modified => MODIFIED,
                    WatchKind::Deleted => DELETED,
                };
                let numbers = (
                    entry.mod_revision as i64,
                    entry.create_revision as i64,
                    *previous as i64,
                );
                insert
                    .execute(params![
                        numbers.0,
                        entry.key,
                        kind,
                        numbers.1,
                        numbers.2,
                        &entry.value[..]
                    ])
                    .map_err(storage)?;
            }
        }
        transaction.commit().map_err(storage)
    }

    /// Forgets on disk what was superseded or deleted up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision <= self.compacted {
            return Ok(());
        }
        // Losing a compaction to a power cut only means that it is done again.
        let transaction = self.connection.transaction().map_err(storage)?;
        let range = params![self.compacted as i64, revision as i64];
        let superseded = "DELETE FROM log WHERE revision IN
            (SELECT previous FROM log WHERE revision > ?1 AND revision <= ?2 AND previous > 0)";
        transaction.execute(superseded, range).map_err(storage)?;
        let ended = "DELETE FROM log WHERE revision > ?1 AND revision <= ?2 AND kind = 2";
        transaction.execute(ended, range).map_err(storage)?;
        transaction
            .execute("UPDATE meta SET compacted = ?1", [revision as i64])
            .map_err(storage)?;
        transaction.commit().map_err(storage)?;
        self.compacted = revision;
        Ok(())
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(WatchKind, Entry)> {
    let kind = match row.get::<_, i64>(2)? {
        CREATED => WatchKind::Created,
        MODIFIED => WatchKind::Modified,
        _ => WatchKind::Deleted,
    };
    let entry = Entry {
        key: row.get(1)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(4)?),
        mod_revision: row.get::<_, i64>(0)? as Revision,
        create_revision: row.get::<_, i64>(3)? as Revision,
    };
    Ok((kind, entry))
}

/// A new file is only there after a power cut when its directory was synced.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = std::fs::File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(|e| StoreError::Storage(format!("sync {}: {e}", parent.display())))
}

/// Tells the checkpoint thread that pages were written; dropping it ends the thread.
pub(crate) struct Checkpointer {
    sender: mpsc::Sender<()>,
}

impl Checkpointer {
    pub(crate) fn start(path: &Path) -> Result<(Checkpointer, JoinHandle<()>), StoreError> {
        let connection = connect(path)?;
        let (sender, wakes) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || {
                while wakes.recv().is_ok() {
                    while wakes.try_recv().is_ok() {}
                    checkpoint(&connection);
                }
            })
            .map_err(|e| StoreError::Storage(e.to_string()))?;
        Ok((Checkpointer { sender }, thread))
    }

    /// Asks for a checkpoint when `pages` written since the last one are many; returns what is left to count.
    pub(crate) fn note(&self, pages: i64) -> i64 {
        if pages < CHECKPOINT_PAGES {
            return pages;
        }
        // The thread lives as long as this sender, and a missed checkpoint is made up by the next.
        let _ = self.sender.send(());
        0
    }
}

fn checkpoint(connection: &Connection) {
    let result = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get::<_, i64>(0));
    if let Err(error) = result {
        tracing::warn!(%error, "checkpoint failed");
    }
}
