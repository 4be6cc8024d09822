//! The address pool: one small file for each address given out, named after it and holding the sandbox's id.
//!
//! A file is made with `O_EXCL` before the address is used and removed after it was taken off, so a crash can leak an address
//! until the next start compares holders with sandboxes, but never give it out twice. The files need no fsync: after a power cut no Pod is left to hold one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nat::{IpRange, Ranges, number};

/// Addresses of one range or two and who holds them: each holder one of each.
#[derive(Debug)]
pub(crate) struct Pools(Vec<Pool>);

/// Addresses of one range and who holds them.
#[derive(Debug)]
struct Pool {
    dir: PathBuf,
    range: IpRange,
    by_address: BTreeMap<IpAddr, String>,
    by_holder: HashMap<String, IpAddr>,
    /// Offset after the last address given out: addresses rotate, so that one just freed rests as long as possible.
    next: u128,
}

impl Pools {
    /// Opens the pools kept in `dir`, which is made if absent. Files that are no record of these ranges are ignored.
    pub(crate) fn open(dir: &Path, ranges: Ranges) -> io::Result<Self> {
        let pools = ranges.iter().map(|range| Pool::open(dir, range));
        Ok(Pools(pools.collect::<io::Result<_>>()?))
    }

    /// The addresses of the node: the first of each range.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.0.iter().map(Pool::gateway).collect()
    }

    /// What `holder` has, in the order of the ranges.
    pub(crate) fn of(&self, holder: &str) -> Vec<IpAddr> {
        self.0.iter().filter_map(|pool| pool.of(holder)).collect()
    }

    /// An address of each range for `holder`, unless it has one of them already: then it keeps what it has. The range of which all are
    /// taken, if there is one; `holder` has none then.
    pub(crate) fn allocate(&mut self, holder: &str) -> io::Result<Result<Vec<IpAddr>, IpRange>> {
        let known = self.of(holder);
        if !known.is_empty() {
            return Ok(Ok(known));
        }
        let mut taken = Vec::new();
        for pool in &mut self.0 {
            match pool.allocate(holder)? {
                Some(address) => taken.push(address),
                None => {
                    let full = pool.range;
                    self.release(holder)?;
                    return Ok(Err(full));
                }
            }
        }
        Ok(Ok(taken))
    }

    /// Frees what `holder` has, if anything.
    pub(crate) fn release(&mut self, holder: &str) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|pool| pool.release(holder))
    }

    /// Everyone who holds an address.
    pub(crate) fn holders(&self) -> Vec<String> {
        let holders = self.0.iter().flat_map(|pool| pool.by_holder.keys());
        let holders: BTreeSet<&String> = holders.collect();
        holders.into_iter().cloned().collect()
    }
}

impl Pool {
    /// Opens the pool kept in `dir`, which is made if absent. Files that are no record of this range are ignored.
    fn open(dir: &Path, range: IpRange) -> io::Result<Self> {
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
    fn gateway(&self) -> IpAddr {
        self.range.nth(GATEWAY).unwrap_or(self.range.base())
    }

    /// What `holder` has.
    fn of(&self, holder: &str) -> Option<IpAddr> {
        self.by_holder.get(holder).copied()
    }

    /// An address for `holder`: the one it has already, or the next free one. `None` when all are taken.
    fn allocate(&mut self, holder: &str) -> io::Result<Option<IpAddr>> {
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
    fn release(&mut self, holder: &str) -> io::Result<()> {
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

    fn free(&self) -> Option<(IpAddr, u128)> {
        // The last address of a range is its broadcast address, in IPv4.
        let last = number(self.range.last()) - number(self.range.base());
        let from = self.next.clamp(FIRST, last.max(FIRST));
        (from..last).chain(FIRST..from).find_map(|offset| {
            let address = self.range.nth(offset).filter(|_| offset < last)?;
            (!self.by_address.contains_key(&address)).then_some((address, offset))
        })
    }

    fn record(&self, address: IpAddr, holder: &str) -> io::Result<()> {
        use std::io::Write;
        fs::File::create_new(self.dir.join(address.to_string()))?.write_all(holder.as_bytes())
    }
}

/// Offset of the node's own address.
const GATEWAY: u128 = 1;
/// Offset of the first address a Pod may have.
const FIRST: u128 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ranges: &str) -> (tempfile::TempDir, Pools) {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = Pools::open(dir.path(), ranges.parse().expect("ranges")).expect("pools");
        (dir, pool)
    }

    /// The last part of the first address, as a number.
    fn last_part(taken: Result<Vec<IpAddr>, IpRange>) -> Option<u128> {
        taken.ok().map(|taken| number(taken[0]) & 0xff)
    }

    #[test]
    fn gives_each_holder_one_address_and_rotates() {
        for ranges in ["10.9.0.0/29", "fd00::/125", "10.9.0.0/29,fd00::/64"] {
            rotates(ranges);
        }
    }

    fn rotates(ranges: &str) {
        let (_dir, mut pool) = pool(ranges);
        let mut take = |holder: &str| last_part(pool.allocate(holder).expect("allocates"));
        assert_eq!(
            [take("a"), take("a"), take("b")],
            [Some(2), Some(2), Some(3)]
        );
        pool.release("a").expect("releases");
        let mut take = |holder: &str| last_part(pool.allocate(holder).expect("allocates"));
        assert_eq!(
            [take("c"), take("d"), take("e"), take("f"), take("g")],
            [Some(4), Some(5), Some(6), Some(2), None]
        );
    }

    #[test]
    fn survives_being_opened_again() {
        let (dir, mut first) = pool("fd00::/64,10.9.0.0/24");
        let addresses = first.allocate("a").expect("allocates").expect("some");
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["fd00::2", "10.9.0.2"]);
        std::fs::write(dir.path().join("notes"), "x").expect("writes");
        std::fs::write(dir.path().join("10.8.0.7"), "stranger").expect("writes");
        let mut second = Pools::open(dir.path(), "fd00::/64,10.9.0.0/24".parse().expect("ranges"))
            .expect("pools");
        assert_eq!(second.of("a"), addresses);
        assert_eq!(second.holders(), ["a"]);
        second.release("a").expect("releases");
        second.release("a").expect("releases again");
        assert_eq!(second.of("a"), [] as [IpAddr; 0]);
        for address in shown {
            assert!(!dir.path().join(address).exists());
        }
    }

    #[test]
    fn who_cannot_have_an_address_of_each_range_has_none() {
        let (dir, mut pools) = pool("10.9.0.0/24,fd00::/126");
        pools.allocate("a").expect("allocates").expect("some");
        let full = pools.allocate("b").expect("tries").expect_err("full");
        assert_eq!(full.to_string(), "fd00::/126");
        assert_eq!(pools.holders(), ["a"]);
        assert!(!dir.path().join("10.9.0.3").exists());
    }

    #[test]
    fn what_was_given_out_before_there_was_a_second_range_stays() {
        let (dir, mut one) = pool("10.9.0.0/24");
        let before = one.allocate("a").expect("allocates").expect("some");
        let both = "10.9.0.0/24,fd00::/64".parse().expect("ranges");
        let mut both = Pools::open(dir.path(), both).expect("pools");
        assert_eq!(both.allocate("a").expect("allocates"), Ok(before));
        let new = both.allocate("b").expect("allocates").expect("some");
        assert_eq!(new.len(), 2);
    }
}
