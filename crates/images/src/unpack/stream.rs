//! From compressed bytes to tar entries: decompression chosen by magic bytes, and both digests on the way.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::limits::{Bounded, Counted, Limits};
use crate::digest::Digest;

const BUFFER: usize = 128 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Largest zstd window taken, as a power of two: 128 MiB, the format's own recommendation.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Hashes what is read through it.
pub(crate) struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
        }
    }

    /// Reads to the end and returns the digest of everything.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::finish(self.hasher))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Decompresses gzip, zstd or nothing, within `limits`.
pub(crate) fn plain<'a>(source: impl Read + 'a, limits: Limits) -> io::Result<Box<dyn Read + 'a>> {
    let (mut counted, count) = Counted::new(source);
    let magic = head(&mut counted)?;
    let buffered = BufReader::with_capacity(BUFFER, Cursor::new(magic.clone()).chain(counted));
    let stream: Box<dyn Read + 'a> = if magic.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(buffered))
    } else if magic == ZSTD {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Box::new(decoder)
    } else {
        Box::new(buffered)
    };
    Ok(Box::new(BufReader::with_capacity(
        BUFFER,
        Bounded::new(stream, limits, count),
    )))
}

/// The first bytes; fewer when there are no more.
fn head(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ZSTD.len());
    source.take(ZSTD.len() as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
