//! Records of a log turned into what users see: `<time> <stream> <F|P> <content>` without its head.

use jiff::Timestamp;
use ports::node::LogOptions;

/// Most bytes of a line without an end that are kept; runtimes cut lines at 16 KiB.
const MAX_RECORD: usize = 1024 * 1024;

/// Prints records as they come, in pieces of any size.
pub(crate) struct Printer {
    timestamps: bool,
    since: Option<Timestamp>,
    /// Bytes that may still be printed.
    left: Option<u64>,
    /// The last record's line goes on in the next one.
    mid_line: bool,
    rest: Vec<u8>,
}

impl Printer {
    pub(crate) fn new(options: &LogOptions) -> Self {
        let (timestamps, since, left) = (options.timestamps, options.since, options.limit_bytes);
        Printer {
            timestamps,
            since,
            left,
            mid_line: false,
            rest: Vec::new(),
        }
    }

    /// Whether the limit is reached.
    pub(crate) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// What these bytes of the file add.
    pub(crate) fn print(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut out = Vec::with_capacity(rest.len());
        for line in rest.split_inclusive(|b| *b == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(record) => self.record(record, &mut out),
                None if line.len() <= MAX_RECORD => self.rest = line.to_vec(),
                None => {}
            }
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        out
    }

    /// A record that is none is left out.
    fn record(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let mut parts = record.splitn(4, |b| *b == b' ');
        let (Some(time), Some(_stream), Some(tag)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let content = parts.next().unwrap_or_default();
        let Some(time) = std::str::from_utf8(time)
            .ok()
            .and_then(|t| t.parse::<Timestamp>().ok())
        else {
            return;
        };
        let partial = tag.split(|b| *b == b':').next() == Some(b"P");
        if self.since.is_some_and(|since| time < since) {
            return;
        }
        if self.timestamps && !self.mid_line {
            out.extend_from_slice(
                time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ")
                    .to_string()
                    .as_bytes(),
            );
        }
        out.extend_from_slice(content);
        if !partial {
            out.push(b'\n');
        }
        self.mid_line = partial;
    }
}
