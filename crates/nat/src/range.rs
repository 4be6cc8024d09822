//! Ranges of IPv4 addresses; pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A CIDR range whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv4Range {
    base: u32,
    prefix: u8,
}

/// A text that is no CIDR range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range such as 10.244.0.0/16")]
pub struct RangeError(String);

impl Ipv4Range {
    /// What a machine calls itself: 127.0.0.0/8 (RFC 1122).
    pub const LOOPBACK: Ipv4Range = Ipv4Range {
        base: 0x7f00_0000,
        prefix: 8,
    };

    /// The range of that prefix length around an address; `None` if the length is above 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Ipv4Range {
            base: u32::from(address) & mask(prefix),
            prefix,
        })
    }

    /// Prefix length, 0 to 32.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// First address: the network's own.
    pub fn base(self) -> Ipv4Addr {
        self.base.into()
    }

    /// The netmask as an address.
    pub fn mask(self) -> Ipv4Addr {
        mask(self.prefix).into()
    }

    /// The address at an offset from the first; `None` outside the range.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        (u64::from(offset) < self.size()).then(|| (self.base + offset).into())
    }

    /// How many addresses it has.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Ipv4Range) -> bool {
        let shorter = self.prefix.min(other.prefix);
        self.base & mask(shorter) == other.base & mask(shorter)
    }

    /// Whether the address lies in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

impl FromStr for Ipv4Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            Ipv4Range::new(address.parse().ok()?, prefix.parse().ok()?)
        });
        parsed.ok_or_else(|| RangeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ipv4Range {
        text.parse().expect("a range")
    }

    #[test]
    fn reads_and_writes_cidr() {
        assert_eq!(range("10.244.3.9/16").to_string(), "10.244.0.0/16");
        assert_eq!(range("0.0.0.0/0").size(), 1 << 32);
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/0", "a/8"] {
            assert!(bad.parse::<Ipv4Range>().is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_its_members_and_neighbours() {
        assert_eq!(
            range("10.244.0.0/30").nth(3),
            Some(Ipv4Addr::new(10, 244, 0, 3))
        );
        assert_eq!(range("10.244.0.0/30").nth(4), None);
        assert!(range("10.244.0.0/16").overlaps(range("10.244.7.0/24")));
        assert!(range("10.244.7.0/24").overlaps(range("10.0.0.0/8")));
        assert!(!range("10.244.0.0/16").overlaps(range("10.245.0.0/16")));
        assert!(range("10.244.0.0/16").contains(Ipv4Addr::new(10, 244, 255, 255)));
        assert!(!range("10.244.0.0/16").contains(Ipv4Addr::new(10, 245, 0, 0)));
    }
}
