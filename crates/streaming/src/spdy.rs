//! SPDY/3.1 connections: the handshake, and streams out of frames (spec kubectl-and-api §13.3).
//!
//! One future per connection: it reads, writes and talks, and ends when the client leaves or the talk is over. Frames wait in one
//! bounded queue for the writer; a stream whose bytes nobody takes holds up the streams beside it, as there are no windows.

#[cfg(test)]
pub(super) mod client;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use api::status::StatusError;
use bytes::Bytes;
use futures::{Sink, SinkExt, Stream as Source, StreamExt};
use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use spdy::{Decoder, Encoder, Frame, Headers};
use tokio::sync::mpsc;
use tokio_util::codec::{BytesCodec, FramedWrite};
use tokio_util::io::ReaderStream;

use super::upgrade;

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// Frames that wait for the writer, and data of one stream that waits for its reader.
const WAITING: usize = 16;
/// How long a client that does not read may hold up the end.
const LINGER: Duration = Duration::from_secs(5);

/// A handshake that can be answered.
pub struct Handshake {
    protocol: &'static str,
    on_upgrade: OnUpgrade,
}

/// Whether the client asks for SPDY.
pub(super) fn is_wanted(parts: &Parts) -> bool {
    upgrade::header(parts, &UPGRADE).eq_ignore_ascii_case("SPDY/3.1")
}

/// With the first protocol the client names that is known; `None` when there is none.
pub(super) fn prepare(
    parts: &Parts,
    known: &[&'static str],
) -> Result<Option<Handshake>, StatusError> {
    let on_upgrade = upgrade::connection(parts)?;
    let offered = parts.headers.get_all(PROTOCOL);
    let mut offered = offered.iter().filter_map(|v| v.to_str().ok());
    let chosen = offered.find_map(|name| known.iter().find(|k| **k == name.trim()));
    Ok(chosen.map(|protocol| Handshake {
        protocol,
        on_upgrade,
    }))
}

/// What who names no known protocol is told, with code 403.
pub const NONE_KNOWN: &str = "unable to upgrade: no known protocol\n";

/// Adds to that answer which protocols are known.
pub fn name_known<B>(mut response: Response<B>, known: &[&'static str]) -> Response<B> {
    for name in known {
        let name = HeaderValue::from_static(name);
        response.headers_mut().append(ACCEPTED, name);
    }
    response
}

impl Handshake {
    /// What was chosen.
    pub(super) fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Answers 101 and lets `talk` have the streams the client opens.
    pub(super) fn accept<F>(
        self,
        talk: impl FnOnce(mpsc::Receiver<Stream>) -> F + Send + 'static,
    ) -> Response<()>
    where
        F: Future<Output = ()> + Send,
    {
        let Handshake {
            protocol,
            on_upgrade,
        } = self;
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => {
                    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                    let source = ReaderStream::with_capacity(read, 32 * 1024);
                    let source = source.filter_map(|r| async { r.ok() });
                    let sink = FramedWrite::new(write, BytesCodec::new());
                    converse(source.boxed(), sink, talk).await;
                }
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
        });
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
        response
    }
}

/// What a client does with a stream; its end of data is the channel's end.
#[derive(Debug)]
pub(super) enum Received {
    /// Bytes.
    Data(Vec<u8>),
    /// It wants no more of it, either way.
    Reset,
}

/// A stream a client opened.
pub(super) struct Stream {
    headers: Headers,
    /// What the client sends.
    pub(super) received: mpsc::Receiver<Received>,
    /// The way back.
    pub(super) sender: Sender,
}

/// Sends on one stream.
pub(super) struct Sender {
    stream: u32,
    frames: mpsc::Sender<Frame>,
}

impl Stream {
    /// The value of a header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }
}

impl Sender {
    /// Sends data; whether the client is still there.
    pub(super) async fn data(&self, data: &[u8]) -> bool {
        self.send(data, false).await
    }

    /// Sends the end of data.
    pub(super) async fn finish(&self) -> bool {
        self.send(&[], true).await
    }

    async fn send(&self, data: &[u8], fin: bool) -> bool {
        let (stream, data) = (self.stream, data.to_vec());
        let frame = Frame::Data { stream, fin, data };
        self.frames.send(frame).await.is_ok()
    }
}

/// Runs a connection whose bytes come from `source` and go to `sink`.
pub(super) async fn converse<F>(
    source: impl Source<Item = impl AsRef<[u8]>> + Unpin,
    sink: impl Sink<Bytes> + Unpin,
    talk: impl FnOnce(mpsc::Receiver<Stream>) -> F,
) where
    F: Future<Output = ()>,
{
    let (frames, queue) = mpsc::channel(WAITING);
    let (opened, streams) = mpsc::channel(WAITING);
    let mut write = std::pin::pin!(write(sink, queue));
    tokio::select! {
        () = read(source, frames, opened) => {}
        () = talk(streams) => {}
        () = &mut write => return,
    }
    // Reader and talk are gone, and their senders with them: what is queued is sent, then the connection ends.
    if tokio::time::timeout(LINGER, write).await.is_err() {
        tracing::debug!("client does not read the end");
    }
}

async fn write(mut sink: impl Sink<Bytes> + Unpin, mut frames: mpsc::Receiver<Frame>) {
    let mut encoder = Encoder::default();
    while let Some(frame) = frames.recv().await {
        let mut bytes = Vec::new();
        encoder.encode(&frame, &mut bytes);
        if sink.send(bytes.into()).await.is_err() {
            return;
        }
    }
    // The client may have gone already.
    let _ = sink.close().await;
}

/// Reads until the client leaves or errs.
async fn read(
    mut source: impl Source<Item = impl AsRef<[u8]>> + Unpin,
    frames: mpsc::Sender<Frame>,
    opened: mpsc::Sender<Stream>,
) {
    let mut decoder = Decoder::default();
    let mut open: BTreeMap<u32, mpsc::Sender<Received>> = BTreeMap::new();
    while let Some(bytes) = source.next().await {
        decoder.feed(bytes.as_ref());
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if !take(frame, &mut open, &frames, &opened).await {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => return tracing::debug!(%error, "spdy"),
            }
        }
    }
}

/// Acts on a frame; whether to go on.
async fn take(
    frame: Frame,
    open: &mut BTreeMap<u32, mpsc::Sender<Received>>,
    frames: &mpsc::Sender<Frame>,
    opened: &mpsc::Sender<Stream>,
) -> bool {
    match frame {
        Frame::SynStream {
            stream,
            fin,
            headers,
        } => {
            let (data, received) = mpsc::channel(WAITING);
            if !fin {
                open.insert(stream, data);
            }
            let reply = Frame::SynReply {
                stream,
                fin: false,
                headers: Vec::new(),
            };
            let sender = Sender {
                stream,
                frames: frames.clone(),
            };
            let stream = Stream {
                headers,
                received,
                sender,
            };
            frames.send(reply).await.is_ok() && opened.send(stream).await.is_ok()
        }
        Frame::Data { stream, fin, data } => {
            if let Some(to) = open.get(&stream)
                && !data.is_empty()
            {
                // A stream nobody reads any more may still be sent to.
                let _ = to.send(Received::Data(data)).await;
            }
            if fin {
                open.remove(&stream);
            }
            true
        }
        Frame::Reset { stream, .. } => {
            if let Some(to) = open.remove(&stream) {
                // Likewise.
                let _ = to.send(Received::Reset).await;
            }
            true
        }
        Frame::Ping(id) => frames.send(Frame::Ping(id)).await.is_ok(),
        Frame::GoAway => false,
        Frame::SynReply { .. } | Frame::Other => true,
    }
}
