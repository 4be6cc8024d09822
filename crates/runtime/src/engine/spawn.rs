//! Starting a pause.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::launch::protect;
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
    #[error("pause did not come up: {0}")]
    Failed(String),
}

/// A pause that was started and may not listen yet.
pub(crate) struct Starting {
    child: Child,
    pid: u32,
}

/// Starts a pause. It inherits the working directory, since the standard library forks to change it, and a fork copies the engine's
/// page tables; pause goes to its run directory by itself.
pub(crate) fn pause(command: &PauseCommand, run_dir: &Path) -> Result<Starting, SpawnError> {
    // Dropped once it is executed; the process keeps the mount.
    let program = protected(&command.program);
    let path = program.as_ref().map_or_else(
        || command.program.clone(),
        |file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
    );
    let child = Command::new(path)
        .arg0(&command.program)
        .args(&command.args)
        .arg(run_dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(SpawnError::Execute)?;
    let pid = child
        .id()
        .ok_or_else(|| SpawnError::Failed("it ended without a word".into()))?;
    Ok(Starting { child, pid })
}

impl Starting {
    /// Its PID; with a PID namespace of its own, a child of it will serve.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns once it listens. To be run to its end: a pause must not die with the task that started it.
    pub(crate) async fn up(&mut self) -> Result<(), SpawnError> {
        let outcome = match tokio::time::timeout(READY_WITHIN, ready(&mut self.child)).await {
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
            let _ = self.child.start_kill();
        }
        outcome
    }

    /// Lets go of it. It outlives the engine; as long as the engine lives, somebody has to reap it.
    pub(crate) fn leave(mut self) {
        tokio::spawn(async move { self.child.wait().await });
    }
}

/// The program out of containers' reach, where the kernel can do that.
fn protected(program: &Path) -> Option<OwnedFd> {
    protect::readonly_file(program)
        .inspect_err(|error| tracing::warn!(%error, "containers could reach the engine's file"))
        .ok()
}

async fn ready(child: &mut Child) -> io::Result<Ready> {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::with_capacity(512, stdout)
            .read_line(&mut line)
            .await?;
    }
    if line.is_empty() {
        return Err(io::Error::other("it ended without a word"));
    }
    Ok(serde_json::from_str(&line)?)
}
