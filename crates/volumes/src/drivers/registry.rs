//! The directory in which drivers register (upstream's pluginmanager): each socket there is asked who it is, and its driver is known
//! while the socket is there. The kernel tells of changes.
//!
//! One task follows the directory, and one attends each socket. All of them end when nobody listens.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ports::drivers::DriverEvent;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Known;
use super::calls::Endpoint;
use crate::layout::make_dir;

/// The kind of plugins that are drivers.
const KIND: &str = "CSIPlugin";
/// A directory that cannot be followed is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// Least and greatest wait between two tries of a socket: nobody tells when it is listened at, or its server has what was missing.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(122);

type Told = mpsc::UnboundedSender<DriverEvent>;

/// A version of CSI: major, minor, patch.
pub(super) type Version = [u32; 3];

/// Follows a directory, which is made if it is not there.
pub(super) async fn follow(directory: PathBuf, known: Known, told: Told) {
    let mut attended: BTreeMap<OsString, Attended> = BTreeMap::new();
    while !told.is_closed() {
        if let Err(error) = heed(&directory, &mut attended, &known, &told).await {
            let path = directory.display();
            tracing::error!(%path, %error, "the directory of plugins cannot be followed");
            tokio::time::sleep(AGAIN).await;
        }
    }
    for (_, attended) in attended {
        attended.end().await;
    }
}

/// Keeps up with the directory until it is another one, or nobody listens.
async fn heed(
    directory: &Path,
    attended: &mut BTreeMap<OsString, Attended>,
    known: &Known,
    told: &Told,
) -> io::Result<()> {
    make_dir(directory, 0o750).map_err(io::Error::other)?;
    let changes = Changes::of(directory)?;
    loop {
        let sockets = sockets(directory)?;
        let is_there = |name: &OsString, it: &Attended| sockets.get(name) == Some(&it.stamp);
        let gone: Vec<OsString> = attended
            .iter()
            .filter(|(name, it)| !is_there(name, it))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(it) = attended.remove(&name) {
                it.end().await;
            }
        }
        for (name, stamp) in sockets {
            let socket = directory.join(&name);
            attended
                .entry(name)
                .or_insert_with(|| Attended::begin(socket, stamp, known, told));
        }
        tokio::select! {
            changed = changes.next() => changed?,
            () = told.closed() => return Ok(()),
        }
    }
}

/// What tells one socket from another of its name: its inode and when it was made.
type Stamp = (u64, i64, i64);

/// Sockets of a directory whose names do not begin with a dot.
fn sockets(directory: &Path) -> io::Result<BTreeMap<OsString, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        // It may have gone by now.
        let Ok(about) = fs::metadata(directory.join(&name)) else {
            continue;
        };
        if about.file_type().is_socket() && !name.as_bytes().starts_with(b".") {
            found.insert(name, (about.ino(), about.ctime(), about.ctime_nsec()));
        }
    }
    Ok(found)
}

/// A socket that is there.
struct Attended {
    stamp: Stamp,
    gone: CancellationToken,
    task: JoinHandle<()>,
}

impl Attended {
    fn begin(socket: PathBuf, stamp: Stamp, known: &Known, told: &Told) -> Attended {
        let gone = CancellationToken::new();
        let visit = Visit {
            socket,
            known: known.clone(),
            told: told.clone(),
            name: None,
        };
        let task = tokio::spawn(visit.run(gone.clone()));
        Attended { stamp, gone, task }
    }

    /// It is not there any more, which has been told when this returns.
    async fn end(self) {
        self.gone.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "attending a plugin failed");
        }
    }
}

/// One socket's driver, from its coming to its going.
struct Visit {
    socket: PathBuf,
    known: Known,
    told: Told,
    /// Of the driver, once it was told of.
    name: Option<String>,
}

impl Visit {
    async fn run(mut self, gone: CancellationToken) {
        gone.run_until_cancelled(self.register()).await;
        gone.cancelled().await;
        if let Some(name) = self.name {
            self.known.forget(&name);
            // Whoever listened has gone otherwise.
            let _ = self.told.send(DriverEvent::Gone { name });
        }
    }

    /// Registers the driver, again and again until that is done.
    async fn register(&mut self) {
        let mut wait = RETRY;
        while let Err(why) = self.attempt().await {
            tracing::warn!(socket = %self.socket.display(), "a plugin cannot be registered: {why}");
            if let Some(name) = &self.name {
                self.known.forget(name);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn attempt(&mut self) -> Result<(), String> {
        let registrar = Endpoint(self.socket.clone());
        let socket = self.socket.display().to_string();
        let plugin = registrar.plugin().await.map_err(|error| {
            format!("RegisterPlugin error -- failed to get plugin info using RPC GetInfo at socket {socket}, err: {error}")
        })?;
        let outcome = match plugin.kind.as_str() {
            KIND => {
                let endpoint = plugin.endpoint.trim_start_matches("unix://");
                let endpoint = match endpoint {
                    "" => registrar.clone(),
                    path => Endpoint(path.into()),
                };
                self.welcome(&plugin.name, endpoint, &plugin.versions).await
            }
            kind => Err(format!(
                "RegisterPlugin error -- no handler registered for plugin type: {kind} at socket {socket}"
            )),
        };
        let why = outcome.as_ref().err().map(String::as_str);
        registrar.registered(why).await.map_err(|error| {
            format!("RegisterPlugin error -- failed to send registration status at socket {socket}, err: {error}")
        })?;
        outcome
    }

    async fn welcome(
        &mut self,
        name: &str,
        endpoint: Endpoint,
        versions: &[String],
    ) -> Result<(), String> {
        let refused = |why: String| {
            format!(
                "RegisterPlugin error -- plugin validation failed with err: validation failed for CSI Driver {name} at endpoint {}: {why}",
                endpoint.0.display()
            )
        };
        let version = supported(name, versions).map_err(refused)?;
        let failed = |why: String| {
            format!("RegisterPlugin error -- plugin registration failed with err: {why}")
        };
        if self.name.is_none() {
            self.known
                .add(name, endpoint.clone(), version)
                .map_err(refused)?;
            self.name = Some(name.to_owned());
        } else {
            self.known.renew(name, endpoint.clone(), version);
        }
        let driver = endpoint.node(name).await;
        let driver = driver.map_err(|error| failed(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let event = DriverEvent::Came { driver, answer };
        let nobody = || failed("nobody listens".to_owned());
        self.told.send(event).map_err(|_| nobody())?;
        answered.await.map_err(|_| nobody())?.map_err(failed)
    }
}

/// The highest version that both sides know: one that begins with 1.
fn supported(name: &str, versions: &[String]) -> Result<Version, String> {
    let prefix = format!("kubernetes.io/csi: ValidatePlugin for CSI driver {name:?} failed.");
    if versions.is_empty() {
        return Err(format!(
            "{prefix} Plugin returned an empty list for supported versions"
        ));
    }
    let known = versions.iter().filter_map(|version| parsed(version));
    known
        .filter(|[major, ..]| *major == 1)
        .max()
        .ok_or_else(|| {
            let listed: Vec<String> = versions.iter().map(|v| format!("{v:?}")).collect();
            format!(
                "{prefix} None of the versions specified [{}] are supported.",
                listed.join(" ")
            )
        })
}

fn parsed(version: &str) -> Option<Version> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let mut next = || numbers.next().map(|part| part.parse().ok());
    let [major, minor, patch] = [next(), next(), next()];
    Some([
        major??,
        minor.unwrap_or(Some(0))?,
        patch.unwrap_or(Some(0))?,
    ])
}

/// Tells when something in a directory has changed.
struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Of what happens from now on.
    fn of(directory: &Path) -> io::Result<Changes> {
        let notes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&notes, directory, flags)?;
        #[expect(
            deprecated,
            reason = "the descriptor is owned, so it stays what it is; the successor needs unsafe"
        )]
        AsyncFd::new(notes).map(Changes)
    }

    /// Returns when there was a change.
    ///
    /// # Errors
    /// The directory is another one now, or none.
    async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut room = [MaybeUninit::uninit(); 4096];
            let mut events = Reader::new(ready.get_inner(), &mut room);
            let (mut heard, mut is_gone) = (false, false);
            while let Ok(event) = events.next() {
                heard = true;
                is_gone |= event.file_name().is_none();
            }
            ready.clear_ready();
            if is_gone {
                return Err(io::ErrorKind::NotFound.into());
            }
            if heard {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_that_is_known_counts() {
        let of = |versions: &[&str]| {
            let versions: Vec<String> = versions.iter().map(|v| (*v).to_owned()).collect();
            supported("d", &versions)
        };
        assert_eq!(of(&["1.0.0"]), Ok([1, 0, 0]));
        assert_eq!(of(&["1.2", "0.3.0", "1.11.0", "2.0.0"]), Ok([1, 11, 0]));
        let why = of(&["2.0.0", "x"]).unwrap_err();
        assert!(
            why.ends_with("None of the versions specified [\"2.0.0\" \"x\"] are supported."),
            "{why}"
        );
        assert!(
            of(&[])
                .unwrap_err()
                .ends_with("an empty list for supported versions")
        );
    }
}
