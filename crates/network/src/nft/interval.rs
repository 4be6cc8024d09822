//! Intervals of addresses and ports, as sets hold them; pure.

use nat::Ipv4Range;

use super::set::{Element, Value};

/// Where something begins, and the first behind it.
pub(super) type Interval = (u64, u64);

/// All addresses of a range.
pub(super) fn bounds(range: &Ipv4Range) -> Interval {
    let first = u64::from(u32::from(range.base()));
    (first, first + range.size())
}

/// In order, and those that meet as one.
pub(super) fn merged(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut merged: Vec<Interval> = Vec::new();
    for (first, end) in intervals {
        match merged.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((first, end)),
        }
    }
    merged
}

/// The elements of a set of intervals. What goes on to the last value, behind which there is no key, has no end.
pub(super) fn elements(intervals: &[Interval], key: fn(u64) -> Option<Vec<u8>>) -> Vec<Element> {
    let ends = intervals
        .iter()
        .flat_map(|(first, end)| [(*first, Value::Nothing), (*end, Value::End)]);
    ends.filter_map(|(at, value)| Some((key(at)?, value)))
        .collect()
}

/// The key of an address.
pub(super) fn of_addresses(at: u64) -> Option<Vec<u8>> {
    Some(u32::try_from(at).ok()?.to_be_bytes().to_vec())
}

/// The key of a port.
pub(super) fn of_ports(at: u64) -> Option<Vec<u8>> {
    Some(u16::try_from(at).ok()?.to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
        ] {
            let ranges = ranges.iter().map(|range| range.parse().expect("a range"));
            let ranges = ranges.map(|range| bounds(&range)).collect();
            let mut shown = String::new();
            for (key, value) in elements(&merged(ranges), of_addresses) {
                let sign = match value {
                    Value::End => "-",
                    _ => " ",
                };
                let address = Ipv4Addr::from(<[u8; 4]>::try_from(key).expect("an address"));
                shown += &format!("{sign}{address}");
            }
            assert_eq!(shown.trim(), expected);
        }
    }
}
