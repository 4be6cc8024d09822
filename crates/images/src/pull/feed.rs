//! Bytes from an async download to a blocking reader.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Chunks under way at once: a few hundred KiB.
const CHUNKS: usize = 32;

/// Sends chunks, then `None` for the true end. Dropping it early fails the reader.
pub(crate) type FeedSender = mpsc::Sender<Option<Bytes>>;

/// The reading end; for threads that may block.
pub(crate) struct FeedReader {
    chunks: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    ended: bool,
}

pub(crate) fn feed() -> (FeedSender, FeedReader) {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    (
        sender,
        FeedReader {
            chunks,
            current: Bytes::new(),
            ended: false,
        },
    )
}

impl Read for FeedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Some(chunk)) => self.current = chunk,
                Some(None) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "download abandoned",
                    ));
                }
            }
        }
        let n = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}
