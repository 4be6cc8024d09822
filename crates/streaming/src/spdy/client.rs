//! The other end of a connection, for tests.

use std::collections::BTreeMap;
use std::future::Future;

use futures::StreamExt;
use spdy::{Decoder, Encoder, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::codec::{BytesCodec, FramedWrite};
use tokio_util::io::ReaderStream;

use super::{Stream, converse};

/// A client in memory.
pub(crate) struct Client {
    io: DuplexStream,
    encoder: Encoder,
}

/// What a client has seen when the server has closed.
#[derive(Default)]
pub(crate) struct Seen {
    /// Streams accepted, in order.
    pub(crate) replied: Vec<u32>,
    /// By stream, and whether it was finished.
    pub(crate) data: BTreeMap<u32, (Vec<u8>, bool)>,
    /// Pings that came back.
    pub(crate) pings: Vec<u32>,
}

impl Client {
    /// Connects to a server that runs `talk`.
    pub(crate) fn start<F>(
        talk: impl FnOnce(mpsc::Receiver<Stream>) -> F + Send + 'static,
    ) -> Client
    where
        F: Future<Output = ()> + Send,
    {
        let (io, server) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let (read, write) = tokio::io::split(server);
            let source = ReaderStream::new(read).filter_map(|r| async { r.ok() });
            converse(
                source.boxed(),
                FramedWrite::new(write, BytesCodec::new()),
                talk,
            )
            .await;
        });
        Client {
            io,
            encoder: Encoder::default(),
        }
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = Vec::new();
        self.encoder.encode(&frame, &mut bytes);
        self.io.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers = headers.iter().map(own).collect();
        let fin = false;
        self.send(Frame::SynStream {
            stream,
            fin,
            headers,
        })
        .await;
    }

    pub(crate) async fn data(&mut self, stream: u32, data: &[u8], fin: bool) {
        let data = data.to_vec();
        self.send(Frame::Data { stream, fin, data }).await;
    }

    pub(crate) async fn ping(&mut self, id: u32) {
        self.send(Frame::Ping(id)).await;
    }

    /// Reads to the end of the connection.
    pub(crate) async fn until_closed(self) -> Seen {
        self.until_finished(&[]).await
    }

    /// Reads until the server has finished these streams, or to the end of the connection.
    pub(crate) async fn until_finished(mut self, streams: &[u32]) -> Seen {
        let mut decoder = Decoder::default();
        let mut seen = Seen::default();
        let mut bytes = [0; 256];
        loop {
            let n = self.io.read(&mut bytes).await.unwrap();
            decoder.feed(&bytes[..n]);
            seen.take(&mut decoder);
            let finished = |s: &u32| seen.data.get(s).is_some_and(|(_, fin)| *fin);
            if n == 0 || (!streams.is_empty() && streams.iter().all(finished)) {
                return seen;
            }
        }
    }
}

impl Seen {
    fn take(&mut self, decoder: &mut Decoder) {
        while let Some(frame) = decoder.next_frame().unwrap() {
            match frame {
                Frame::SynReply { stream, .. } => self.replied.push(stream),
                Frame::Data { stream, fin, data } => {
                    let (all, finished) = self.data.entry(stream).or_default();
                    all.extend(data);
                    *finished |= fin;
                }
                Frame::Ping(id) => self.pings.push(id),
                other => panic!("{other:?}"),
            }
        }
    }
}
