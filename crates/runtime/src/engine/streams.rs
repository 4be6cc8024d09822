//! Exec and attach: from descriptors to a [`Session`].

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ports::runtime::{ContainerState, RuntimeError};
use ports::streams::{ExecRequest, ExitStatus, Session, StreamError};
use tokio::sync::oneshot;

use super::container::Container;
use super::link::{Link, LinkError};
use super::session::{Streams, Terminal, reader, writer};
use super::{Inner, assemble};
use crate::wire::{Refusal, Reply, Request};

/// Runs another process in a container.
pub(super) async fn exec(
    inner: &Inner,
    id: &str,
    request: ExecRequest,
) -> Result<Session, StreamError> {
    let container = running(inner, id)?;
    let link = container.sandbox.link().map_err(stream_error(id))?;
    let record = container.record();
    let not_made = |error: RuntimeError| StreamError::Start {
        reason: error.to_string(),
    };
    let seccomp = inner
        .seccomp_program(&record.config.security)
        .map_err(not_made)?;
    let cgroup = inner
        .cgroups
        .container(&container.sandbox.record(), id)
        .entry();
    let hostname = container.sandbox.hostname();
    let ExecRequest {
        command,
        tty,
        stdin,
        bound,
    } = request;
    let spec =
        assemble::exec(&record, &hostname, command, cgroup, seccomp, tty).map_err(not_made)?;
    let name = Inner::new_id();
    let (ended, exit) = oneshot::channel();
    let request = Request::Exec {
        container: id.into(),
        exec: name.clone(),
        spec: Box::new(spec),
        tty,
        stdin,
    };
    let bond = bound.then(|| Bond {
        link: link.clone(),
        exec: name.clone(),
    });
    let answer = link.exec(request, name, ended).await;
    let (_, fds) = answer.map_err(stream_error(id))?;
    let exit = match bond {
        Some(bond) => bond.hold(exit),
        None => exit,
    };
    let streams = if tty {
        terminal(fds, stdin)
    } else {
        pipes(fds, stdin)
    };
    let Streams {
        stdin,
        stdout,
        stderr,
        resize,
    } = streams.map_err(broken)?;
    Ok(Session {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    })
}

/// Kills a process when it is dropped.
struct Bond {
    link: Link,
    exec: String,
}

impl Drop for Bond {
    fn drop(&mut self) {
        // One that has ended, or never was, is not found.
        let exec = std::mem::take(&mut self.exec);
        self.link.tell(Request::EndExec { exec });
    }
}

impl Bond {
    /// Holds on until the process has ended or nobody waits for that any more.
    fn hold(self, ended: oneshot::Receiver<ExitStatus>) -> oneshot::Receiver<ExitStatus> {
        let (mut sender, exit) = oneshot::channel();
        tokio::spawn(async move {
            let bond = self;
            tokio::select! {
                () = sender.closed() => drop(bond),
                ended = ended => {
                    if let Ok(status) = ended {
                        let _ = sender.send(status);
                    }
                    drop(bond);
                }
            }
        });
        exit
    }
}

/// Joins a container's own streams.
pub(super) async fn attach(inner: &Inner, id: &str, stdin: bool) -> Result<Session, StreamError> {
    let container = running(inner, id)?;
    let link = container.sandbox.link().map_err(stream_error(id))?;
    let (reply, fds) = link
        .call(Request::Attach {
            container: id.into(),
            stdin,
        })
        .await
        .map_err(stream_error(id))?;
    let Reply::Attached {
        terminal,
        stdin: has_stdin,
    } = reply
    else {
        return Err(broken(io::ErrorKind::InvalidData.into()));
    };
    let mut fds = fds.into_iter();
    let mut streams = Streams::default();
    let mut take = || {
        fds.next()
            .ok_or(io::ErrorKind::UnexpectedEof.into())
            .map_err(broken)
    };
    if terminal {
        let terminal = Terminal::new(take()?).map_err(broken)?;
        streams.resize = Some(terminal.resizer());
        if stdin {
            streams.stdin = Some(Box::pin(terminal));
        }
    } else if has_stdin {
        let id = id.to_string();
        let ended = Box::new(move || link.tell(Request::StdinEnded { container: id }));
        streams.stdin = Some(writer(take()?, Some(ended)).map_err(broken)?);
    }
    streams.stdout = fds.next().map(reader).transpose().map_err(broken)?;
    streams.stderr = fds.next().map(reader).transpose().map_err(broken)?;
    let Streams {
        stdin,
        stdout,
        stderr,
        resize,
    } = streams;
    Ok(Session {
        stdin,
        stdout,
        stderr,
        resize,
        exit: exit_of(container),
    })
}

fn running(inner: &Inner, id: &str) -> Result<Arc<Container>, StreamError> {
    let container = inner
        .find_container(id)
        .ok()
        .filter(|container| container.is_running());
    container.ok_or_else(|| StreamError::NotRunning { id: id.to_string() })
}

fn pipes(fds: Vec<OwnedFd>, stdin: bool) -> io::Result<Streams> {
    let mut fds = fds.into_iter();
    let mut take = || {
        fds.next()
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    let stdin = if stdin {
        Some(writer(take()?, None)?)
    } else {
        None
    };
    Ok(Streams {
        stdin,
        stdout: Some(reader(take()?)?),
        stderr: Some(reader(take()?)?),
        resize: None,
    })
}

fn terminal(fds: Vec<OwnedFd>, stdin: bool) -> io::Result<Streams> {
    let fd = fds.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof)?;
    let terminal = Terminal::new(fd)?;
    let resize = Some(terminal.resizer());
    let stdin = stdin.then(|| -> ports::streams::Writer { Box::pin(terminal.clone()) });
    Ok(Streams {
        stdin,
        stdout: Some(Box::pin(terminal)),
        stderr: None,
        resize,
    })
}

/// Becomes the container's exit when it has ended; ends with the session.
fn exit_of(container: Arc<Container>) -> oneshot::Receiver<ExitStatus> {
    let (mut sender, exit) = oneshot::channel();
    tokio::spawn(async move {
        let mut ended = container.ended();
        tokio::select! {
            () = sender.closed() => return,
            _ = ended.wait_for(|ended| *ended) => {}
        }
        if let ContainerState::Exited { exit_code, .. } = container.record().state {
            // A session that was dropped meanwhile wants no exit.
            let _ = sender.send(ExitStatus { code: exit_code });
        }
    });
    exit
}

fn broken(source: io::Error) -> StreamError {
    StreamError::Io {
        what: "failed to open streams".into(),
        source,
    }
}

fn stream_error(id: &str) -> impl FnOnce(LinkError) -> StreamError {
    let id = id.to_string();
    move |error| match error {
        LinkError::Refused(Refusal::NotRunning) => StreamError::NotRunning { id },
        LinkError::Refused(Refusal::Launch(reason)) => StreamError::Start { reason },
        error => StreamError::Io {
            what: "failed to ask the Pod's pause".into(),
            source: io::Error::other(error),
        },
    }
}
