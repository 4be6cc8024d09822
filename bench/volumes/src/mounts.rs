//! Volumes as containers see them: what is mounted is the directory that is followed here, so that a change is told at the moment it is
//! there for the container.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

/// The link by which all files of a volume change at once.
const DATA: &[u8] = b"..data";
/// Bytes of events that are read at a time.
const BUFFER: usize = 64 << 10;

/// Volumes that are followed.
pub(crate) struct Mounts {
    inotify: OwnedFd,
    watches: BTreeSet<i32>,
}

impl Mounts {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Mounts {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watches: BTreeSet::new(),
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.watches.len()
    }

    pub(crate) fn follow(&mut self, volume: &Path) -> anyhow::Result<()> {
        let watch = inotify::add_watch(&self.inotify, volume, WatchFlags::MOVED_TO);
        let watch = watch.with_context(|| format!("follow {}", volume.display()))?;
        ensure!(self.watches.insert(watch), "a volume of two Pods");
        Ok(())
    }

    /// Waits until each has changed once: when that was, in this order.
    pub(crate) fn all_changed(&self, patience: Duration) -> anyhow::Result<Vec<Instant>> {
        let until = Instant::now() + patience;
        let mut left = self.watches.clone();
        let mut times = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        while !left.is_empty() {
            let rest = until.saturating_duration_since(Instant::now());
            let rest = Timespec::try_from(rest)?;
            let mut readable = [PollFd::new(&self.inotify, PollFlags::IN)];
            let count = poll(&mut readable, Some(&rest))?;
            let now = Instant::now();
            ensure!(count > 0, "{} volumes have not changed", left.len());
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            loop {
                let event = match reader.next() {
                    Err(rustix::io::Errno::AGAIN) => break,
                    event => event?,
                };
                let is_data = event
                    .file_name()
                    .is_some_and(|name| name.to_bytes() == DATA);
                if is_data && left.remove(&event.wd()) {
                    times.push(now);
                }
            }
        }
        Ok(times)
    }
}
