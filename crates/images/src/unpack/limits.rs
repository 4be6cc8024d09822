//! How much one archive may grow to, so that a small download cannot fill the disk.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Bounds on one layer or archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all.
    pub entries: u64,
    /// Bytes after decompression.
    pub unpacked_bytes: u64,
    /// Bytes out for each byte in, looked at once more than `ratio_floor_bytes` came out.
    pub ratio: u64,
    /// Below this many unpacked bytes any ratio is taken: zeroes compress well.
    pub ratio_floor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            unpacked_bytes: 64 << 30,
            ratio: 300,
            ratio_floor_bytes: 512 << 20,
        }
    }
}

/// Counts what is read from a stream.
pub(crate) struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Counted<R> {
    pub(crate) fn new(inner: R) -> (Self, Rc<Cell<u64>>) {
        let count = Rc::new(Cell::new(0));
        (
            Self {
                inner,
                count: count.clone(),
            },
            count,
        )
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// Fails a stream that grows past its limits.
pub(crate) struct Bounded<R> {
    inner: R,
    limits: Limits,
    compressed: Rc<Cell<u64>>,
    out: u64,
}

impl<R: Read> Bounded<R> {
    /// `compressed` counts the bytes that went into the decompressor below `inner`.
    pub(crate) fn new(inner: R, limits: Limits, compressed: Rc<Cell<u64>>) -> Self {
        Self {
            inner,
            limits,
            compressed,
            out: 0,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.out += n as u64;
        let bad = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        if self.out > self.limits.unpacked_bytes {
            return bad(format!(
                "unpacks to more than {} bytes",
                self.limits.unpacked_bytes
            ));
        }
        let floor = self.out > self.limits.ratio_floor_bytes;
        if floor && self.out / self.compressed.get().max(1) > self.limits.ratio {
            return bad(format!("expands more than {} times", self.limits.ratio));
        }
        Ok(n)
    }
}
