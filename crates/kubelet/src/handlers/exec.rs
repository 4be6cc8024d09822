//! Running a program in a container and collecting what it says.

use std::time::Duration;

use ports::runtime::ContainerRuntime;
use ports::streams::{ExecRequest, Reader, Session, StreamError};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::MOST_OUTPUT;

/// How long output that is still in the pipes is waited for when a program has ended and left a child that holds them open.
const REST: Duration = Duration::from_millis(100);

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// The first [`MOST_OUTPUT`] bytes of what it wrote to standard output.
    pub(crate) stdout: String,
    /// The first [`MOST_OUTPUT`] bytes of what it wrote to standard error.
    pub(crate) stderr: String,
}

impl Ended {
    /// Both streams, one after the other: the first [`MOST_OUTPUT`] bytes.
    pub(crate) fn output(&self) -> String {
        let mut output = format!("{}{}", self.stdout, self.stderr);
        if output.len() > MOST_OUTPUT {
            output.truncate(output.floor_char_boundary(MOST_OUTPUT));
        }
        output
    }
}

/// Runs a program to its end. Dropping the future hangs up on it.
///
/// # Errors
/// It could not be started, or what became of it is not known.
pub(crate) async fn run(
    runtime: &dyn ContainerRuntime,
    id: &str,
    command: Vec<String>,
) -> Result<Ended, StreamError> {
    let request = ExecRequest {
        command,
        tty: false,
        stdin: false,
        bound: true,
    };
    collect(runtime.exec(id, request).await?, id).await
}

async fn collect(mut session: Session, id: &str) -> Result<Ended, StreamError> {
    let (mut from_out, mut from_err) = (Vec::new(), Vec::new());
    let mut code = None;
    let mut until = None;
    let (mut stdout, mut stderr) = (session.stdout.take(), session.stderr.take());
    let (mut out, mut err) = ([0; 4096], [0; 4096]);
    while code.is_none() || stdout.is_some() || stderr.is_some() {
        tokio::select! {
            n = read(&mut stdout, &mut out) => keep(&mut from_out, &out[..n]),
            n = read(&mut stderr, &mut err) => keep(&mut from_err, &err[..n]),
            exit = &mut session.exit, if code.is_none() => match exit {
                Ok(exit) => {
                    code = Some(exit.code);
                    until = Some(Instant::now() + REST);
                }
                Err(_) => return Err(StreamError::NotRunning { id: id.to_owned() }),
            },
            () = rest(until) => break,
        }
    }
    Ok(Ended {
        code: code.unwrap_or_default(),
        stdout: String::from_utf8_lossy(&from_out).into_owned(),
        stderr: String::from_utf8_lossy(&from_err).into_owned(),
    })
}

/// Ends when what is left in the pipes has been waited for long enough, however much the child goes on to say.
async fn rest(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Reads from a stream that may have ended; takes it away at its end.
async fn read(stream: &mut Option<Reader>, buffer: &mut [u8]) -> usize {
    let Some(reader) = stream else {
        return std::future::pending().await;
    };
    let n = reader.read(buffer).await.unwrap_or(0);
    if n == 0 {
        *stream = None;
    }
    n
}

fn keep(output: &mut Vec<u8>, new: &[u8]) {
    let room = MOST_OUTPUT.saturating_sub(output.len());
    output.extend_from_slice(&new[..new.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use ports::streams::ExitStatus;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_child_that_goes_on_talking_holds_nobody_up() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (sender, exit) = tokio::sync::oneshot::channel();
        let child = tokio::spawn(async move {
            let _ = sender.send(ExitStatus { code: 3 });
            while theirs.write_all(b"word ").await.is_ok() {
                tokio::time::sleep(REST / 4).await;
            }
        });
        let session = Session {
            stdin: None,
            stdout: Some(Box::pin(ours)),
            stderr: None,
            resize: None,
            exit,
        };
        let collected = collect(session, "c");
        let ended = tokio::time::timeout(REST * 3, collected).await;
        let ended = ended.expect("it ends").expect("its end is known");
        assert_eq!(ended.code, 3);
        assert!(ended.stdout.starts_with("word word "), "{}", ended.stdout);
        child.await.expect("it hears that nobody listens");
    }
}
