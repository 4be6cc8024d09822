//! CRI log files: what a container writes, cut into lines, each with time, stream and tag (spec/pod-lifecycle 13.1).
//!
//! `<RFC 3339 with nanoseconds> <stdout|stderr> <P|F> <content>\n`. Lines longer than 16 KiB are cut into `P` records that end
//! with an `F`; output that ends without a newline is a last `P`. Times never go back within a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ports::runtime::LARGE_LOG_BYTES;

use crate::wire::Stream;

/// Longest content of one record, in bytes (containerd's `max_container_log_line_size`).
pub const MAX_RECORD_BYTES: usize = 16 << 10;
/// Records are gathered up to this size, so that a burst of short lines is one `write(2)`.
const BATCH_BYTES: usize = 16 << 10;

/// A container's log file. Writing to a full or broken disk loses records, never blocks the container.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    last: Timestamp,
    /// Its size, as far as it was written here.
    bytes: u64,
    /// The size that is worth telling.
    large: u64,
}

impl LogFile {
    /// Opens the file for appending, making it (mode 0640) and its directory (0755) when they are not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut log = Self {
            path: path.to_path_buf(),
            file: open(path)?,
            last: Timestamp::UNIX_EPOCH,
            bytes: 0,
            large: LARGE_LOG_BYTES,
        };
        log.bytes = log.size_bytes();
        Ok(log)
    }

    /// Goes on in a new file at the same path, after the old one was renamed.
    ///
    /// # Errors
    /// What the file system says; the old file stays in use.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.bytes = self.size_bytes();
        self.large = LARGE_LOG_BYTES;
        Ok(())
    }

    /// Its size in bytes, when that is worth telling: each time it has grown by [`LARGE_LOG_BYTES`].
    pub fn grown(&mut self) -> Option<u64> {
        if self.bytes < self.large {
            return None;
        }
        self.large = self.bytes.saturating_add(LARGE_LOG_BYTES);
        Some(self.bytes)
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// The time for records written now: the clock's, unless it went back.
    fn stamp(&mut self, now: Timestamp) -> Timestamp {
        self.last = self.last.max(now);
        self.last
    }

    /// Writes a whole batch; an error is the disk's and there is nobody to tell, the log being the place to tell it.
    fn append(&mut self, batch: &mut Vec<u8>) {
        if self.file.write_all(batch).is_ok() {
            self.bytes = self.bytes.saturating_add(batch.len() as u64);
        }
        batch.clear();
    }
}

fn open(path: &Path) -> io::Result<File> {
    let options = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
    };
    match options() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            options()
        }
        opened => opened,
    }
}

/// Cuts one stream into records. Holds no memory between lines.
#[derive(Debug)]
pub struct LineCutter {
    stream: Stream,
    pending: Vec<u8>,
}

impl LineCutter {
    /// A cutter for `stream`, at the beginning of a line.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Takes what the container wrote and writes the records it completes.
    pub fn push(&mut self, mut data: &[u8], now: Timestamp, log: &mut LogFile) {
        let stamp = log.stamp(now);
        let mut batch = Vec::new();
        while let Some(at) = data.iter().position(|byte| *byte == b'\n') {
            self.cut(&data[..at], stamp, &mut batch, log);
            self.finish_line(stamp, &mut batch);
            data = &data[at + 1..];
            if batch.len() >= BATCH_BYTES {
                log.append(&mut batch);
            }
        }
        self.cut(data, stamp, &mut batch, log);
        if !batch.is_empty() {
            log.append(&mut batch);
        }
    }

    /// The stream has ended: what is left becomes a partial record.
    pub fn finish(&mut self, now: Timestamp, log: &mut LogFile) {
        if self.pending.is_empty() {
            return;
        }
        let stamp = log.stamp(now);
        let mut batch = Vec::new();
        record(&mut batch, stamp, self.stream, 'P', &self.pending);
        self.pending = Vec::new();
        log.append(&mut batch);
    }

    /// Adds bytes without newline to the line, writing `P` records as it grows past the limit.
    fn cut(&mut self, mut data: &[u8], stamp: Timestamp, batch: &mut Vec<u8>, log: &mut LogFile) {
        while self.pending.len() + data.len() > MAX_RECORD_BYTES {
            let (now, later) = data.split_at(MAX_RECORD_BYTES - self.pending.len());
            self.pending.extend_from_slice(now);
            record(batch, stamp, self.stream, 'P', &self.pending);
            self.pending.clear();
            data = later;
            if batch.len() >= BATCH_BYTES {
                log.append(batch);
            }
        }
        self.pending.extend_from_slice(data);
    }

    fn finish_line(&mut self, stamp: Timestamp, batch: &mut Vec<u8>) {
        let content = self.pending.strip_suffix(b"\r").unwrap_or(&self.pending);
        record(batch, stamp, self.stream, 'F', content);
        self.pending = Vec::new();
    }
}

fn record(batch: &mut Vec<u8>, stamp: Timestamp, stream: Stream, tag: char, content: &[u8]) {
    // Writing to a vector cannot fail.
    let _ = write!(batch, "{stamp:.9} {} {tag} ", stream.name());
    batch.extend_from_slice(content);
    batch.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds chunks to a cutter and returns `tag content` of every record.
    fn cut(chunks: &[&[u8]]) -> Vec<String> {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("c/0.log");
        let mut log = LogFile::open(&path).expect("open");
        let mut cutter = LineCutter::new(Stream::Stdout);
        for chunk in chunks {
            cutter.push(chunk, Timestamp::UNIX_EPOCH, &mut log);
        }
        cutter.finish(Timestamp::UNIX_EPOCH, &mut log);
        let text = std::fs::read_to_string(&path).expect("read");
        let prefix = "1970-01-01T00:00:00.000000000Z stdout ";
        text.lines()
            .map(|line| line.strip_prefix(prefix).expect("prefix").to_string())
            .collect()
    }

    #[test]
    fn lines_become_records() {
        let long = "a".repeat(MAX_RECORD_BYTES);
        type Row<'a> = (&'a str, &'a [&'a [u8]], Vec<String>);
        let table: &[Row<'_>] = &[
            ("one line", &[b"hello\n"], vec!["F hello".into()]),
            (
                "several in one write",
                &[b"a\n\nb\n"],
                vec!["F a".into(), "F ".into(), "F b".into()],
            ),
            (
                "a line in pieces",
                &[b"he", b"llo\nwor", b"ld\n"],
                vec!["F hello".into(), "F world".into()],
            ),
            (
                "carriage return of a terminal",
                &[b"a\r\nb\r", b"\n"],
                vec!["F a".into(), "F b".into()],
            ),
            (
                "no newline at the end",
                &[b"a\nb"],
                vec!["F a".into(), "P b".into()],
            ),
            (
                "exactly the limit",
                &[long.as_bytes(), b"\n"],
                vec![format!("F {long}")],
            ),
            (
                "past the limit",
                &[long.as_bytes(), b"b\n"],
                vec![format!("P {long}"), "F b".into()],
            ),
            ("nothing", &[b""], vec![]),
        ];
        for (name, chunks, expected) in table {
            assert_eq!(&cut(chunks), expected, "{name}");
        }
    }

    #[test]
    fn times_do_not_go_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path).expect("open");
        let mut cutter = LineCutter::new(Stream::Stderr);
        cutter.push(b"a\n", Timestamp::from_second(2).expect("time"), &mut log);
        cutter.push(b"b\n", Timestamp::from_second(1).expect("time"), &mut log);
        let text = std::fs::read_to_string(&path).expect("read");
        let stamp = "1970-01-01T00:00:02.000000000Z stderr F";
        assert_eq!(text, format!("{stamp} a\n{stamp} b\n"));
    }

    #[test]
    fn a_renamed_file_is_left_after_reopening() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (path, old) = (
            dir.path().join("0.log"),
            dir.path().join("0.log.20260101-000000"),
        );
        let mut log = LogFile::open(&path).expect("open");
        let mut cutter = LineCutter::new(Stream::Stdout);
        cutter.push(b"before\n", Timestamp::UNIX_EPOCH, &mut log);
        std::fs::rename(&path, &old).expect("rename");
        cutter.push(b"between\n", Timestamp::UNIX_EPOCH, &mut log);
        log.reopen().expect("reopen");
        cutter.push(b"after\n", Timestamp::UNIX_EPOCH, &mut log);
        let lines = |path| std::fs::read_to_string(path).expect("read").lines().count();
        assert_eq!((lines(&old), lines(&path)), (2, 1));
    }
}
