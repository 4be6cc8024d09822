//! Taking exports away, also when the server is gone.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use ports::volumes::VolumeError;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::io;

/// How long a server has to accept a connection before it counts as gone.
const MEETING: Duration = Duration::from_secs(2);
/// How long is waited for the kernel to take leave of a server.
const LEAVING: Duration = Duration::from_secs(5);

/// Takes an export out of the tree. Whatever still waits for a server that is gone fails. The kernel may then wait for the server, to
/// write what is left or to take leave: a thread waits with it, and nobody for that thread.
pub(crate) fn release(point: &Path, server: Option<SocketAddr>) -> Result<(), VolumeError> {
    let (tell, told) = mpsc::channel();
    let place = point.to_owned();
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

fn leave(point: &Path, server: Option<SocketAddr>) -> Result<(), Errno> {
    let flags = UnmountFlags::NOFOLLOW;
    let is_gone =
        server.is_some_and(|server| TcpStream::connect_timeout(&server, MEETING).is_err());
    // Ends what waits, and says whether it was unmounted by that.
    if is_gone && unmount(point, flags | UnmountFlags::FORCE).is_ok() {
        return Ok(());
    }
    unmount(point, flags | UnmountFlags::DETACH)
}
