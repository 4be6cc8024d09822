//! A tar reader for untrusted archives: ustar, PAX and GNU long names, nothing unbounded in memory.
//!
//! It yields entries with their extended attributes resolved and leaves it to the caller to read the body. GNU sparse
//! files, multi-volume archives and unknown entry types are refused by name rather than guessed at.

use std::collections::BTreeMap;
use std::io::{self, Read};

/// A tar block.
const BLOCK: usize = 512;
/// Longest extension header (long name or PAX records) taken, in bytes.
const EXTENSION_MAX: u64 = 1 << 20;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    Device,
}

/// One entry's metadata.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Path as written in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    /// Permission bits with set-id and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of a file's body.
    pub(crate) size: u64,
    /// Modification time, seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    /// Extended attributes (`SCHILY.xattr.*`).
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads entries one after another; bodies not read are skipped.
pub(crate) struct Reader<R> {
    inner: R,
    body_left: u64,
    padding: u64,
    global: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn bad(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            body_left: 0,
            padding: 0,
            global: BTreeMap::new(),
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or `None` at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut long_name = None;
        let mut long_link = None;
        let mut pax = BTreeMap::new();
        loop {
            self.skip_body()?;
            let mut block = [0_u8; BLOCK];
            if !self.read_block(&mut block)? || block.iter().all(|b| *b == 0) {
                return Ok(None);
            }
            verify_checksum(&block)?;
            let size = number(&block[124..136])?;
            match block[156] {
                b'L' => long_name = Some(trim(self.extension(size)?)),
                b'K' => long_link = Some(trim(self.extension(size)?)),
                b'x' => pax = records(&self.extension(size)?)?,
                b'g' => {
                    let shared = records(&self.extension(size)?)?;
                    self.global.extend(shared);
                }
                _ => {
                    let mut merged = self.global.clone();
                    merged.append(&mut pax);
                    let entry = entry(&block, size, long_name, long_link, merged)?;
                    self.body_left = if entry.kind == Kind::File {
                        entry.size
                    } else {
                        0
                    };
                    self.padding = padding(self.body_left);
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(bad(format!(
                "extension header of {size} bytes, more than {EXTENSION_MAX}"
            )));
        }
        self.body_left = size;
        self.padding = padding(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip_body(&mut self) -> io::Result<()> {
        let mut left = self.body_left + self.padding;
        (self.body_left, self.padding) = (0, 0);
        let mut scratch = [0_u8; 8192];
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(scratch.len());
            match self.inner.read(&mut scratch[..want]) {
                Ok(0) => return Err(bad("archive ends within an entry")),
                Ok(n) => left -= n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Fills a block; false when the archive ends cleanly before it.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(bad("archive ends within a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

impl<R: Read> Read for Reader<R> {
    /// Reads from the current entry's body.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.body_left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        match self.inner.read(&mut buffer[..want])? {
            0 => Err(bad("archive ends within an entry")),
            n => {
                self.body_left -= n as u64;
                Ok(n)
            }
        }
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn verify_checksum(block: &[u8; BLOCK]) -> io::Result<()> {
    let stored = number(&block[148..156])?;
    let blank = |(i, b): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { *b };
    let unsigned: u64 = block.iter().enumerate().map(|p| u64::from(blank(p))).sum();
    let signed: i64 = block
        .iter()
        .enumerate()
        .map(|p| i64::from(blank(p).cast_signed()))
        .sum();
    if stored == unsigned || i64::try_from(stored) == Ok(signed) {
        Ok(())
    } else {
        Err(bad("header checksum does not match"))
    }
}

/// A numeric field: octal text, or base 256 when the first bit is set.
fn number(field: &[u8]) -> io::Result<u64> {
    if field[0] & 0x80 != 0 {
        if field[0] != 0x80 {
            return Err(bad("negative number in header"));
        }
        return field[1..]
            .iter()
            .try_fold(0_u64, |n, b| n.checked_mul(256)?.checked_add(u64::from(*b)))
            .ok_or_else(|| bad("number too large"));
    }
    let text: Vec<u8> = field
        .iter()
        .copied()
        .skip_while(|b| *b == b' ')
        .take_while(|b| *b != 0 && *b != b' ')
        .collect();
    let digit = |n: u64, b: &u8| {
        (b'0'..=b'7')
            .contains(b)
            .then(|| n * 8 + u64::from(*b - b'0'))
    };
    text.iter()
        .try_fold(0_u64, digit)
        .ok_or_else(|| bad("malformed number in header"))
}

fn trim(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|b| *b == 0) {
        text.truncate(end);
    }
    text
}

/// PAX records: `LENGTH KEY=VALUE\n`, the length counting all of it.
fn records(mut bytes: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    while !bytes.is_empty() {
        let record = (|| {
            let space = bytes.iter().position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = body.iter().position(|b| *b == b'=')?;
            Some((length, body[..equals].to_vec(), body[equals + 1..].to_vec()))
        })();
        let (length, key, value) = record.ok_or_else(|| bad("malformed PAX record"))?;
        found.insert(key, value);
        bytes = &bytes[length..];
    }
    Ok(found)
}

fn entry(
    block: &[u8; BLOCK],
    size: u64,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    mut pax: BTreeMap<Vec<u8>, Vec<u8>>,
) -> io::Result<Entry> {
    let mut take = |key: &str| pax.remove(key.as_bytes()).filter(|v| !v.is_empty());
    let short_name = || {
        let name = trim(block[..100].to_vec());
        let prefix = if &block[257..263] == b"ustar\0" {
            trim(block[345..500].to_vec())
        } else {
            Vec::new()
        };
        if prefix.is_empty() {
            name
        } else {
            [prefix, name].join(&b'/')
        }
    };
    let path = take("path").or(long_name).unwrap_or_else(short_name);
    let link = take("linkpath")
        .or(long_link)
        .unwrap_or_else(|| trim(block[157..257].to_vec()));
    let small = |n: u64, what: &str| {
        u32::try_from(n).map_err(|_| bad(format!("{what} {n} is out of range")))
    };
    let uid = small(
        take("uid").map_or_else(|| number(&block[108..116]), |v| decimal(&v))?,
        "uid",
    )?;
    let gid = small(
        take("gid").map_or_else(|| number(&block[116..124]), |v| decimal(&v))?,
        "gid",
    )?;
    let mtime = take("mtime").map_or_else(
        || Ok((number(&block[136..148])?.cast_signed(), 0)),
        |v| time(&v),
    )?;
    let size = take("size").map_or(Ok(size), |v| decimal(&v))?;
    if pax.keys().any(|k| k.starts_with(b"GNU.sparse.")) {
        return Err(bad("sparse files are not supported"));
    }
    let prefix = b"SCHILY.xattr.";
    let xattrs = pax
        .into_iter()
        .filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_vec(), v)))
        .collect();
    let kind = kind(block[156], &path)?;
    Ok(Entry {
        kind,
        path,
        link,
        mode: (number(&block[100..108])? & 0o7777) as u32,
        uid,
        gid,
        size,
        mtime,
        xattrs,
    })
}

fn kind(flag: u8, path: &[u8]) -> io::Result<Kind> {
    Ok(match flag {
        // Old archives mark directories by a trailing slash alone.
        b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err(bad("sparse files are not supported")),
        other => return Err(bad(format!("unknown entry type {:?}", char::from(other)))),
    })
}

fn decimal(text: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| bad("malformed number in PAX record"))
}

/// `SECONDS[.FRACTION]`, as PAX writes times.
fn time(text: &[u8]) -> io::Result<(i64, u32)> {
    let parsed = (|| {
        let text = std::str::from_utf8(text).ok()?;
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let nanos: String = fraction
            .chars()
            .chain("000000000".chars())
            .take(9)
            .collect();
        let (seconds, nanos): (i64, u32) = (seconds.parse().ok()?, nanos.parse().ok()?);
        // -1.25 is -2 seconds and 750 ms.
        Some(if text.starts_with('-') && nanos > 0 {
            (seconds.checked_sub(1)?, 1_000_000_000 - nanos)
        } else {
            (seconds, nanos)
        })
    })();
    parsed.ok_or_else(|| bad("malformed time in PAX record"))
}
