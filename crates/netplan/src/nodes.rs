//! Where the Pods of each node have their addresses, and which way leads to those of other nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use nat::{Family, IpRange, Ranges, number};

/// What matters of a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Ranges of its Pods; none before it was given some.
    pub ranges: Vec<IpRange>,
    /// Where others reach it.
    pub addresses: Vec<IpAddr>,
}

impl Place {
    /// Looks at a Node. What cannot be read of it is not there.
    pub fn of(node: &Node) -> Self {
        let cidrs = node.spec.iter().flat_map(|spec| match &spec.pod_cidrs {
            Some(all) => all.as_slice(),
            None => spec.pod_cidr.as_slice(),
        });
        let addresses = node.status.iter().flat_map(|status| &status.addresses);
        let internal = addresses.flatten().filter(|a| a.type_ == "InternalIP");
        Place {
            ranges: cidrs.filter_map(|cidr| cidr.parse().ok()).collect(),
            addresses: internal.filter_map(|a| a.address.parse().ok()).collect(),
        }
    }
}

/// The ways from a node to the Pods of all others: through the node, by its first address of the family. A range that overlaps the
/// node's own leads nowhere; of two nodes with one range the first by name has it.
pub fn ways<'a>(
    places: impl Iterator<Item = (&'a str, &'a Place)>,
    own: &str,
) -> BTreeMap<IpRange, IpAddr> {
    let mut others: BTreeMap<&str, &Place> = places.collect();
    let own = others.remove(own);
    let own_ranges = own.map_or(&[][..], |place| &place.ranges);
    let mut ways = BTreeMap::new();
    for place in others.into_values() {
        for range in &place.ranges {
            let mut addresses = place.addresses.iter();
            let via = addresses.find(|ip| Family::of(**ip) == range.family());
            let is_own = own_ranges.iter().any(|own| own.overlaps(*range));
            if let (Some(via), false) = (via, is_own) {
                ways.entry(*range).or_insert(*via);
            }
        }
    }
    ways
}

/// Ranges that are nobody else's by agreement: private and shared addresses of IPv4 (RFC 1918, RFC 6598), unique local ones of IPv6
/// (RFC 4193).
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];
/// Fixed bits that the ranges of all nodes have less than those of one, where the first are not private.
const NODES: u8 = 8;
/// Most ranges that are tried.
const MOST: u128 = 65_536;

/// The ranges of a new node: of the families and sizes of `first`, which another node has, the next behind it that are in none of
/// those that are taken. `None` if there are none.
pub fn next(first: Ranges, taken: &[IpRange]) -> Option<Ranges> {
    let primary = next_of(first.primary(), taken)?;
    let second = match first.secondary() {
        Some(second) => Some(next_of(second, taken)?),
        None => None,
    };
    Ranges::new(primary, second)
}

fn next_of(first: IpRange, taken: &[IpRange]) -> Option<IpRange> {
    let block = block(first);
    let (family, bits) = (first.family(), first.family().bits());
    let size = 1_u128.checked_shl(u32::from(bits - first.prefix()))?;
    let count = 1_u128.checked_shl(u32::from(first.prefix() - block.prefix()))?;
    let own = (number(first.base()) - number(block.base())) / size;
    (1..count.min(MOST))
        .map(|n| number(block.base()) + (own + n) % count * size)
        .filter_map(|base| IpRange::new(family.address(base), first.prefix()))
        .find(|range| !taken.iter().any(|taken| taken.overlaps(*range)))
}

/// All that nodes can have beside this.
fn block(first: IpRange) -> IpRange {
    let private = PRIVATE.iter().filter_map(|block| block.parse().ok());
    let mut private = private.filter(|block: &IpRange| block.prefix() <= first.prefix());
    let around = IpRange::new(first.base(), first.prefix().saturating_sub(NODES));
    let found = private.find(|block| block.contains(first.base()));
    found.or(around).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(text: &str) -> IpRange {
        text.parse().expect("a range")
    }

    #[test]
    fn a_new_node_has_the_next_ranges_that_are_free() {
        for (first, taken, expected) in [
            ("10.244.0.0/16", &[][..], Some("10.245.0.0/16")),
            (
                "10.244.0.0/16",
                &["10.244.0.0/16", "10.245.0.0/16", "10.246.9.0/24"],
                Some("10.247.0.0/16"),
            ),
            ("10.255.0.0/16", &["10.0.0.7/32"], Some("10.1.0.0/16")),
            ("192.168.7.0/24", &[], Some("192.168.8.0/24")),
            ("192.168.0.0/16", &[], None),
            ("172.31.0.0/16", &[], Some("172.16.0.0/16")),
            (
                "198.51.100.0/24",
                &["198.51.101.0/24"],
                Some("198.51.102.0/24"),
            ),
            ("10.244.0.0/16", &["10.0.0.0/8"], None),
            ("fd00:10:244::/64", &[], Some("fd00:10:244:1::/64")),
            (
                "10.244.0.0/16,fd00:10:244::/64",
                &["10.245.0.0/16", "fd00:10:244::/63"],
                Some("10.246.0.0/16,fd00:10:244:2::/64"),
            ),
            ("10.244.0.0/16,fd00:10:244::/64", &["fc00::/7"], None),
        ] {
            let taken: Vec<IpRange> = taken.iter().map(|text| range(text)).collect();
            let next = next(first.parse().expect("ranges"), &taken);
            let shown = next.map(|ranges| ranges.to_string());
            assert_eq!(shown.as_deref(), expected, "{first} {taken:?}");
        }
    }

    #[test]
    fn ways_lead_to_others_by_their_address_of_the_family() {
        let place = |ranges: &[&str], addresses: &[&str]| {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|ip| json!({"type": "InternalIP", "address": ip}))
                .chain([json!({"type": "Hostname", "address": "n"})])
                .collect();
            let node = json!({"spec": {"podCIDR": ranges.first(), "podCIDRs": ranges}, "status": {"addresses": addresses}});
            Place::of(&serde_json::from_value(node).expect("a Node"))
        };
        let places = [
            ("a", place(&["10.244.0.0/16"], &["192.0.2.1"])),
            (
                "b",
                place(
                    &["10.245.0.0/16", "fd00:1::/64"],
                    &["2001:db8::2", "192.0.2.2", "192.0.2.9"],
                ),
            ),
            ("c", place(&["10.245.0.0/16"], &["192.0.2.3"])),
            ("d", place(&["10.244.7.0/24"], &["192.0.2.4"])),
            ("e", place(&[], &["192.0.2.5"])),
            ("f", place(&["fd00:2::/64"], &["192.0.2.6"])),
        ];
        let of = |own: &str| {
            let places = places.iter().map(|(name, place)| (*name, place));
            let shown = ways(places, own).into_iter();
            let shown: Vec<_> = shown.map(|(range, via)| format!("{range} {via}")).collect();
            shown.join(", ")
        };
        let to_b = "10.245.0.0/16 192.0.2.2, fd00:1::/64 2001:db8::2";
        assert_eq!(of("a"), to_b, "what overlaps the own range is left out");
        let all = format!("10.244.0.0/16 192.0.2.1, 10.244.7.0/24 192.0.2.4, {to_b}");
        assert_eq!(of("e"), all);
        let place = Place::of(
            &serde_json::from_value(json!({"spec": {"podCIDR": "10.1.0.0/24"}})).expect("a Node"),
        );
        assert_eq!(place.ranges, [range("10.1.0.0/24")]);
    }
}
