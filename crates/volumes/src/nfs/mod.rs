//! Exports of file servers (NFS), mounted by the kernel's own client without a program beside: the server's name is resolved here, and
//! a connection tried, before the kernel is asked.
//!
//! The kernel waits for servers as long as it likes, so a thread of its own asks it for a mount that is attached nowhere. Whoever
//! gives up waiting has that mount end where it was made. The mount table is the record: what is mounted there stays.

mod client;
mod options;
mod release;

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::volumes::{NfsExport, VolumeError};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::layout::make_dir;
use crate::{blocking, io, kernel};
use client::{Refusal, Request};
use options::Options;

pub(crate) use options::PORT;
pub(crate) use release::{fail, release};

/// How long a name may take to be resolved, and a server to be met.
const MEETING: Duration = Duration::from_secs(10);
/// How long a server that was met may take to answer.
const ANSWERING: Duration = Duration::from_secs(60);

/// Where the kernel is being asked for a mount.
#[derive(Clone, Default)]
pub(crate) struct Asking(Arc<Mutex<HashSet<PathBuf>>>);

/// Held while the kernel is being asked.
struct Turn(Asking, PathBuf);

impl Asking {
    fn begin(&self, place: &Path) -> Option<Turn> {
        let mut asking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = asking.insert(place.to_owned());
        is_first.then(|| Turn(self.clone(), place.to_owned()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut asking = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        asking.remove(&self.1);
    }
}

/// Why a version of an address is not mounted.
enum Failure {
    /// Nobody was met there.
    Unmet(String),
    Refused(Refusal),
}

impl Failure {
    fn text(&self) -> String {
        match self {
            Failure::Unmet(why) => why.clone(),
            Failure::Refused(refusal) => refusal.text(),
        }
    }

    /// Whether another version may do better.
    fn is_of_version(&self) -> bool {
        match self {
            Failure::Unmet(_) => true,
            Failure::Refused(refusal) => refusal.is_of_version(),
        }
    }

    /// Of two, the one that says more.
    fn or(self, later: Failure) -> Failure {
        let says_little = self.is_of_version() && matches!(later, Failure::Refused(_));
        if says_little { later } else { self }
    }
}

/// Mounts an export at `place`, unless something is mounted there.
///
/// # Errors
/// [`VolumeError::Nfs`] with what mount.nfs would say, within a bounded time.
pub(crate) async fn ensure(
    place: PathBuf,
    export: &NfsExport,
    asking: &Asking,
) -> Result<PathBuf, VolumeError> {
    let prepared = place.clone();
    let is_there = blocking(move || {
        make_dir(&prepared, 0o750)?;
        kernel::Mounts::now()?.has(&prepared)
    });
    if is_there.await? {
        return Ok(place);
    }
    let mounted = mounted(&place, export, asking).await;
    let mounted = mounted.map_err(|why| VolumeError::Nfs {
        reason: format!("mount failed: {}: {why}", source(export)),
    })?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mounted, "", CWD, &place, flags)
        .map_err(|errno| io(|| format!("attach {}", place.display()))(errno.into()))?;
    Ok(place)
}

/// Server and path as the mount table has them.
fn source(export: &NfsExport) -> String {
    let NfsExport { server, path, .. } = export;
    match server.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{server}]:{path}"),
        Err(_) => format!("{server}:{path}"),
    }
}

/// The export as a mount that is attached nowhere: of the best version that the server has.
async fn mounted(place: &Path, export: &NfsExport, asking: &Asking) -> Result<OwnedFd, String> {
    let options = Options::parse(&export.options, export.is_read_only)?;
    let addresses = resolved(&export.server).await?;
    let mut met = BTreeMap::new();
    let mut failure: Option<Failure> = None;
    for version in options.versions() {
        for address in &addresses {
            let own = match options.port(&version) {
                None => Ok(None),
                Some(port) => meet(&mut met, SocketAddr::new(*address, port)).await,
            };
            let request = own.map(|own| Request {
                source: source(export),
                told: options.told(&version, *address, own),
                attributes: options.attributes,
            });
            let mounted = match request {
                Ok(request) => ask(place, request, asking).await?,
                Err(unmet) => Err(Failure::Unmet(unmet)),
            };
            let failed = match mounted {
                Ok(mounted) => return Ok(mounted),
                Err(failed) => failed,
            };
            let goes_on = failed.is_of_version();
            let so_far = match failure.take() {
                Some(earlier) => earlier.or(failed),
                None => failed,
            };
            if !goes_on {
                return Err(so_far.text());
            }
            failure = Some(so_far);
        }
    }
    Err(failure.map_or_else(String::new, |failure| failure.text()))
}

async fn resolved(server: &str) -> Result<Vec<IpAddr>, String> {
    let looked_up = timeout(MEETING, tokio::net::lookup_host((server, 0))).await;
    let failed = |why: String| format!("Failed to resolve server {server}: {why}");
    let looked_up = looked_up.map_err(|_| failed("no name server answers".to_owned()))?;
    let found = looked_up.map_err(|error| failed(error.to_string()))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// Sees whether a server accepts connections; each is asked once. Returns the address it sees of this machine.
async fn meet(
    met: &mut BTreeMap<SocketAddr, Result<Option<IpAddr>, String>>,
    server: SocketAddr,
) -> Result<Option<IpAddr>, String> {
    if let Some(known) = met.get(&server) {
        return known.clone();
    }
    let own = match timeout(MEETING, TcpStream::connect(server)).await {
        Ok(Ok(stream)) => Ok(stream.local_addr().ok().map(|own| own.ip())),
        Ok(Err(error)) => Err(format!("{server} cannot be reached: {error}")),
        Err(_) => Err(format!(
            "{server} cannot be reached: no answer in {} s",
            MEETING.as_secs()
        )),
    };
    met.insert(server, own.clone());
    own
}

/// Has the kernel make a mount, and waits for that within bounds.
async fn ask(
    place: &Path,
    request: Request,
    asking: &Asking,
) -> Result<Result<OwnedFd, Failure>, String> {
    let Some(turn) = asking.begin(place) else {
        return Err("the server has still not answered an earlier request".to_owned());
    };
    let (tell, told) = oneshot::channel();
    let asked = std::thread::Builder::new()
        .name("nfs".to_owned())
        .spawn(move || {
            let mounted = client::mount(&request);
            drop(turn);
            // Without a listener the mount ends here.
            let _ = tell.send(mounted);
        });
    asked.map_err(|error| format!("start a thread: {error}"))?;
    match timeout(ANSWERING, told).await {
        Ok(Ok(mounted)) => Ok(mounted.map_err(Failure::Refused)),
        Ok(Err(_)) => Err("the thread that mounts has ended".to_owned()),
        Err(_) => Err(format!(
            "the server accepts connections and has not answered in {} s",
            ANSWERING.as_secs()
        )),
    }
}
