//! Taking exports away, also when the server is gone.
//!
//! Mounts of one file system wait for its server together, so what waits is made to fail only where nobody else has it mounted.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use ports::volumes::VolumeError;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::io;
use crate::kernel::{MountPoint, Mounts, Served};

/// How long a server has to accept a connection before it counts as gone.
const MEETING: Duration = Duration::from_secs(2);
/// How long is waited for the kernel to take leave of a server.
const LEAVING: Duration = Duration::from_secs(5);

/// Takes an export out of the tree, and has what waits for a server that is gone fail, unless the export is mounted elsewhere. The kernel
/// may then wait for the server, to write what is left or to take leave: a thread waits with it, and nobody for that thread.
pub(crate) fn release(
    point: &Path,
    served: &Served,
    elsewhere: &[MountPoint<'_>],
) -> Result<(), VolumeError> {
    let (tell, told) = mpsc::channel();
    let place = point.to_owned();
    let server = served.server.filter(|_| !is_among(served, elsewhere));
    let failed = || format!("unmount {}", point.display());
    let asked = std::thread::Builder::new()
        .name("nfs".to_owned())
        .spawn(move || tell.send(leave(&place, server)));
    asked.map_err(io(failed))?;
    match told.recv_timeout(MEETING + LEAVING) {
        Ok(left) => left.map_err(|errno| io(failed)(errno.into())),
        // It is out of the tree, of which the caller makes sure.
        Err(_) => Ok(()),
    }
}

/// Whether mounts of an export are among these.
fn is_among(served: &Served, points: &[MountPoint<'_>]) -> bool {
    let mut others = points.iter().filter_map(MountPoint::served);
    others.any(|other| other.device == served.device)
}

fn leave(point: &Path, server: Option<SocketAddr>) -> Result<(), Errno> {
    let flags = UnmountFlags::NOFOLLOW;
    // Ends what waits, and says whether it was unmounted by that.
    if server.is_some_and(is_gone) && unmount(point, flags | UnmountFlags::FORCE).is_ok() {
        return Ok(());
    }
    unmount(point, flags | UnmountFlags::DETACH)
}

fn is_gone(server: SocketAddr) -> bool {
    TcpStream::connect_timeout(&server, MEETING).is_err()
}

/// Has what waits for servers that are gone fail, where exports are mounted below `pod` and nowhere but below `given_up`.
pub(crate) fn fail(pod: &Path, given_up: &BTreeSet<PathBuf>) -> Result<(), VolumeError> {
    let pod = pod
        .canonicalize()
        .map_err(io(|| format!("resolve {}", pod.display())))?;
    let mounts = Mounts::now()?;
    // Of those that are gone nothing is mounted.
    let given_up = given_up.iter().flat_map(|dir| dir.canonicalize());
    let given_up: Vec<PathBuf> = given_up.collect();
    let goes_on = |point: &MountPoint<'_>| !given_up.iter().any(|dir| point.is_below(dir));
    let elsewhere: Vec<MountPoint<'_>> = mounts.points().filter(goes_on).collect();
    let mut seen = BTreeSet::new();
    for point in mounts.below(&pod) {
        let Some(served) = point.served() else {
            continue;
        };
        let is_ours = !is_among(&served, &elsewhere);
        let server = served.server;
        if seen.insert(served.device) && is_ours && server.is_some_and(is_gone) {
            fail_one(&point.path)?;
        }
    }
    Ok(())
}

/// The call that makes requests fail also unmounts what nobody has open.
fn fail_one(point: &Path) -> Result<(), VolumeError> {
    let held = openat(CWD, point, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let held = held.map_err(|errno| io(|| format!("open {}", point.display()))(errno.into()))?;
    let failed = unmount(point, UnmountFlags::NOFOLLOW | UnmountFlags::FORCE);
    drop(held);
    match failed {
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(errno) => Err(io(|| format!("unmount {}", point.display()))(errno.into())),
    }
}
