//! The log of a disk's writes as QEMU's `blklogwrites` keeps it (the format of Linux's `dm-log-writes`), and putting it on a disk.
//!
//! The first sector says how many entries there are. Each entry takes a sector with four little-endian words (first sector, sectors,
//! flags, length) and is followed by its data.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};

const MAGIC: u64 = 0x6a_7366_7773_6872;
const SECTOR_BYTES: u64 = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// One thing a disk was asked for.
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where its data is in the log.
    data_at: u64,
}

/// An empty log.
pub(super) fn fresh(log: &Path) -> anyhow::Result<()> {
    File::create(log)?;
    Ok(())
}

/// Writes to `disk` what was logged before the last flush, and loses the rest.
pub(super) fn replay(log: &Path, disk: &Path) -> anyhow::Result<()> {
    let log = File::open(log).context("open the disk's log")?;
    let disk = OpenOptions::new().write(true).open(disk)?;
    let entries = entries(&log)?;
    let flushed = entries.iter().rposition(|entry| entry.flags & FLUSH != 0);
    for entry in &entries[..flushed.map_or(0, |last| last + 1)] {
        let mut data = vec![0; usize::try_from(entry.sectors * SECTOR_BYTES)?];
        if entry.flags & DISCARD == 0 {
            log.read_exact_at(&mut data, entry.data_at)
                .context("read the disk's log")?;
        }
        disk.write_all_at(&data, entry.sector * SECTOR_BYTES)?;
    }
    Ok(())
}

/// Every entry that was wholly written. The head is updated now and then only, so the entries are counted by what is there.
fn entries(log: &File) -> anyhow::Result<Vec<Entry>> {
    let head = words(log, 0)?.context("the disk's log is empty")?;
    if head[0] != MAGIC {
        bail!("the disk's log is in another format");
    }
    let mut found = Vec::new();
    let mut at = SECTOR_BYTES;
    for _ in 0..head[2] {
        let Some([sector, sectors, flags, _]) = words(log, at)? else {
            break;
        };
        let data_at = at + SECTOR_BYTES;
        let length = if flags & DISCARD == 0 { sectors } else { 0 };
        at = data_at + length * SECTOR_BYTES;
        found.push(Entry {
            sector,
            sectors,
            flags,
            data_at,
        });
    }
    Ok(found)
}

/// The first four words of the log's sector at `at`; `None` beyond its end.
fn words(log: &File, at: u64) -> anyhow::Result<Option<[u64; 4]>> {
    let mut bytes = [0; 32];
    match log.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into()?);
    }
    Ok(Some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_last_flush_is_lost() {
        let dir = std::env::temp_dir().join(format!("disklog-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (log, disk) = (dir.join("log"), dir.join("disk"));
        let mut text = Vec::new();
        let mut sector = |words: &[u64], data: &[u8]| {
            let mut head: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            head.resize(512, 0);
            text.extend(head);
            text.extend(data);
        };
        sector(&[MAGIC, 1, 4, 512], b"");
        sector(&[1, 1, 0, 0], &[b'a'; 512]);
        sector(&[0, 0, FLUSH, 0], b"");
        sector(&[0, 1, DISCARD, 0], b"");
        sector(&[2, 1, 0, 0], &[b'b'; 512]);
        std::fs::write(&log, text).unwrap();
        std::fs::write(&disk, [b'-'; 1536]).unwrap();
        replay(&log, &disk).unwrap();
        let seen = std::fs::read(&disk).unwrap();
        assert_eq!([seen[0], seen[512], seen[1024]], *b"-a-");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
