//! The thread that waits for the disk, so that nobody else does: one `fdatasync` of the write-ahead log for whatever has gathered.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ports::store::{Entry, Revision, StoreError};

use crate::committer::Reply;
use crate::disk;

/// Relaxed changes are synced after this long.
const RELAXED: Duration = Duration::from_secs(2);

/// An answer that is due.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) entries: Vec<Entry>,
}

/// Changes that were written up to and including a revision.
pub(crate) struct Written {
    pub(crate) revision: Revision,
    /// Who waits until they are durable; nobody, when all of them are relaxed.
    pub(crate) answers: Vec<Answer>,
}

/// The committer's end.
pub(crate) struct Syncer {
    sender: Sender<Written>,
    shared: Arc<Shared>,
}

struct Shared {
    /// SQLite's write-ahead log. (Opened for itself: SQLite's locks are on other files.)
    log: File,
    /// Everything up to here has reached the disk.
    durable: AtomicU64,
    /// A sync failed: what the kernel holds of the log can no longer be relied on.
    failed: AtomicBool,
}

impl Syncer {
    /// Starts the thread for the store at `path`, of which everything up to `loaded` was read. It ends when this end is dropped,
    /// after everything was synced.
    pub(crate) fn start(
        path: &Path,
        loaded: Revision,
    ) -> Result<(Syncer, JoinHandle<()>), StoreError> {
        let storage = |error: std::io::Error| StoreError::Storage(error.to_string());
        let log = File::open(log_path(path)).map_err(storage)?;
        // What was read may be known to the kernel alone, after a crash of the process that wrote it.
        log.sync_data().map_err(storage)?;
        disk::sync_directory(path)?;
        let shared = Arc::new(Shared {
            log,
            durable: AtomicU64::new(loaded),
            failed: AtomicBool::new(false),
        });
        let (sender, written) = mpsc::channel();
        let worker = Worker {
            written,
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-sync".into())
            .spawn(move || worker.run())
            .map_err(storage)?;
        Ok((Syncer { sender, shared }, thread))
    }

    /// Takes over the answers to what was just written.
    pub(crate) fn wrote(&self, written: Written) {
        // The thread lives as long as this sender.
        let _ = self.sender.send(written);
    }

    /// Everything up to here has reached the disk.
    pub(crate) fn durable(&self) -> Revision {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Whether a sync has failed, after which nothing may be written any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Syncs here and now what was written up to and including `revision`.
    pub(crate) fn sync(&self, revision: Revision) -> Result<(), StoreError> {
        self.shared.sync(revision).map_err(StoreError::Storage)
    }
}

impl Shared {
    fn sync(&self, revision: Revision) -> Result<(), String> {
        if self.failed.load(Ordering::Acquire) {
            return Err("an earlier sync failed".to_owned());
        }
        if let Err(error) = self.log.sync_data() {
            tracing::error!(%error, "the store could not be synced; it takes no more changes");
            self.failed.store(true, Ordering::Release);
            return Err(error.to_string());
        }
        self.durable.fetch_max(revision, Ordering::AcqRel);
        Ok(())
    }
}

/// The write-ahead log of a SQLite file.
fn log_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

struct Worker {
    written: Receiver<Written>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self) {
        // Relaxed changes that were not synced yet, and since when.
        let mut relaxed: Option<(Revision, Instant)> = None;
        loop {
            let next = match relaxed {
                None => self
                    .written
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some((_, since)) => self
                    .written
                    .recv_timeout(RELAXED.saturating_sub(since.elapsed())),
            };
            let mut all = match next {
                Ok(first) => first,
                Err(end) => {
                    if let Some((revision, _)) = relaxed.take() {
                        self.sync(revision, Vec::new());
                    }
                    match end {
                        RecvTimeoutError::Timeout => continue,
                        RecvTimeoutError::Disconnected => return,
                    }
                }
            };
            for more in self.written.try_iter() {
                all.revision = more.revision;
                all.answers.extend(more.answers);
            }
            if all.answers.is_empty() {
                let since = relaxed.map_or_else(Instant::now, |(_, since)| since);
                relaxed = Some((all.revision, since));
            } else {
                relaxed = None;
                self.sync(all.revision, all.answers);
            }
        }
    }

    fn sync(&self, revision: Revision, answers: Vec<Answer>) {
        let result = self.shared.sync(revision);
        for Answer { reply, entries } in answers {
            // The caller may have gone; the change stands.
            let _ = reply.send(match &result {
                Ok(()) => Ok(entries),
                Err(error) => Err(StoreError::Storage(error.clone())),
            });
        }
    }
}
