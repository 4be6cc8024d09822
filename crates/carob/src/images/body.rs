//! Bodies of requests and answers, between tasks that wait and threads that block.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use futures::Stream;
use futures::stream::poll_fn;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

/// Body of every request and answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Chunks under way at once.
const CHUNKS: usize = 8;
/// Bytes a file is read by.
const CHUNK: usize = 64 * 1024;

/// A body that is here already.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that comes piece by piece; an error in it breaks the connection off.
pub(super) fn streamed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    use futures::TryStreamExt;
    StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
}

/// A body and the end that a thread writes it at.
pub(super) fn written() -> (BodyWriter, Body) {
    let (chunks, mut receiver) = mpsc::channel(CHUNKS);
    let writer = BodyWriter {
        chunks,
        buffer: Vec::with_capacity(CHUNK),
    };
    (writer, streamed(poll_fn(move |cx| receiver.poll_recv(cx))))
}

/// The writing end of a body. Dropping it ends the body as if it were whole: whoever fails says so ([`BodyWriter::fail`]).
pub(super) struct BodyWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl BodyWriter {
    /// The same end for whoever has to say that writing failed.
    pub(super) fn failing(&self) -> mpsc::Sender<io::Result<Bytes>> {
        self.chunks.clone()
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.chunks
            .blocking_send(Ok(chunk.into()))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more"))
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let taken = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// The reading end of a body, for a thread.
pub(super) struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Reads a body to its end, even if nobody wants it: a client that still sends would not hear why its archive was refused.
pub(super) fn read(mut body: Incoming) -> BodyReader {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let chunk = match frame {
                Ok(frame) => frame.into_data().map_err(|_| ()).map(Ok),
                Err(error) => Ok(Err(io::Error::other(error))),
            };
            if let Ok(chunk) = chunk {
                // Refused already: the rest is only taken off the wire.
                let _ = sender.send(chunk).await;
            }
        }
    });
    BodyReader {
        chunks,
        current: Bytes::new(),
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_thread_writes_is_the_body() {
        let (mut writer, body) = written();
        let text = vec![b'x'; 3 * CHUNK + 7];
        let sent = text.clone();
        let thread = tokio::task::spawn_blocking(move || {
            writer.write_all(&sent)?;
            writer.flush()
        });
        let read = body.collect().await.expect("a body").to_bytes();
        thread.await.expect("ends").expect("writes");
        assert_eq!(read, text);
    }

    #[tokio::test]
    async fn a_failed_writer_breaks_the_body() {
        let (writer, body) = written();
        let failing = writer.failing();
        failing
            .send(Err(io::Error::other("disk on fire")))
            .await
            .expect("is read");
        drop((writer, failing));
        let error = body.collect().await.expect_err("it failed");
        assert_eq!(error.to_string(), "disk on fire");
    }
}
