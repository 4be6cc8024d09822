//! Exec and attach: over the channels of a WebSocket, or over SPDY with one stream for each of the process's, and one for its end (spec
//! kubectl-and-api §13.3).

use std::time::Duration;

use api::status::StatusError;
use http::Response;
use http::request::Parts;
use ports::streams::{Reader, Session, TerminalSize, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::channels::{self, CHUNK, Wanted};
use super::spdy::{self, Handshake, Received, Sender, Stream};
use super::upgrade::{self, Upgrade};

const V4: &str = "v4.channel.k8s.io";
const V3: &str = "v3.channel.k8s.io";
/// A client must have opened its streams by then.
const OPENING: Duration = Duration::from_secs(30);

/// How the streams of a process are carried.
pub enum Process {
    /// As channels.
    WebSocket(Upgrade),
    /// One by one.
    Spdy(Handshake),
}

impl Process {
    /// What is spoken over SPDY, best first.
    pub const PROTOCOLS: [&'static str; 4] = [V4, V3, "v2.channel.k8s.io", "channel.k8s.io"];

    /// What the client asks for; `None` when there is no protocol of SPDY in common.
    ///
    /// # Errors
    /// What the client is to be told: it asks for no upgrade, or for one that is not to be had.
    pub fn prepare(parts: &Parts) -> Result<Option<Process>, StatusError> {
        if spdy::is_wanted(parts) {
            return Ok(spdy::prepare(parts, &Process::PROTOCOLS)?.map(Process::Spdy));
        }
        upgrade::prepare(parts).map(|upgrade| Some(Process::WebSocket(upgrade)))
    }

    /// Answers 101, and connects client and process.
    pub fn accept(self, session: Session, wanted: Wanted) -> Response<()> {
        match self {
            Process::WebSocket(upgrade) => upgrade
                .accept(move |socket, protocol| channels::serve(socket, protocol, session, wanted)),
            Process::Spdy(handshake) => {
                let protocol = handshake.protocol();
                handshake.accept(move |streams| serve(streams, protocol, session, wanted))
            }
        }
    }
}

/// The streams of a client.
#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Opened {
    /// Waits for as many streams as `wanted` means; `None` when the client leaves or opens others.
    async fn wait(
        streams: &mut mpsc::Receiver<Stream>,
        protocol: &str,
        wanted: Wanted,
    ) -> Option<Opened> {
        let resize = wanted.tty && [V4, V3].contains(&protocol);
        let expected = [true, wanted.stdin, wanted.stdout, wanted.stderr, resize];
        let count = expected.into_iter().filter(|wanted| *wanted).count();
        let mut opened = Opened::default();
        for _ in 0..count {
            let stream = streams.recv().await?;
            let place = match stream.header("streamtype") {
                "error" => &mut opened.error,
                "stdin" => &mut opened.stdin,
                "stdout" => &mut opened.stdout,
                "stderr" => &mut opened.stderr,
                "resize" => &mut opened.resize,
                _ => return None,
            };
            *place = Some(stream);
        }
        opened.error.is_some().then_some(opened)
    }
}

/// Connects a client and a process until one of them is done.
async fn serve(
    mut streams: mpsc::Receiver<Stream>,
    protocol: &'static str,
    session: Session,
    wanted: Wanted,
) {
    let opening = Opened::wait(&mut streams, protocol, wanted);
    let Ok(Some(opened)) = tokio::time::timeout(OPENING, opening).await else {
        return tracing::debug!("client opened no streams to talk on");
    };
    let outbound = async {
        let stdout = copy(opened.stdout, session.stdout);
        let stderr = copy(opened.stderr, session.stderr);
        let (_, _, exit) = tokio::join!(stdout, stderr, session.exit);
        if let Some(error) = opened.error {
            if let Some(text) = channels::last_word(protocol == V4, wanted.end(exit.ok())) {
                error.sender.data(text.as_bytes()).await;
            }
            error.sender.finish().await;
        }
    };
    let inbound = async {
        tokio::join!(
            input(opened.stdin, session.stdin),
            resize(opened.resize, session.resize)
        );
        // The end of input is not the end of the process.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = outbound => {}
        () = inbound => {}
    }
}

/// Output to its stream; what was not asked for is read and dropped, so that the process does not wait for it.
async fn copy(stream: Option<Stream>, reader: Option<Reader>) {
    let sender: Option<Sender> = stream.map(|s| s.sender);
    if let Some(mut reader) = reader {
        let mut buffer = vec![0; CHUNK];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            if let Some(sender) = &sender
                && !sender.data(&buffer[..n]).await
            {
                return;
            }
        }
    }
    if let Some(sender) = sender {
        sender.finish().await;
    }
}

async fn input(stream: Option<Stream>, writer: Option<Writer>) {
    let (Some(mut stream), Some(mut writer)) = (stream, writer) else {
        return;
    };
    while let Some(Received::Data(data)) = stream.received.recv().await {
        if writer.write_all(&data).await.is_err() || writer.flush().await.is_err() {
            // The process no longer reads; its output goes on.
            return;
        }
    }
    // Closing what is closed already is fine.
    let _ = writer.shutdown().await;
}

/// Sizes come as JSON values, one after the other, however the client cuts them.
async fn resize(stream: Option<Stream>, sizes: Option<mpsc::Sender<TerminalSize>>) {
    let (Some(mut stream), Some(sizes)) = (stream, sizes) else {
        return;
    };
    let mut text = Vec::new();
    while let Some(Received::Data(data)) = stream.received.recv().await {
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|b| *b == b'}') {
            let one: Vec<u8> = text.drain(..=end).collect();
            if let Some(size) = channels::size(&one) {
                // A process that has ended needs no size.
                let _ = sizes.send(size).await;
            }
        }
        // No size is that long.
        text.truncate(CHUNK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::client::Client;
    use ports::streams::ExitStatus;
    use tokio::sync::oneshot;

    /// A process that gives back its input, says something else, and ends with code 3.
    fn cat() -> (Session, mpsc::Receiver<TerminalSize>) {
        let (ours, theirs) = tokio::io::duplex(64);
        let (stdout, stdin) = tokio::io::split(ours);
        let (mut read, mut write) = tokio::io::split(theirs);
        let (ended, exit) = oneshot::channel();
        let (resize, sizes) = mpsc::channel(4);
        tokio::spawn(async move {
            let copied = tokio::io::copy(&mut read, &mut write).await;
            drop((copied, read, write));
            let _ = ended.send(ExitStatus { code: 3 });
        });
        let session = Session {
            stdin: Some(Box::pin(stdin)),
            stdout: Some(Box::pin(stdout)),
            stderr: None,
            resize: Some(resize),
            exit,
        };
        (session, sizes)
    }

    #[tokio::test]
    async fn a_process_is_talked_to_over_spdy() {
        let wanted = Wanted {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
            code: true,
        };
        let (session, mut sizes) = cat();
        let mut client = Client::start(move |streams| serve(streams, V4, session, wanted));
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
            client.open(stream, &[("streamtype", kind)]).await;
        }
        client.ping(9).await;
        client.data(7, b"{\"Width\":80,\"Hei", false).await;
        client.data(7, b"ght\":24}\n", false).await;
        let size = sizes.recv().await.unwrap();
        assert_eq!((size.width, size.height), (80, 24));
        client.data(3, b"hello", true).await;
        let end = client.until_closed().await;
        assert_eq!(end.pings, [9]);
        assert_eq!(end.replied, [1, 3, 5, 7]);
        assert_eq!(end.data[&5], (b"hello".to_vec(), true));
        let (status, finished) = &end.data[&1];
        let status: serde_json::Value = serde_json::from_slice(status).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        assert!(finished);
    }

    #[tokio::test]
    async fn only_exec_tells_the_code() {
        for (code, end) in [(true, "Failure"), (false, "Success")] {
            let wanted = Wanted {
                stdin: true,
                stdout: true,
                stderr: false,
                tty: false,
                code,
            };
            let (session, _sizes) = cat();
            let mut client = Client::start(move |streams| serve(streams, V4, session, wanted));
            for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
                client.open(stream, &[("streamtype", kind)]).await;
            }
            client.data(3, b"", true).await;
            let seen = client.until_closed().await;
            let status: serde_json::Value = serde_json::from_slice(&seen.data[&1].0).unwrap();
            assert_eq!(status["status"], end);
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_hangs_up() {
        let wanted = Wanted {
            stdin: true,
            stdout: false,
            stderr: false,
            tty: false,
            code: true,
        };
        let (session, mut sizes) = cat();
        let mut client = Client::start(move |streams| serve(streams, V4, session, wanted));
        client.open(1, &[("streamtype", "error")]).await;
        client.open(3, &[("streamtype", "stdin")]).await;
        drop(client);
        assert_eq!(sizes.recv().await, None);
    }
}
