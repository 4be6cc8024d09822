//! The address pool: one small file for each address given out, named after it and holding the sandbox's id.
//!
//! A file is made with `O_EXCL` before the address is used and removed after it was taken off, so a crash can leak an address
//! until the next start compares holders with sandboxes, but never give it out twice. The files need no fsync: after a power cut no Pod is left to hold one.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nat::Ipv4Range;

/// Addresses of one range and who holds them.
#[derive(Debug)]
pub(crate) struct Pool {
    dir: PathBuf,
    range: Ipv4Range,
    by_address: BTreeMap<Ipv4Addr, String>,
    by_holder: HashMap<String, Ipv4Addr>,
    /// Offset after the last address given out: addresses rotate, so that one just freed rests as long as possible.
    next: u32,
}

impl Pool {
    /// Opens the pool kept in `dir`, which is made if absent. Files that are no record of this range are ignored.
    pub(crate) fn open(dir: &Path, range: Ipv4Range) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut pool = Pool {
            dir: dir.to_owned(),
            range,
            by_address: BTreeMap::new(),
            by_holder: HashMap::new(),
            next: FIRST,
        };
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let address = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                .filter(|a| range.contains(*a));
            if let (Some(address), Ok(holder)) = (address, fs::read_to_string(entry.path())) {
                pool.by_address.insert(address, holder.clone());
                pool.by_holder.insert(holder, address);
            }
        }
        Ok(pool)
    }

    /// The address of the node on this range: its first.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.range.nth(GATEWAY).unwrap_or(self.range.base())
    }

    /// What `holder` has.
    pub(crate) fn of(&self, holder: &str) -> Option<Ipv4Addr> {
        self.by_holder.get(holder).copied()
    }

    /// An address for `holder`: the one it has already, or the next free one. `None` when all are taken.
    pub(crate) fn allocate(&mut self, holder: &str) -> io::Result<Option<Ipv4Addr>> {
        if let Some(address) = self.of(holder) {
            return Ok(Some(address));
        }
        let Some((address, offset)) = self.free() else {
            return Ok(None);
        };
        self.record(address, holder)?;
        self.next = offset + 1;
        self.by_address.insert(address, holder.to_owned());
        self.by_holder.insert(holder.to_owned(), address);
        Ok(Some(address))
    }

    /// Frees what `holder` has, if anything.
    pub(crate) fn release(&mut self, holder: &str) -> io::Result<()> {
        let Some(address) = self.of(holder) else {
            return Ok(());
        };
        match fs::remove_file(self.dir.join(address.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.by_address.remove(&address);
        self.by_holder.remove(holder);
        Ok(())
    }

    /// Everyone who holds an address.
    pub(crate) fn holders(&self) -> Vec<String> {
        self.by_holder.keys().cloned().collect()
    }

    fn free(&self) -> Option<(Ipv4Addr, u32)> {
        // The last address of a range is its broadcast address.
        let last = u32::try_from(self.range.size() - 1).unwrap_or(u32::MAX);
        let from = self.next.clamp(FIRST, last.max(FIRST));
        (from..last).chain(FIRST..from).find_map(|offset| {
            let address = self.range.nth(offset).filter(|_| offset < last)?;
            (!self.by_address.contains_key(&address)).then_some((address, offset))
        })
    }

    fn record(&self, address: Ipv4Addr, holder: &str) -> io::Result<()> {
        use std::io::Write;
        fs::File::create_new(self.dir.join(address.to_string()))?.write_all(holder.as_bytes())
    }
}

/// Offset of the node's own address.
const GATEWAY: u32 = 1;
/// Offset of the first address a Pod may have.
const FIRST: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str) -> (tempfile::TempDir, Pool) {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = Pool::open(dir.path(), range.parse().expect("a range")).expect("a pool");
        (dir, pool)
    }

    #[test]
    fn gives_each_holder_one_address_and_rotates() {
        let (_dir, mut pool) = pool("10.9.0.0/29");
        let mut take = |holder: &str| {
            pool.allocate(holder)
                .expect("allocates")
                .map(|a| a.octets()[3])
        };
        assert_eq!(
            [take("a"), take("a"), take("b")],
            [Some(2), Some(2), Some(3)]
        );
        pool.release("a").expect("releases");
        let mut take = |holder: &str| {
            pool.allocate(holder)
                .expect("allocates")
                .map(|a| a.octets()[3])
        };
        assert_eq!(
            [take("c"), take("d"), take("e"), take("f"), take("g")],
            [Some(4), Some(5), Some(6), Some(2), None]
        );
    }

    #[test]
    fn survives_being_opened_again() {
        let (dir, mut first) = pool("10.9.0.0/24");
        let address = first.allocate("a").expect("allocates");
        std::fs::write(dir.path().join("notes"), "x").expect("writes");
        std::fs::write(dir.path().join("10.8.0.7"), "stranger").expect("writes");
        let mut second =
            Pool::open(dir.path(), "10.9.0.0/24".parse().expect("a range")).expect("a pool");
        assert_eq!(second.of("a"), address);
        assert_eq!(second.holders(), ["a"]);
        second.release("a").expect("releases");
        second.release("a").expect("releases again");
        assert!(
            !dir.path()
                .join(address.expect("an address").to_string())
                .exists()
        );
    }
}
