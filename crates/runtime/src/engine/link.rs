//! The engine's end of a pause's socket: one task per sandbox that owns the connection.
//!
//! Callers send commands over a channel and wait for the answer on a oneshot; the channel needs no bound of its own, since a caller
//! waits for its answer before it asks again. Whoever stops waiting loses the answer, not the connection. What changes state (replies
//! and events) is applied by this task, in the order pause sent it: a start is known before the exit that follows it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ports::streams::ExitStatus;
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::wire::{
    Call, ContainerReport, Event, ExitRecord, FrameError, Incoming, Message, Outgoing, Refusal,
    Reply, Request, SOCKET_NAME, VERSION,
};

/// A pause that has not answered by then hangs in the kernel; the kubelet's `runtimeRequestTimeout`.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);

/// Why a question to pause has no answer.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// Pause would not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Pause is gone.
    #[error("the Pod's pause is gone")]
    Gone,
    /// Pause is there and says nothing.
    #[error("no answer from the Pod's pause after {} s", ANSWER_WITHIN.as_secs())]
    TimedOut,
    /// Pause could not be reached.
    #[error("failed to connect to the Pod's pause")]
    Connect(#[source] io::Error),
    /// Pause does not keep to the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// An answer with its descriptors.
pub(crate) type Answer = Result<(Reply, Vec<OwnedFd>), LinkError>;
/// Applied by the connection's task before anything that pause said later.
type Apply = Box<dyn FnOnce(&Result<Reply, Refusal>) + Send>;

enum Command {
    Call {
        request: Request,
        fds: Vec<OwnedFd>,
        apply: Option<Apply>,
        answer: oneshot::Sender<Answer>,
    },
    Exec {
        request: Request,
        name: String,
        exit: oneshot::Sender<ExitStatus>,
        answer: oneshot::Sender<Answer>,
    },
    Tell(Request),
}

/// What the connection's task reports.
pub(crate) trait Listener: Send + Sync + 'static {
    /// A container ended. The exit is acknowledged to pause when this returns `true`.
    fn exited(&self, exit: &ExitRecord) -> bool;
    /// A container's log file has become large.
    fn log_grown(&self, container: &str, bytes: u64);
    /// The connection ended.
    fn lost(&self);
}

/// A handle to the connection; cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    commands: mpsc::UnboundedSender<Command>,
}

/// What a pause said when it was connected to.
pub(crate) struct Welcome {
    pub(crate) containers: Vec<ContainerReport>,
    pub(crate) netns: Option<OwnedFd>,
}

/// A connection that is made but not yet served.
pub(crate) struct Connected {
    stream: UnixStream,
    incoming: Incoming,
    /// Exits that were told while waiting for the answer to Hello are in that answer.
    pub(crate) welcome: Welcome,
}

impl Connected {
    /// To a pause that is new, and will answer [`hello`] in its time; a refusal comes as the connection's end.
    pub(crate) fn unheard(stream: UnixStream, netns: OwnedFd) -> Self {
        Self {
            stream,
            incoming: Incoming::default(),
            welcome: Welcome {
                containers: Vec::new(),
                netns: Some(netns),
            },
        }
    }
}

/// Connects to the pause of a run directory and asks for its state.
pub(crate) async fn connect(run_dir: &Path) -> Result<Connected, LinkError> {
    let stream = open(run_dir).await.map_err(LinkError::Connect)?;
    let mut hello = hello()?;
    stream
        .async_io(Interest::WRITABLE, || hello.send(stream.as_fd()))
        .await
        .map_err(LinkError::Connect)?;
    within(greeted(stream)).await
}

async fn within<T>(answered: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, answered).await;
    answered.unwrap_or(Err(LinkError::TimedOut))
}

/// The first call on every connection.
pub(crate) fn hello() -> Result<Outgoing, FrameError> {
    let hello = Call {
        number: 0,
        request: Request::Hello { version: VERSION },
    };
    Outgoing::new(&hello, Vec::new())
}

/// Waits for the answer to [`hello`], which was sent.
pub(crate) async fn greeted(stream: UnixStream) -> Result<Connected, LinkError> {
    let mut incoming = Incoming::default();
    loop {
        while let Some((message, fds)) = incoming.pop::<Message>()? {
            if let Message::Reply { number: 0, outcome } = message {
                let Reply::State { containers, .. } = outcome? else {
                    return Err(LinkError::Gone);
                };
                let welcome = Welcome {
                    containers,
                    netns: fds.into_iter().next(),
                };
                return Ok(Connected {
                    stream,
                    incoming,
                    welcome,
                });
            }
        }
        if receive(&stream, &mut incoming)
            .await
            .map_err(LinkError::Connect)?
            == 0
        {
            return Err(LinkError::Gone);
        }
    }
}

async fn open(run_dir: &Path) -> io::Result<UnixStream> {
    let directory = directory(run_dir)?;
    UnixStream::connect(short_path(&directory)).await
}

/// A run directory, for [`short_path`].
pub(super) fn directory(run_dir: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(run_dir, flags, Mode::empty())?)
}

/// The path of a pause's socket by a descriptor of its run directory, since a socket's path holds 108 bytes.
pub(super) fn short_path(directory: &OwnedFd) -> String {
    let number = std::os::fd::AsRawFd::as_raw_fd(directory);
    format!("/proc/self/fd/{number}/{SOCKET_NAME}")
}

async fn receive(stream: &UnixStream, incoming: &mut Incoming) -> io::Result<usize> {
    stream
        .async_io(Interest::READABLE, || incoming.receive(stream.as_fd()))
        .await
}

impl Link {
    /// Serves a connection in a task of its own, which ends with the connection or the last handle.
    pub(crate) fn serve<L: Listener>(connected: Connected, listener: L) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let served = Served {
            stream: connected.stream,
            incoming: connected.incoming,
            inbox,
            outgoing: Default::default(),
            next_number: 1,
            waiting: BTreeMap::new(),
            execs: BTreeMap::new(),
            listener,
        };
        tokio::spawn(served.run());
        Self { commands }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call(&self, request: Request) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.ask(
            Command::Call {
                request,
                fds: Vec::new(),
                apply: None,
                answer,
            },
            answered,
        )
        .await
    }

    /// Asks, with descriptors that ride along, lets `apply` see the outcome before anything that pause says after it, and waits for the answer.
    pub(crate) async fn call_applied(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
        apply: Apply,
    ) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.ask(
            Command::Call {
                request,
                fds,
                apply: Some(apply),
                answer,
            },
            answered,
        )
        .await
    }

    /// Asks for an exec named `name`; its exit goes to `exit`.
    pub(crate) async fn exec(
        &self,
        request: Request,
        name: String,
        exit: oneshot::Sender<ExitStatus>,
    ) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.ask(
            Command::Exec {
                request,
                name,
                exit,
                answer,
            },
            answered,
        )
        .await
    }

    /// Says something whose answer does not matter.
    pub(crate) fn tell(&self, request: Request) {
        // A gone pause has nobody to tell.
        let _ = self.commands.send(Command::Tell(request));
    }

    async fn ask(&self, command: Command, answered: oneshot::Receiver<Answer>) -> Answer {
        self.commands.send(command).map_err(|_| LinkError::Gone)?;
        within(async { answered.await.unwrap_or(Err(LinkError::Gone)) }).await
    }
}

/// A caller that waits.
struct Waiting {
    apply: Option<Apply>,
    answer: oneshot::Sender<Answer>,
    /// The exec that does not come to be if this is refused.
    exec: Option<String>,
}

/// What came of one step.
enum Step {
    Continue,
    /// Nobody holds a handle any more; pause goes on alone.
    Released,
    /// Pause is gone.
    Gone,
}

struct Served<L> {
    stream: UnixStream,
    incoming: Incoming,
    inbox: mpsc::UnboundedReceiver<Command>,
    outgoing: std::collections::VecDeque<Outgoing>,
    next_number: u64,
    waiting: BTreeMap<u64, Waiting>,
    execs: BTreeMap<String, oneshot::Sender<ExitStatus>>,
    listener: L,
}

impl<L: Listener> Served<L> {
    async fn run(mut self) {
        let lost = loop {
            match self.step().await {
                Ok(Step::Continue) => {}
                Ok(Step::Released) => break false,
                Ok(Step::Gone) | Err(_) => break true,
            }
        };
        // Callers that wait learn it from their dropped channels, after the state says so.
        if lost {
            self.listener.lost();
        }
    }

    async fn step(&mut self) -> Result<Step, LinkError> {
        while let Some((message, fds)) = self.incoming.pop::<Message>()? {
            self.heard(message, fds);
        }
        let sending = !self.outgoing.is_empty();
        tokio::select! {
            got = receive(&self.stream, &mut self.incoming) => match got.map_err(LinkError::Connect)? {
                0 => Ok(Step::Gone),
                _ => Ok(Step::Continue),
            },
            sent = send(&self.stream, self.outgoing.front_mut()), if sending => {
                sent.map_err(LinkError::Connect)?;
                self.outgoing.pop_front();
                Ok(Step::Continue)
            }
            command = self.inbox.recv() => match command {
                Some(command) => {
                    self.command(command);
                    Ok(Step::Continue)
                }
                None => Ok(Step::Released),
            },
        }
    }

    fn command(&mut self, command: Command) {
        let (request, fds, waiting) = match command {
            Command::Call {
                request,
                fds,
                apply,
                answer,
            } => (
                request,
                fds,
                Some(Waiting {
                    apply,
                    answer,
                    exec: None,
                }),
            ),
            Command::Exec {
                request,
                name,
                exit,
                answer,
            } => {
                self.execs.insert(name.clone(), exit);
                (
                    request,
                    Vec::new(),
                    Some(Waiting {
                        apply: None,
                        answer,
                        exec: Some(name),
                    }),
                )
            }
            Command::Tell(request) => (request, Vec::new(), None),
        };
        let number = self.next_number;
        self.next_number += 1;
        match Outgoing::new(&Call { number, request }, fds) {
            Ok(message) => {
                self.outgoing.push_back(message);
                if let Some(waiting) = waiting {
                    self.waiting.insert(number, waiting);
                }
            }
            Err(error) => {
                if let Some(waiting) = waiting {
                    let _ = waiting.answer.send(Err(error.into()));
                }
            }
        }
    }

    fn heard(&mut self, message: Message, fds: Vec<OwnedFd>) {
        match message {
            Message::Reply { number, outcome } => {
                let Some(waiting) = self.waiting.remove(&number) else {
                    if let (0, Err(refusal)) = (number, outcome) {
                        tracing::warn!(%refusal, "a Pod's pause refused");
                    }
                    return;
                };
                if let (Some(name), Err(_)) = (&waiting.exec, &outcome) {
                    self.execs.remove(name);
                }
                if let Some(apply) = waiting.apply {
                    apply(&outcome);
                }
                // A caller that stopped waiting drops the descriptors: an exec's client has hung up.
                let _ = waiting.answer.send(
                    outcome
                        .map(|reply| (reply, fds))
                        .map_err(LinkError::Refused),
                );
            }
            Message::Event(Event::Exited(exit)) => {
                if self.listener.exited(&exit) {
                    self.command(Command::Tell(Request::Acknowledge {
                        container: exit.container,
                    }));
                }
            }
            Message::Event(Event::LogGrown { container, bytes }) => {
                self.listener.log_grown(&container, bytes);
            }
            Message::Event(Event::ExecExited { exec, code }) => {
                if let Some(exit) = self.execs.remove(&exec) {
                    let _ = exit.send(ExitStatus { code });
                }
            }
        }
    }
}

async fn send(stream: &UnixStream, message: Option<&mut Outgoing>) -> io::Result<()> {
    let Some(message) = message else {
        return Ok(());
    };
    stream
        .async_io(Interest::WRITABLE, || message.send(stream.as_fd()))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Listener for Nobody {
        fn exited(&self, _: &ExitRecord) -> bool {
            true
        }

        fn log_grown(&self, _: &str, _: u64) {}

        fn lost(&self) {}
    }

    /// Time stands still but when everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_pause_that_says_nothing_is_given_up() {
        let (stream, silent) = UnixStream::pair().expect("a pair");
        let netns = std::fs::File::open("/proc/self/ns/net").expect("opens");
        let link = Link::serve(Connected::unheard(stream, netns.into()), Nobody);
        let container = "c".to_owned();
        let answer = link.call(Request::Acknowledge { container }).await;
        let error = answer.expect_err("no answer").to_string();
        assert_eq!(error, "no answer from the Pod's pause after 120 s");
        drop(silent);
        let container = "c".to_owned();
        let answer = link.call(Request::Acknowledge { container }).await;
        let error = answer.expect_err("no answer").to_string();
        assert_eq!(error, "the Pod's pause is gone");
    }
}
