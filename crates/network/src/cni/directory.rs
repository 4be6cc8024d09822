//! The directory of configurations: what is in force, and hearing of its changes.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::config;

/// Most bytes of a configuration.
const MOST: u64 = 1 << 20;

/// The network that is in force, with its file's name and text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) network: config::Network,
    pub(super) file: (String, String),
}

/// Reads the network of a directory.
///
/// # Errors
/// Why there is none, in words.
pub(super) fn look(dir: &Path) -> Result<Found, String> {
    let names = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    };
    let shown = dir.display();
    let names = names().map_err(|error| format!("failed to read {shown}: {error}"))?;
    let name = config::first(names.iter().map(String::as_str));
    let name = name.ok_or_else(|| format!("no network config found in {shown}"))?;
    let wrong = |why: String| format!("failed to load CNI config file {shown}/{name}: {why}");
    let text = read(&dir.join(name)).map_err(|error| wrong(error.to_string()))?;
    let network = config::parse(name, &text).map_err(|error| {
        let source = std::error::Error::source(&error);
        wrong(source.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
    })?;
    let file = (name.to_owned(), text);
    Ok(Found { network, file })
}

fn read(path: &Path) -> io::Result<String> {
    let is_large = |length| length > MOST;
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || is_large(metadata.len()) {
        let words = format!("it is no file of at most {MOST} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    fs::read_to_string(path)
}

/// Tells when something in a directory has changed.
pub(super) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Of what happens from now on. Files count once they are written, and not before.
    pub(super) fn of(dir: &Path) -> io::Result<Changes> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&fd, dir, flags)?;
        #[expect(
            deprecated,
            reason = "the descriptor is owned, so it stays what it is; the successor needs unsafe"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Changes(fd))
    }

    /// Returns when there was a change.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut room = [MaybeUninit::uninit(); 4096];
            let mut events = Reader::new(ready.get_inner(), &mut room);
            let mut heard = false;
            while events.next().is_ok() {
                heard = true;
            }
            ready.clear_ready();
            if heard {
                return Ok(());
            }
        }
    }
}
