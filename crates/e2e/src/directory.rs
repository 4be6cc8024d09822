//! Waiting for the files of a directory.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// Longest wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory whose entries are watched from the first moment.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    inotify: OwnedFd,
}

impl Directory {
    /// Begins to watch an existing directory.
    pub fn watch(path: &Path) -> anyhow::Result<Directory> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags =
            WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
        inotify::add_watch(&inotify, path, flags)
            .with_context(|| format!("watch {}", path.display()))?;
        Ok(Directory {
            path: path.to_owned(),
            inotify,
        })
    }

    /// Its entries' names, sorted.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?.flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Waits until its entries are as `wanted` says; their names then.
    ///
    /// # Errors
    /// The names, when they never are.
    pub fn until(&self, wanted: impl Fn(&[String]) -> bool) -> anyhow::Result<Vec<String>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let names = self.names()?;
            if wanted(&names) {
                return Ok(names);
            }
            let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
            let mut ready = [PollFd::new(&self.inotify, PollFlags::IN)];
            let changed = rustix::event::poll(&mut ready, Some(&left))?;
            ensure!(changed == 1, "{} stays {names:?}", self.path.display());
            self.drain()?;
        }
    }

    fn drain(&self) -> anyhow::Result<()> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        loop {
            match reader.next() {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
