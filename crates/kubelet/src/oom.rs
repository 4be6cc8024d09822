//! Tells of processes that were killed because the machine itself ran out of memory, by the kernel's log (spec `§12.6`). What a Pod's
//! own limit kills is its containers' affair.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use lifecycle::node_events;
use rustix::fs::OFlags;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

/// More than a record of the kernel's log has.
const RECORD: usize = 8192;

/// Reads the kernel's log from now until `shutdown`, where it can be read.
pub(crate) async fn run(agent: Arc<Agent>, shutdown: CancellationToken) {
    let Some(path) = &agent.config.kernel_log else {
        return;
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        error = follow(&agent, path) => {
            tracing::info!(log = %path.display(), %error, "out-of-memory kills will not be told of");
        }
    }
}

/// Ends with what keeps it from going on.
async fn follow(agent: &Agent, path: &Path) -> io::Error {
    let log = match open(path) {
        Ok(log) => log,
        Err(error) => return error,
    };
    let mut buffer = vec![0; RECORD];
    loop {
        let mut ready = match log.readable().await {
            Ok(ready) => ready,
            Err(error) => return error,
        };
        match ready.try_io(|log| log.get_ref().read(&mut buffer)) {
            Ok(Ok(0)) => return ErrorKind::UnexpectedEof.into(),
            Ok(Ok(length)) => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                for victim in text.lines().filter_map(node_events::oom_victim) {
                    let event = node_events::system_oom(&victim);
                    agent.recorder.record_node(&agent.config.node_name, event);
                }
            }
            // Records were lost, the next ones are there.
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => {}
            Ok(Err(error)) => return error,
            Err(_not_ready) => {}
        }
    }
}

fn open(path: &Path) -> io::Result<AsyncFd<File>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    match log.seek(SeekFrom::End(0)) {
        // A pipe has nothing old.
        Err(error) if error.kind() == ErrorKind::NotSeekable => {}
        sought => drop(sought?),
    }
    #[expect(
        deprecated,
        reason = "the descriptor is owned, so it stays what it is; the successor needs unsafe"
    )]
    AsyncFd::new(log)
}
