//! Starting pauses: the template they are copies of, and what a newborn is told.

use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream as Socket};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use thiserror::Error;
use tokio::net::UnixStream;

use super::link::{self, Connected, LinkError};
use super::lock;
use crate::launch::{self, CgroupEntry, LaunchError, Scratch, protect};
use crate::namespaces::Namespaces;
use crate::wire::{Birth, FrameError, Outgoing, PauseSpec, SOCKET_NAME};

/// A pause that has not come up by then will not.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// A template that has not ended by then, with nothing left to read, will not.
const GONE_WITHIN: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// Digits of a sandbox's id.
const ID_LENGTH: usize = 64;

/// What to execute as the template of pauses: usually the engine's own file, with `pause` as its first argument.
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

/// The process that pauses are copies of ([`crate::pause`]). It is started when it is wanted and not there.
pub(super) struct Template {
    command: PauseCommand,
    /// Of all sandboxes.
    run_dir: PathBuf,
    running: Mutex<Option<Running>>,
}

struct Running {
    socket: Socket,
    process: OwnedFd,
}

impl Template {
    pub(super) fn new(command: PauseCommand, run_dir: PathBuf) -> Self {
        Self {
            command,
            run_dir,
            running: Mutex::default(),
        }
    }

    /// Makes sure that it is there.
    pub(super) fn prepare(&self) -> Result<(), SpawnError> {
        self.running(&mut lock(&self.running)).map(drop)
    }

    /// Ends it, once it has borne those it was asked for. They go on.
    pub(super) fn end(&self) {
        drop(lock(&self.running).take());
    }

    /// Asks for a pause, and does not wait for it.
    fn bear(&self, birth: &Birth, connection: &OwnedFd) -> Result<(), SpawnError> {
        let mut slot = lock(&self.running);
        let asked = self.ask(&mut slot, birth, connection);
        asked.or_else(|_| {
            // It was killed.
            *slot = None;
            self.ask(&mut slot, birth, connection)
        })
    }

    fn ask(
        &self,
        slot: &mut Option<Running>,
        birth: &Birth,
        connection: &OwnedFd,
    ) -> Result<(), SpawnError> {
        let running = self.running(slot)?;
        let mut birth = Outgoing::new(birth, vec![connection.try_clone()?])?;
        birth.send(running.socket.as_fd())?;
        Ok(())
    }

    fn running<'a>(&self, slot: &'a mut Option<Running>) -> Result<&'a Running, SpawnError> {
        let running = match slot.take() {
            Some(running) => running,
            None => Running::start(&self.command, &self.run_dir)?,
        };
        Ok(slot.insert(running))
    }
}

impl Running {
    fn start(command: &PauseCommand, run_dir: &Path) -> Result<Self, SpawnError> {
        // Dropped once it is executed; the process keeps the mount.
        let program = protected(&command.program);
        let path = program.as_ref().map_or_else(
            || command.program.clone(),
            |file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        );
        let place = run_dir.join("-".repeat(ID_LENGTH));
        let args: Vec<OsString> = std::iter::once(command.program.clone().into_os_string())
            .chain(command.args.iter().cloned())
            .chain([place.into_os_string()])
            .collect();
        let (socket, theirs) = Socket::pair()?;
        // It stays in the engine's own cgroups.
        let process = launch::spawn_in(&CgroupEntry::default(), &path, &args, theirs.into())?;
        Ok(Self { socket, process })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        if poll(&mut ended, Some(&GONE_WITHIN)) != Ok(1) {
            let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
        }
        let process = WaitId::PidFd(self.process.as_fd());
        let _ = rustix::process::waitid(process, WaitIdOptions::EXITED);
    }
}

/// Has a pause made inside its cgroup and returns the connection to it. It outlives the engine and the template.
pub(super) fn pause(
    template: &Template,
    cgroup: CgroupEntry,
    run_dir: &Path,
    listener: UnixListener,
    spec: &PauseSpec,
    scratch: &Scratch,
    namespaces: Option<Namespaces>,
) -> Result<UnixStream, SpawnError> {
    let (stream, theirs) = Socket::pair()?;
    let mut fds = vec![scratch.as_fd().try_clone_to_owned()?, listener.into()];
    fds.extend(namespaces.into_iter().flat_map(Namespaces::into_fds));
    // Both lie there for the newborn to read: one that fails has gone before anything could be sent to it.
    Outgoing::new(spec, fds)?.send(stream.as_fd())?;
    link::hello()?.send(stream.as_fd())?;
    let birth = Birth {
        run_dir: run_dir.to_owned(),
        cgroup,
    };
    template.bear(&birth, &theirs.into())?;
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

/// Where later engines connect. It is there before the pause is: an engine that comes just after this one was killed waits for a pause
/// that is about to be born, and is refused when there will be none.
pub(super) fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    let directory = link::directory(run_dir)?;
    let listener = UnixListener::bind(link::short_path(&directory))?;
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::chmodat(&directory, SOCKET_NAME, mode, AtFlags::empty())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
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
