//! What the engine and a pause say to each other, and the files they share.
//!
//! The engine asks ([`Call`]), pause answers each call once, in order ([`Message::Reply`]), and pause tells what happens at the
//! moment it happens ([`Message::Event`]). Descriptors ride with replies. One engine talks at a time: a new connection takes the
//! place of the old one. The version is checked in [`Request::Hello`]; fields are only ever added within a version, because a pause
//! outlives the engine that started it.

mod frame;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use ports::runtime::{IdMapping, UserStatus};
use serde::{Deserialize, Serialize};

use crate::cgroup::Layout;
use crate::launch::{CgroupEntry, ExecSpec, LaunchSpec};

pub use frame::{FrameError, Incoming, MAX_FRAME_BYTES, MAX_FRAME_FDS, Outgoing};

/// Version of these messages.
pub const VERSION: u32 = 1;
/// Name of the socket in a sandbox's run directory.
pub const SOCKET_NAME: &str = "pause.sock";

/// File name of a container's [`ExitRecord`] in its sandbox's run directory.
#[must_use]
pub fn exit_file_name(container: &str) -> String {
    format!("{container}.exit")
}

/// What the template of pauses is asked for over its standard input: one more pause. The end of the connection that the newborn is to
/// have rides with it. There is no answer: who is not born is told of on that connection, by its end or by the refusal of the first call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// The sandbox's run directory.
    pub run_dir: PathBuf,
    /// Where it is born.
    pub cgroup: CgroupEntry,
}

/// What a pause is to be: the first frame on the connection it is born with. The scratch mount namespace
/// rides with it ([`crate::launch::Scratch`]), then the listener at [`SOCKET_NAME`], and namespaces may. The engine's first call follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseSpec {
    /// [`VERSION`] of the engine that wrote it.
    pub version: u32,
    /// Make a network and a UTS namespace (not with the node's network).
    pub new_network: bool,
    /// Make an IPC namespace.
    pub new_ipc: bool,
    /// Make a PID namespace and be its PID 1 (`shareProcessNamespace`).
    pub new_pid: bool,
    /// Make a user namespace with these ids, and let it own the others (`hostUsers: false`).
    #[serde(default)]
    pub users: Option<IdMapping>,
    /// The network, UTS and IPC namespaces are there already: they ride along, in this order, with the loopback interface up.
    #[serde(default)]
    pub has_namespaces: bool,
    /// Host name to set in the UTS namespace; empty leaves it.
    pub hostname: String,
    /// Sysctls by dotted name, set in the new namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Its `oom_score_adj`, best effort.
    pub oom_score_adj: i32,
    /// Where cgroups are.
    pub cgroups: Layout,
}

/// A standard stream that carries output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in log records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A container for pause to start and keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSpec {
    /// What the launcher needs.
    pub launch: LaunchSpec,
    /// Its cgroup's path below the hierarchies' mounts, to kill and to count by.
    pub cgroup: PathBuf,
    /// Absolute log file.
    pub log_path: PathBuf,
    /// Keep standard input open for attach.
    pub stdin: bool,
    /// Close it when the first attach with input ends.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
}

/// A question, numbered by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Comes back in the reply.
    pub number: u64,
    /// What is asked.
    pub request: Request,
}

/// What the engine may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection. Answered by [`Reply::State`], with the network namespace as descriptor if pause has one.
    Hello {
        /// The engine's [`VERSION`].
        version: u32,
    },
    /// A container is about to be started: what it can have made ahead is made, after the answer. [`Reply::Done`].
    Prepare,
    /// Start a container, whose root may ride along, mounted. [`Reply::Started`], or [`Refusal::Launch`], which is kept as exit 128 as well.
    Start(Box<StartSpec>),
    /// Send a signal to a container's first process. [`Reply::Done`].
    Signal {
        /// Container id.
        container: String,
        /// Signal number.
        signal: i32,
    },
    /// Kill every process of a container. [`Reply::Done`].
    Kill {
        /// Container id.
        container: String,
    },
    /// Run another process. [`Reply::Executing`] with its streams: the terminal, or stdin if asked for, stdout, stderr.
    Exec {
        /// Container id.
        container: String,
        /// Chosen by the engine, unique in the sandbox; comes back in [`Event::ExecExited`].
        exec: String,
        /// What to run.
        spec: Box<ExecSpec>,
        /// Give it a terminal.
        tty: bool,
        /// Connect standard input.
        stdin: bool,
    },
    /// Kill a process run by [`Request::Exec`], with those of its process group; it may have ended. [`Reply::Done`].
    EndExec {
        /// Its name.
        exec: String,
    },
    /// Join a container's streams from now on. [`Reply::Attached`] with descriptors in this order: stdin (pipe) if asked for and
    /// open, or the terminal; then stdout; then stderr unless there is a terminal.
    Attach {
        /// Container id.
        container: String,
        /// Connect standard input.
        stdin: bool,
    },
    /// An attach with input has ended; closes the container's input if it was to be attached once. [`Reply::Done`].
    StdinEnded {
        /// Container id.
        container: String,
    },
    /// Go on in a new log file. [`Reply::Done`].
    ReopenLog {
        /// Container id.
        container: String,
    },
    /// The engine has recorded this container's exit: forget it. [`Reply::Done`].
    Acknowledge {
        /// Container id.
        container: String,
    },
    /// Kill what still runs and exit. Answered by the end of the connection.
    Shutdown,
}

/// What pause sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The answer to a call.
    Reply {
        /// The call's number.
        number: u64,
        /// Its outcome.
        outcome: Result<Reply, Refusal>,
    },
    /// Something happened.
    Event(Event),
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Hello`].
    State {
        /// Pause's [`VERSION`].
        version: u32,
        /// Containers that run, or whose exit was not acknowledged.
        containers: Vec<ContainerReport>,
    },
    /// To [`Request::Start`].
    Started(Started),
    /// To [`Request::Exec`].
    Executing,
    /// To [`Request::Attach`].
    Attached {
        /// The first descriptor is a terminal, to write to and to resize.
        terminal: bool,
        /// The first descriptor is standard input.
        stdin: bool,
    },
    /// To the others.
    Done,
}

/// A start that came to pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// When its program was being executed.
    pub at: Timestamp,
    /// Who it runs as.
    pub user: UserStatus,
    /// `HOME` from its passwd file, for the environment of later execs.
    pub home: Option<String>,
}

/// A container as pause knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Container id.
    pub container: String,
    /// Its start; `None` if it could not be started.
    pub started: Option<Started>,
    /// Its end, not yet acknowledged.
    pub exit: Option<ExitRecord>,
    /// Size of its current log file in bytes.
    pub log_bytes: u64,
}

/// How a container ended. Also the content of its exit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Container id.
    pub container: String,
    /// Exit code; 128 + N when signal N ended it.
    pub code: i32,
    /// When it had been started; `None` if it could not be.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// Why it could not be started.
    pub start_error: Option<String>,
}

/// What pause tells unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container ended and its output so far is in the log.
    Exited(ExitRecord),
    /// A process run by [`Request::Exec`] ended.
    ExecExited {
        /// Its name in the request.
        exec: String,
        /// Exit code; 128 + N when signal N ended it.
        code: i32,
    },
    /// A log file has grown by another [`ports::runtime::LARGE_LOG_BYTES`].
    LogGrown {
        /// Container id.
        container: String,
        /// Size of the file in bytes.
        bytes: u64,
    },
}

/// Why pause did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It could not become the Pod's sandbox, and ends.
    #[error("pause did not come up: {0}")]
    Setup(String),
    /// The engine speaks another version.
    #[error("pause speaks version {version}")]
    Version {
        /// Pause's own.
        version: u32,
    },
    /// No such container here, or it has ended.
    #[error("container is not running")]
    NotRunning,
    /// A container of this id is here already.
    #[error("container was started already")]
    AlreadyStarted,
    /// The launcher failed.
    #[error("{0}")]
    Launch(String),
    /// The kernel refused.
    #[error("{0}")]
    Kernel(String),
}
