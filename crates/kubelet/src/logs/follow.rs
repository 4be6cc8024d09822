//! Waiting for more of a log.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::agent::View;

use super::runs;

/// What there is at the end of the file.
pub(crate) enum Next {
    /// Perhaps more: read again.
    More,
    /// The log was rotated; this is the new file.
    Reopened(tokio::fs::File),
    /// Nothing will come.
    End,
}

/// Watches a log file and its container.
pub(crate) struct Follower {
    inotify: AsyncFd<OwnedFd>,
    view: watch::Receiver<Arc<View>>,
    id: String,
    /// The container has ended; the file is read to its end once more.
    ended: bool,
    /// The log was rotated; what was written to the old file before that is read first.
    rotated: Option<tokio::fs::File>,
}

impl Follower {
    /// Begins to watch before the file is read, so that nothing is missed. The directory is watched: files in it are written,
    /// renamed and made anew.
    pub(crate) fn new(
        path: &Path,
        view: watch::Receiver<Arc<View>>,
        id: &str,
    ) -> std::io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, path.parent().unwrap_or(path), flags)?;
        #[expect(
            deprecated,
            reason = "the descriptor is owned, so it stays what it is; the successor needs unsafe"
        )]
        let inotify = AsyncFd::new(fd)?;
        Ok(Follower {
            inotify,
            view,
            id: id.to_owned(),
            ended: false,
            rotated: None,
        })
    }

    /// Waits, at the end of `file`, until there is something to do.
    pub(crate) async fn wait(
        &mut self,
        path: &Path,
        file: &tokio::fs::File,
    ) -> std::io::Result<Next> {
        if let Some(new) = self.rotated.take() {
            return Ok(Next::Reopened(new));
        }
        self.rotated = replaced(path, file).await?;
        if self.rotated.is_some() {
            return Ok(Next::More);
        }
        if self.ended {
            return Ok(Next::End);
        }
        if !runs(&self.view.borrow_and_update(), &self.id) {
            self.ended = true;
            return Ok(Next::More);
        }
        tokio::select! {
            ready = self.inotify.readable() => {
                let mut ready = ready?;
                drain(ready.get_inner())?;
                ready.clear_ready();
            }
            // A view that ends was a Pod's that is gone.
            changed = self.view.changed() => self.ended = changed.is_err(),
        }
        Ok(Next::More)
    }
}

/// The file now at `path`, if it is another one.
async fn replaced(path: &Path, file: &tokio::fs::File) -> std::io::Result<Option<tokio::fs::File>> {
    let old = file.metadata().await?;
    match tokio::fs::File::open(path).await {
        Ok(new) => {
            let meta = new.metadata().await?;
            Ok(((meta.dev(), meta.ino()) != (old.dev(), old.ino())).then_some(new))
        }
        // Renamed, and not made anew yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn drain(fd: &OwnedFd) -> std::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut space);
    loop {
        match reader.next() {
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
