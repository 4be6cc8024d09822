//! Ranges of addresses; pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Which kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both of them.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The address with these bits, of which those that do not fit are left out.
    pub fn address(self, bits: u128) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::from(bits as u32).into(),
            Family::V6 => Ipv6Addr::from(bits).into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// An address as a number.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The bytes of an address, as packets have it.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A CIDR range whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpRange {
    family: Family,
    base: u128,
    prefix: u8,
}

/// A text that is no CIDR range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is no range at all.
    #[error("{0:?} is not a range such as 10.244.0.0/16 or fd00:10:244::/64")]
    NoRange(String),
    /// There are too many, or two of one family.
    #[error("{0:?} is neither one range nor one of IPv4 and one of IPv6")]
    NoPair(String),
}

impl IpRange {
    /// The range of that prefix length around an address; `None` if the length is above that of its addresses.
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Option<Self> {
        let address = address.into();
        let family = Family::of(address);
        (prefix <= family.bits()).then(|| IpRange {
            family,
            base: number(address) & mask(family, prefix),
            prefix,
        })
    }

    /// What a machine calls itself: 127.0.0.0/8 (RFC 1122) or ::1 (RFC 4291).
    pub fn loopback(family: Family) -> Self {
        match family {
            Family::V4 => IpRange {
                family,
                base: 0x7f00_0000,
                prefix: 8,
            },
            Family::V6 => IpRange {
                family,
                base: 1,
                prefix: 128,
            },
        }
    }

    /// Of which addresses.
    pub fn family(self) -> Family {
        self.family
    }

    /// Prefix length, at most 32 or 128.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// First address: the network's own.
    pub fn base(self) -> IpAddr {
        self.family.address(self.base)
    }

    /// Last address.
    pub fn last(self) -> IpAddr {
        let host = !mask(self.family, self.prefix);
        self.family.address(self.base | host)
    }

    /// The netmask as an address.
    pub fn mask(self) -> IpAddr {
        self.family.address(mask(self.family, self.prefix))
    }

    /// The address at an offset from the first; `None` outside the range.
    pub fn nth(self, offset: u128) -> Option<IpAddr> {
        (offset <= number(self.last()) - self.base).then(|| self.family.address(self.base + offset))
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: IpRange) -> bool {
        let mask = mask(self.family, self.prefix.min(other.prefix));
        self.family == other.family && self.base & mask == other.base & mask
    }

    /// Whether the address lies in the range.
    pub fn contains(self, address: IpAddr) -> bool {
        self.family == Family::of(address)
            && number(address) & mask(self.family, self.prefix) == self.base
    }
}

/// Above the bits of the family, too, there are ones.
fn mask(family: Family, prefix: u8) -> u128 {
    let host = u32::from(family.bits() - prefix);
    u128::MAX.checked_shl(host).unwrap_or(0)
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

impl FromStr for IpRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            IpRange::new(address.parse::<IpAddr>().ok()?, prefix.parse().ok()?)
        });
        parsed.ok_or_else(|| RangeError::NoRange(text.to_owned()))
    }
}

/// A range, or one of each family. The first is that of the primary family. Written as `10.244.0.0/16,fd00:10:244::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    first: IpRange,
    second: Option<IpRange>,
}

impl Ranges {
    /// The range, or the two; `None` if they are of one family.
    pub fn new(first: IpRange, second: Option<IpRange>) -> Option<Self> {
        let differ = second.is_none_or(|second| second.family != first.family);
        differ.then_some(Ranges { first, second })
    }

    /// That of the primary family.
    pub fn primary(self) -> IpRange {
        self.first
    }

    /// That of the other family.
    pub fn secondary(self) -> Option<IpRange> {
        self.second
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = IpRange> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// Their families, in order.
    pub fn families(self) -> impl Iterator<Item = Family> {
        self.iter().map(IpRange::family)
    }

    /// Whether any two have an address in common.
    pub fn overlaps(self, other: Ranges) -> bool {
        self.iter()
            .any(|one| other.iter().any(|two| one.overlaps(two)))
    }
}

impl From<IpRange> for Ranges {
    fn from(first: IpRange) -> Self {
        Ranges {
            first,
            second: None,
        }
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.second.map_or(Ok(()), |second| write!(f, ",{second}"))
    }
}

impl FromStr for Ranges {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (first, second) = match text.split_once(',') {
            Some((first, second)) => (first, Some(second)),
            None => (text, None),
        };
        let second = second.map(|second| second.trim().parse()).transpose()?;
        Ranges::new(first.trim().parse()?, second)
            .ok_or_else(|| RangeError::NoPair(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpRange {
        text.parse().expect("a range")
    }

    #[test]
    fn reads_and_writes_cidr() {
        for (text, shown) in [
            ("10.244.3.9/16", "10.244.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00:10:244::9/64", "fd00:10:244::/64"),
            ("::/0", "::/0"),
            ("::1/128", "::1/128"),
        ] {
            assert_eq!(range(text).to_string(), shown);
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8"] {
            assert!(bad.parse::<IpRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn knows_its_members_and_neighbours() {
        let nth = |text, n| range(text).nth(n).map(|ip| ip.to_string());
        assert_eq!(nth("10.244.0.0/30", 3).as_deref(), Some("10.244.0.3"));
        assert_eq!(nth("10.244.0.0/30", 4), None);
        assert_eq!(nth("fd00::/126", 3).as_deref(), Some("fd00::3"));
        assert_eq!(nth("fd00::/126", 4), None);
        assert_eq!(range("0.0.0.0/0").last().to_string(), "255.255.255.255");
        let all = u128::MAX;
        assert_eq!(number(range("::/0").last()), all);
        for (one, two, expected) in [
            ("10.244.0.0/16", "10.244.7.0/24", true),
            ("10.244.7.0/24", "10.0.0.0/8", true),
            ("10.244.0.0/16", "10.245.0.0/16", false),
            ("fd00:1::/32", "fd00:1:2::/64", true),
            ("fd00:1::/64", "fd00:1:0:1::/64", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            assert_eq!(range(one).overlaps(range(two)), expected, "{one} {two}");
        }
        for (of, address, expected) in [
            ("10.244.0.0/16", "10.244.255.255", true),
            ("10.244.0.0/16", "10.245.0.0", false),
            ("::/0", "10.245.0.0", false),
            ("fd00::/64", "fd00::ffff:0:0:1", true),
            ("fd00::/64", "fd00:0:0:1::", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(range(of).contains(address), expected, "{of} {address}");
        }
    }

    #[test]
    fn pairs_are_of_both_families_and_keep_their_order() {
        for (text, families) in [
            ("10.0.0.0/8", "IPv4"),
            ("fd00::/64", "IPv6"),
            ("10.0.0.0/8, fd00::/64", "IPv4 IPv6"),
            ("fd00::/64,10.0.0.0/8", "IPv6 IPv4"),
        ] {
            let ranges: Ranges = text.parse().expect("ranges");
            let shown: Vec<_> = ranges.families().map(|f| f.to_string()).collect();
            assert_eq!(shown.join(" "), families);
            assert_eq!(ranges.to_string(), text.replace(' ', ""));
        }
        for bad in [
            "",
            ",",
            "10.0.0.0/8,",
            "10.0.0.0/8,11.0.0.0/8",
            "fd00::/64,fd01::/64",
            "10.0.0.0/8,fd00::/64,11.0.0.0/8",
        ] {
            assert!(bad.parse::<Ranges>().is_err(), "{bad}");
        }
    }
}
