//! Byte streams between a process in a container and a client: exec, attach and logs.

use std::pin::Pin;

use bytes::Bytes;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// A readable end.
pub type Reader = Pin<Box<dyn AsyncRead + Send>>;
/// A writable end.
pub type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What an exec asks for (CRI `ExecRequest`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Argument vector; never empty.
    pub command: Vec<String>,
    /// Give the process a terminal; then stdout carries stderr too.
    pub tty: bool,
    /// Connect standard input.
    pub stdin: bool,
    /// Kill the process, with those of its process group, when the session is dropped before it has ended. Else it goes on unheard.
    pub bound: bool,
}

/// A process being talked to. Dropping it hangs up: input closes, output is no longer read.
pub struct Session {
    /// The process's standard input; `None` unless asked for.
    pub stdin: Option<Writer>,
    /// Standard output, or the terminal.
    pub stdout: Option<Reader>,
    /// Standard error; `None` with a terminal.
    pub stderr: Option<Reader>,
    /// Takes new sizes of the terminal; `None` without one.
    pub resize: Option<tokio::sync::mpsc::Sender<TerminalSize>>,
    /// Becomes the exit once the process has ended and its output was handed over (exec), or the container has ended (attach).
    pub exit: tokio::sync::oneshot::Receiver<ExitStatus>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Exit code; 128 + N when signal N ended it.
    pub code: i32,
}

/// A stream of log bytes, ended by its end or an error.
pub type LogStream = Pin<Box<dyn futures_core::Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Why a stream could not be opened.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The container is not there or not running.
    #[error("container {id} is not running")]
    NotRunning {
        /// Container id.
        id: String,
    },
    /// The program could not be started: not found, not executable, no such user or directory.
    #[error("{reason}")]
    Start {
        /// The launcher's words.
        reason: String,
    },
    /// The Pod's pause process could not be asked.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}
