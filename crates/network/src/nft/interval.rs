//! Intervals of addresses and ports, as sets hold them; pure.

use nat::{Family, IpRange, number};

use super::set::{Element, Value};
use nat::octets;

/// The first and the last of something.
pub(super) type Interval = (u128, u128);

/// All addresses of a range.
pub(super) fn bounds(range: &IpRange) -> Interval {
    (number(range.base()), number(range.last()))
}

/// In order, and those that meet as one.
pub(super) fn merged(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut merged: Vec<Interval> = Vec::new();
    for (first, last) in intervals {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// The elements of a set of intervals. What goes on to the last value, behind which there is no key, has no end.
pub(super) fn elements(
    intervals: &[Interval],
    key: impl Fn(u128) -> Option<Vec<u8>>,
) -> Vec<Element> {
    let ends = intervals.iter().flat_map(|(first, last)| {
        let behind = last.checked_add(1).map(|end| (end, Value::End));
        [Some((*first, Value::Nothing)), behind]
    });
    let ends = ends.flatten();
    ends.filter_map(|(at, value)| Some((key(at)?, value)))
        .collect()
}

/// The key of an address of this family.
pub(super) fn of_addresses(family: Family) -> impl Fn(u128) -> Option<Vec<u8>> {
    move |at| {
        let ip = family.address(at);
        (number(ip) == at).then(|| octets(ip))
    }
}

/// The key of a port.
pub(super) fn of_ports(at: u128) -> Option<Vec<u8>> {
    Some(u16::try_from(at).ok()?.to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn ranges_that_meet_are_one_interval_and_the_last_has_no_end() {
        for (ranges, expected) in [
            (&["10.0.0.0/8"][..], "10.0.0.0-11.0.0.0"),
            (
                &["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"],
                "10.0.0.0-11.0.0.0",
            ),
            (
                &["192.0.2.7/32", "10.0.0.0/31"],
                "10.0.0.0-10.0.0.2 192.0.2.7-192.0.2.8",
            ),
            (&["128.0.0.0/1", "255.0.0.0/8"], "128.0.0.0"),
            (&["0.0.0.0/0"], "0.0.0.0"),
            (
                &["fd00::/65", "fd00:0:0:0:8000::/65", "fd00::7/128"],
                "fd00::-fd00:0:0:1::",
            ),
            (&["8000::/1", "::2/127"], "::2-::4 8000::"),
            (&["::/0"], "::"),
        ] {
            let ranges = ranges.iter().map(|range| range.parse().expect("a range"));
            let ranges: Vec<IpRange> = ranges.collect();
            let family = ranges[0].family();
            let ranges = ranges.iter().map(bounds).collect();
            let mut shown = String::new();
            for (key, value) in elements(&merged(ranges), of_addresses(family)) {
                let sign = match value {
                    Value::End => "-",
                    _ => " ",
                };
                let v4 = <[u8; 4]>::try_from(&key[..]).map(|key| Ipv4Addr::from(key).to_string());
                let v6 = <[u8; 16]>::try_from(&key[..]).map(|key| Ipv6Addr::from(key).to_string());
                shown += &format!("{sign}{}", v4.or(v6).expect("an address"));
            }
            assert_eq!(shown.trim(), expected);
        }
    }
}
