//! Starting a pause.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

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

/// Starts a pause and returns once it listens. To be run to its end: a pause must not die with the task that started it.
pub(crate) async fn pause(command: &PauseCommand, run_dir: &Path) -> Result<(), SpawnError> {
    let mut child = Command::new(&command.program)
        .args(&command.args)
        .arg(run_dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(SpawnError::Execute)?;
    let outcome = match tokio::time::timeout(READY_WITHIN, ready(&mut child)).await {
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
        let _ = child.start_kill();
    }
    // It outlives the engine; as long as the engine lives, somebody has to reap it.
    tokio::spawn(async move { child.wait().await });
    outcome
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
