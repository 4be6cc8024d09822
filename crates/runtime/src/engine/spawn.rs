//! Starting a pause.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::pipe::PipeFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, BufReader, Interest};
use tokio::net::unix::pipe::Receiver;

use crate::launch::{self, CgroupEntry, LaunchError, protect};
use crate::wire::Ready;

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
    #[error("failed to execute pause")]
    Execute(#[source] io::Error),
    #[error("failed to start pause")]
    Launch(#[from] LaunchError),
    #[error("pause did not come up: {0}")]
    Failed(String),
}

/// A pause that was started and may not listen yet.
pub(crate) struct Starting {
    process: AsyncFd<OwnedFd>,
    stdout: Receiver,
}

/// Starts a pause inside its cgroup. It inherits the working directory and goes to its run directory by itself.
pub(crate) fn pause(
    command: &PauseCommand,
    cgroup: &CgroupEntry,
    run_dir: &Path,
) -> Result<Starting, SpawnError> {
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
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| SpawnError::Execute(error.into()))?;
    let (_, process) = launch::spawn_in(cgroup, &path, &args, write)?;
    // SAFETY: an OwnedFd names the same open file until it is dropped, which `AsyncFd` does after deregistering.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    Ok(Starting {
        process: process.map_err(|error| SpawnError::Execute(error.into()))?,
        stdout: Receiver::from_owned_fd(read).map_err(SpawnError::Execute)?,
    })
}

impl Starting {
    /// Returns once it listens. To be run to its end: a pause must not die with the task that started it.
    pub(crate) async fn up(&mut self) -> Result<(), SpawnError> {
        let outcome = match tokio::time::timeout(READY_WITHIN, ready(&mut self.stdout)).await {
            Ok(Ok(Ready::Listening { .. })) => Ok(()),
            Ok(Ok(Ready::Failed { reason })) => Err(SpawnError::Failed(reason)),
            Ok(Err(error)) => Err(SpawnError::Failed(error.to_string())),
            Err(_) => Err(SpawnError::Failed(format!(
                "not ready after {} s",
                READY_WITHIN.as_secs()
            ))),
        };
        if outcome.is_err() {
            // It may have ended by itself.
            let _ = rustix::process::pidfd_send_signal(self.process.get_ref(), Signal::KILL);
        }
        outcome
    }

    /// Lets go of it. It outlives the engine; as long as the engine lives, somebody has to reap it.
    pub(crate) fn leave(self) {
        tokio::spawn(async move {
            // A pidfd is readable once its process has ended.
            if self.process.readable().await.is_ok() {
                let ended = WaitId::PidFd(self.process.get_ref().as_fd());
                let _ = rustix::process::waitid(ended, WaitIdOptions::EXITED);
            }
        });
    }
}

/// The program out of containers' reach, where the kernel can do that.
fn protected(program: &Path) -> Option<OwnedFd> {
    protect::readonly_file(program)
        .inspect_err(|error| tracing::warn!(%error, "containers could reach the engine's file"))
        .ok()
}

async fn ready(stdout: &mut Receiver) -> io::Result<Ready> {
    let mut line = String::new();
    BufReader::with_capacity(512, stdout)
        .read_line(&mut line)
        .await?;
    if line.is_empty() {
        return Err(io::Error::other("it ended without a word"));
    }
    Ok(serde_json::from_str(&line)?)
}
