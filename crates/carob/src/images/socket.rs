//! The engine's socket: for root alone, there while the engine serves.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Service;

const NAME: &str = "engine.sock";
/// Rest after a connection could not be accepted.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// The listening socket; its file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens in the run directory. The caller holds the engine's lock, so a socket that is there is a dead engine's.
    pub(crate) fn bind(run: &Path) -> io::Result<Socket> {
        let path = run.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (_directory, short) = shortened(run)?;
        let listener = UnixListener::bind(short)?;
        let socket = Socket { listener, path };
        fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    /// Serves until told to end, and then breaks off what is under way.
    pub(crate) async fn serve(self, service: Arc<Service>, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if is_ours(&stream) => {
                        connections.spawn(service.clone().serve(stream));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the image service failed");
                        // Descriptors have run out; the connection still waits, and accepting would fail at once again.
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove {}", self.path.display());
        }
    }
}

/// Connects to the engine, if one listens.
pub(super) async fn connect(run: &Path) -> io::Result<Option<UnixStream>> {
    let connected = match shortened(run) {
        Ok((_directory, short)) => UnixStream::connect(short).await,
        Err(error) => Err(error),
    };
    match connected {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The user who made the socket, whatever the file's mode was a moment ago.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}

/// The socket's path by way of its open directory: an address holds 107 bytes, and a root may be longer.
fn shortened(run: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(run, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
    Ok((directory, path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_private_and_goes_with_its_owner() {
        let root = tempfile::tempdir().expect("a directory");
        let run = root.path().join("r".repeat(120));
        assert!(connect(&run).await.expect("no directory").is_none());
        fs::create_dir(&run).expect("makes");
        assert!(connect(&run).await.expect("no socket").is_none());
        let dead = Socket::bind(&run).expect("binds");
        let socket = Socket::bind(&run).expect("takes a dead one's place");
        let mode = fs::metadata(run.join(NAME))
            .expect("is there")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let stream = connect(&run).await.expect("connects").expect("listens");
        assert!(is_ours(&stream));
        drop(socket);
        assert!(connect(&run).await.expect("gone").is_none());
        drop(dead);
    }
}
