//! The channels of exec and attach in WebSocket messages (spec kubectl-and-api §13.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use ports::streams::{ExitStatus, Reader, Session, TerminalSize, Writer};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::upgrade::{Protocol, Socket};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Bytes of output in one message.
pub(super) const CHUNK: usize = 32 * 1024;

/// The streams the client asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; not with a terminal.
    pub stderr: bool,
    /// A terminal, whose size the client tells.
    pub tty: bool,
    /// How the process ended (exec). Of a container that is attached to, a client learns from the Pod's status.
    pub code: bool,
}

impl Wanted {
    /// The end as the client is told it.
    pub(super) fn end(self, exit: Option<ExitStatus>) -> Option<ExitStatus> {
        exit.map(|exit| {
            if self.code {
                exit
            } else {
                ExitStatus { code: 0 }
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// A terminal's size as clients send it.
pub(super) fn size(data: &[u8]) -> Option<TerminalSize> {
    let Size { width, height } = serde_json::from_slice(data).ok()?;
    Some(TerminalSize { width, height })
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn message(protocol: Protocol, channel: u8, data: &[u8]) -> Message {
    if protocol.base64 {
        return Message::text(format!("{channel}{}", encode(data)));
    }
    let mut out = BytesMut::with_capacity(data.len() + 1);
    out.put_u8(channel);
    out.put_slice(data);
    Message::binary(out.freeze())
}

/// Channel and data of a client's message. Under the binary protocols some clients send text, whose first character is the channel.
pub(super) fn parse(protocol: Protocol, message: Message) -> Option<(u8, Bytes)> {
    let data: Bytes = match message {
        Message::Binary(data) => data,
        Message::Text(text) => Bytes::from(text),
        _ => return None,
    };
    let channel = *data.first()?;
    if protocol.base64 {
        let decoded = STANDARD.decode(&data[1..]).ok()?;
        return Some((channel.wrapping_sub(b'0'), Bytes::from(decoded)));
    }
    Some((channel, data.slice(1..)))
}

/// Connects a client and a process until one of them is done.
pub(super) async fn serve(socket: Socket, protocol: Protocol, session: Session, wanted: Wanted) {
    let (sink, stream) = socket.split();
    let sink = Mutex::new(sink);
    let Session {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = session;
    let outbound = async {
        // Some clients wait for a first message.
        let hello = sink.lock().await.send(message(protocol, STDOUT, &[])).await;
        if hello.is_err() {
            return;
        }
        let stdout = copy(&sink, protocol, STDOUT, stdout, wanted.stdout);
        let stderr = copy(&sink, protocol, STDERR, stderr, wanted.stderr);
        let (_, _, exit) = tokio::join!(stdout, stderr, exit);
        finish(&sink, protocol, wanted.end(exit.ok())).await;
    };
    let stdin = stdin.filter(|_| wanted.stdin);
    let resize = resize.filter(|_| wanted.tty);
    tokio::select! {
        () = outbound => {}
        () = receive(stream, protocol, stdin, resize) => return,
    }
    // The end was sent; the client may have gone already.
    let _ = sink.lock().await.close().await;
}

/// Where messages go.
pub(super) type Sink = Mutex<SplitSink<Socket, Message>>;

/// Output to its channel; what was not asked for is read and dropped, so that the process does not wait for it.
async fn copy(sink: &Sink, protocol: Protocol, channel: u8, reader: Option<Reader>, wanted: bool) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        if wanted
            && sink
                .lock()
                .await
                .send(message(protocol, channel, &buffer[..n]))
                .await
                .is_err()
        {
            return;
        }
    }
}

/// What the client sends, until it leaves.
async fn receive(
    mut stream: SplitStream<Socket>,
    protocol: Protocol,
    mut stdin: Option<Writer>,
    resize: Option<mpsc::Sender<TerminalSize>>,
) {
    while let Some(Ok(received)) = stream.next().await {
        if received.is_close() {
            return;
        }
        match parse(protocol, received) {
            Some((STDIN, data)) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(&data).await.is_err() || writer.flush().await.is_err())
                {
                    // The process no longer reads; its output goes on.
                    stdin = None;
                }
            }
            Some((CLOSE, data)) if protocol.close && data.first() == Some(&STDIN) => {
                if let Some(mut writer) = stdin.take() {
                    // Closing what is closed already is fine.
                    let _ = writer.shutdown().await;
                }
            }
            Some((RESIZE, data)) => {
                if let (Some(sender), Some(size)) = (&resize, size(&data)) {
                    // A process that has ended needs no size.
                    let _ = sender.send(size).await;
                }
            }
            _ => {}
        }
    }
}

async fn finish(sink: &Sink, protocol: Protocol, exit: Option<ExitStatus>) {
    let mut sink = sink.lock().await;
    if let Some(text) = last_word(protocol.status, exit) {
        // A client that left does not want to know.
        let _ = sink.send(message(protocol, ERROR, text.as_bytes())).await;
    }
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    // Likewise.
    let _ = sink.send(Message::Close(Some(frame))).await;
}

/// What the error channel says at the end, as a Status for who understands it; `None` when the process was lost sight of.
pub(super) fn last_word(as_status: bool, exit: Option<ExitStatus>) -> Option<String> {
    let status = match exit {
        Some(ExitStatus { code: 0 }) => {
            return as_status.then(|| json!({"metadata": {}, "status": "Success"}).to_string());
        }
        Some(ExitStatus { code }) => {
            let text = format!("command terminated with non-zero exit code: exit status {code}");
            if !as_status {
                return Some(text);
            }
            json!({
                "metadata": {}, "status": "Failure", "message": text, "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            })
        }
        None => {
            let text = "the connection to the process was lost";
            if !as_status {
                return Some(text.to_owned());
            }
            json!({
                "metadata": {}, "status": "Failure", "message": format!("Internal error occurred: {text}"),
                "reason": "InternalError", "code": 500, "details": {"causes": [{"message": text}]},
            })
        }
    };
    Some(status.to_string())
}
