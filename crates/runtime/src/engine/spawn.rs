//! Starting a pause.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::link::{self, Connected, LinkError};
use crate::launch::{self, CgroupEntry, LaunchError, Scratch, protect};
use crate::namespaces::Namespaces;
use crate::wire::{FrameError, Outgoing, PauseSpec};

/// A pause that has not come up by then will not.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What to execute as pause: usually the engine's own file, with `pause` as its first argument.
#[derive(Debug, Clone)]
pub struct PauseCommand {
    /// Path of the program.
    pub program: PathBuf,
    /// Arguments before the run directory.
    pub args: Vec<OsString>,
}

/// Why a pause did not come up.
#[derive(Debug, Error)]
pub(crate) enum SpawnError {
    #[error("{0}")]
    Prepare(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("not ready after {} s", READY_WITHIN.as_secs())]
    TimedOut,
}

/// Starts a pause inside its cgroup and returns the connection to it. It inherits the working directory and goes to its run directory
/// by itself. It outlives the engine; as long as the engine lives, a task waits to reap it.
pub(crate) fn pause(
    command: &PauseCommand,
    cgroup: &CgroupEntry,
    run_dir: &Path,
    spec: &PauseSpec,
    scratch: &Scratch,
    namespaces: Option<Namespaces>,
) -> Result<UnixStream, SpawnError> {
    // Dropped once it is executed; the process keeps the mount.
    let program = protected(&command.program);
    let path = program.as_ref().map_or_else(
        || command.program.clone(),
        |file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
    );
    let args: Vec<OsString> = std::iter::once(command.program.clone().into_os_string())
        .chain(command.args.iter().cloned())
        .chain([run_dir.as_os_str().to_owned()])
        .collect();
    let (stream, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut fds = vec![scratch.as_fd().try_clone_to_owned()?];
    fds.extend(namespaces.into_iter().flat_map(Namespaces::into_fds));
    // Both lie there for the newborn to read: one that fails has gone before anything could be sent to it.
    Outgoing::new(spec, fds)?.send(stream.as_fd())?;
    link::hello()?.send(stream.as_fd())?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    reap(launch::spawn_in(cgroup, &path, &args, theirs.into())?)?;
    Ok(stream)
}

/// Reaps a process at its end. If that cannot be awaited, it is ended.
fn reap(process: OwnedFd) -> io::Result<()> {
    // SAFETY: an OwnedFd names the same open file until it is dropped, which `AsyncFd` does after deregistering.
    let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    match watched {
        Ok(process) => {
            tokio::spawn(async move {
                // A pidfd is readable once its process has ended.
                if process.readable().await.is_ok() {
                    collect(process.get_ref());
                }
            });
            Ok(())
        }
        Err(error) => {
            let (process, error) = error.into_parts();
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
            collect(&process);
            Err(error)
        }
    }
}

fn collect(process: &OwnedFd) {
    let _ = rustix::process::waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
}

/// Returns once a pause is up.
pub(crate) async fn up(stream: UnixStream) -> Result<Connected, SpawnError> {
    match tokio::time::timeout(READY_WITHIN, link::greeted(stream)).await {
        Ok(greeted) => Ok(greeted?),
        Err(_) => Err(SpawnError::TimedOut),
    }
}

/// The program out of containers' reach, where the kernel can do that.
fn protected(program: &Path) -> Option<OwnedFd> {
    protect::readonly_file(program)
        .inspect_err(|error| tracing::warn!(%error, "containers could reach the engine's file"))
        .ok()
}
