//! A command in a container, or a container itself, over a WebSocket (§13.2): standard streams in channels, then a Status.
//!
//! Sending and receiving go on at once, so that a command that answers before it has read everything does not stand still.

use std::io;

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use http::Request;
use kube::client::Connection;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::connect::Server;
use crate::output::percent;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What goes to the container.
#[derive(Debug)]
pub(crate) enum Input {
    /// Bytes of standard input.
    Bytes(Vec<u8>),
    /// The end of standard input.
    End,
    /// Columns and rows of the terminal.
    Size(u16, u16),
}

/// Which stream bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Out,
    Err,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The command's exit code.
    Exit(u8),
    /// What the server says went wrong.
    Failure(String),
}

/// Which streams are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

/// Path of an `exec` (with a command) or an `attach` (without).
pub(crate) fn path(
    pod: &str,
    container: &str,
    command: Option<&[String]>,
    streams: Streams,
) -> String {
    let verb = if command.is_some() { "exec" } else { "attach" };
    let mut path = format!("{pod}/{verb}?container={}", percent(container));
    for word in command.unwrap_or_default() {
        path.push_str(&format!("&command={}", percent(word)));
    }
    for (name, on) in [
        ("stdin", streams.stdin),
        ("stdout", true),
        // A terminal has one output.
        ("stderr", !streams.tty),
        ("tty", streams.tty),
    ] {
        if on {
            path.push_str(&format!("&{name}=true"));
        }
    }
    path
}

/// What kube calls the reason of a refusal whose body is no Status.
const NO_STATUS: &str = "Failed to parse error data";

/// Opens the connection. The server's refusals come as they are; the node's, which are plain text, in kubectl's words.
pub(crate) async fn connect(server: &Server, path: &str) -> anyhow::Result<Connection> {
    let request = Request::get(path).body(Vec::new())?;
    match server.client.connect(request).await {
        Err(kube::Error::Api(status)) if status.reason == NO_STATUS => {
            bail!("unable to upgrade connection: {}", status.message)
        }
        connection => Ok(connection?),
    }
}

/// Passes input on and hands output over until the session ends.
pub(crate) async fn run(
    connection: Connection,
    mut input: mpsc::Receiver<Input>,
    mut output: impl FnMut(Output, &[u8]) -> io::Result<()>,
) -> anyhow::Result<End> {
    let can_half_close = connection.supports_stream_close();
    let (mut sink, mut source) = connection.into_stream().split();
    let sending = async {
        while let Some(input) = input.recv().await {
            let message = match input {
                Input::Bytes(bytes) => framed(STDIN, &bytes),
                Input::End if can_half_close => vec![CLOSE, STDIN],
                Input::End => continue,
                Input::Size(columns, rows) => framed(RESIZE, &size(columns, rows)),
            };
            if sink.send(message.into()).await.is_err() {
                // The other side has ended; what it has said comes first.
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let receiving = async {
        while let Some(message) = source.next().await {
            let message = message.context("error reading from error stream")?;
            if !message.is_binary() && !message.is_text() {
                continue;
            }
            let data = message.into_data();
            match data.split_first() {
                Some((&STDOUT, bytes)) if !bytes.is_empty() => output(Output::Out, bytes)?,
                Some((&STDERR, bytes)) if !bytes.is_empty() => output(Output::Err, bytes)?,
                Some((&STATUS, bytes)) if !bytes.is_empty() => return end(bytes),
                _ => {}
            }
        }
        bail!("the connection ended before the command did")
    };
    tokio::select! {
        end = receiving => end,
        () = sending => bail!("the input ended"),
    }
}

fn framed(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    message
}

fn size(columns: u16, rows: u16) -> Vec<u8> {
    let mut text = json!({"Width": columns, "Height": rows}).to_string();
    text.push('\n');
    text.into_bytes()
}

/// Reads the Status that ends a session.
fn end(bytes: &[u8]) -> anyhow::Result<End> {
    let status: Value = serde_json::from_slice(bytes).context("the server sent no status")?;
    if status["status"] == "Success" {
        return Ok(End::Exit(0));
    }
    let code = status["details"]["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode")
        .and_then(|cause| cause["message"].as_str()?.parse::<u32>().ok());
    Ok(
        match code.filter(|_| status["reason"] == "NonZeroExitCode") {
            // What does not fit into a byte is a failure all the same.
            Some(code) => End::Exit(u8::try_from(code).unwrap_or(255)),
            None => End::Failure(
                status["message"]
                    .as_str()
                    .unwrap_or("the command failed")
                    .to_owned(),
            ),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_ends_a_session() {
        for (status, expected) in [
            (json!({"metadata": {}, "status": "Success"}), End::Exit(0)),
            (
                json!({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": "42"}]}}),
                End::Exit(42),
            ),
            (
                json!({"status": "Failure", "reason": "InternalError", "message": "Internal error occurred: no such program"}),
                End::Failure("Internal error occurred: no such program".into()),
            ),
        ] {
            assert_eq!(
                end(status.to_string().as_bytes()).expect("a status"),
                expected
            );
        }
        assert!(end(b"not json").is_err());
    }

    #[test]
    fn paths_name_streams_and_command() {
        let command = ["sh".to_owned(), "a b".to_owned()];
        let tty = Streams {
            stdin: true,
            tty: true,
        };
        assert_eq!(
            path("/p", "c", Some(&command), tty),
            "/p/exec?container=c&command=sh&command=a%20b&stdin=true&stdout=true&tty=true"
        );
        assert_eq!(
            path("/p", "c", None, Streams::default()),
            "/p/attach?container=c&stdout=true&stderr=true"
        );
    }
}
