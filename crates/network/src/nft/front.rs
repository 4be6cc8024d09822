//! A front in the table of services: its places in the maps, and the chains they lead to; pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use nat::{Address, Front, Outside, Protocol, Redirect, Unserved};

use super::set::Value;
use nat::octets;

/// Leads what is addressed to an address and port; for Pods and this machine, and for everybody else.
pub(super) const SERVICES: Maps = Maps {
    ip: "services",
    node: "ports",
};
pub(super) const OUTSIDE: Maps = Maps {
    ip: "outside-services",
    node: "outside-ports",
};
/// What becomes of what was not led elsewhere.
pub(super) const UNSERVED: Maps = Maps {
    ip: "unserved-services",
    node: "unserved-ports",
};
/// The chain that refuses.
pub(super) const REFUSE: &str = "refuse";

/// The map of fronts with an address, and that of those on every address of the node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maps {
    pub(super) ip: &'static str,
    pub(super) node: &'static str,
}

/// An element of a map: the map, the key, and what it leads to.
pub(super) type Place = (&'static str, Vec<u8>, Value);

/// The front's places in the maps.
pub(super) fn places(front: &Front, to: &Redirect) -> Vec<Place> {
    let (key, is_node) = match front.address {
        Address::Ip(ip) => (
            [octets(ip), transport(front.protocol, front.port)].concat(),
            false,
        ),
        Address::Node(_) => (transport(front.protocol, front.port), true),
    };
    let name = |maps: Maps| if is_node { maps.node } else { maps.ip };
    let mut places = Vec::new();
    for (maps, chain) in leading(front, to) {
        places.push((name(maps), key.clone(), Value::Chain(chain)));
    }
    if let Some(verdict) = unserved(to) {
        places.push((name(UNSERVED), key, verdict));
    }
    places
}

/// The chains of a front, each with the backends it sends to.
pub(super) fn chains<'a>(
    front: &Front,
    to: &'a Redirect,
) -> Vec<(String, &'a BTreeSet<SocketAddr>)> {
    let mut chains = Vec::new();
    if !to.backends.is_empty() {
        chains.push((front.to_string(), &to.backends));
    }
    if let Outside::Only(backends) = &to.outside
        && !backends.is_empty()
    {
        chains.push((outside(front), backends));
    }
    chains
}

/// Which maps lead to which of the chains.
fn leading(front: &Front, to: &Redirect) -> Vec<(Maps, String)> {
    let mut leading = Vec::new();
    if !to.backends.is_empty() {
        leading.push((SERVICES, front.to_string()));
    }
    match &to.outside {
        Outside::Same if !to.backends.is_empty() => leading.push((OUTSIDE, front.to_string())),
        Outside::Only(backends) if !backends.is_empty() => leading.push((OUTSIDE, outside(front))),
        _ => {}
    }
    leading
}

/// What becomes of connections that no map leads elsewhere. A front for the cluster alone is in the range of services, of which what is
/// not redirected is refused anyway.
fn unserved(to: &Redirect) -> Option<Value> {
    match (&to.outside, to.backends.is_empty(), to.unserved) {
        (_, true, Unserved::Drop) => Some(Value::Drop),
        (Outside::Same | Outside::Only(_), true, Unserved::Refuse) => {
            Some(Value::Chain(REFUSE.to_owned()))
        }
        (Outside::Only(backends), false, _) if backends.is_empty() => Some(Value::Drop),
        _ => None,
    }
}

fn outside(front: &Front) -> String {
    format!("{front}/outside")
}

/// Protocol and port as registers hold them: each fills up four bytes.
pub(super) fn transport(protocol: Protocol, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![protocol.number(), 0, 0, 0, high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use nat::Family;

    use super::*;

    #[test]
    fn a_front_is_in_the_maps_of_those_it_is_for() {
        let some = BTreeSet::from([SocketAddr::from(([10, 0, 0, 2], 80))]);
        let none = BTreeSet::new();
        let (same, untouched) = (Outside::Same, Outside::Untouched);
        let only = |backends: &BTreeSet<_>| Outside::Only(backends.clone());
        for (backends, outside, unserved, expected) in [
            (
                &some,
                untouched.clone(),
                Unserved::Refuse,
                "ports>tcp/node/80",
            ),
            (&none, untouched.clone(), Unserved::Refuse, ""),
            (&none, untouched, Unserved::Drop, "unserved-ports>drop"),
            (
                &some,
                same.clone(),
                Unserved::Refuse,
                "ports>tcp/node/80 outside-ports>tcp/node/80",
            ),
            (&none, same, Unserved::Refuse, "unserved-ports>refuse"),
            (
                &none,
                only(&none),
                Unserved::Refuse,
                "unserved-ports>refuse",
            ),
            (
                &some,
                only(&none),
                Unserved::Refuse,
                "ports>tcp/node/80 unserved-ports>drop",
            ),
            (
                &some,
                only(&some),
                Unserved::Refuse,
                "ports>tcp/node/80 outside-ports>tcp/node/80/outside",
            ),
        ] {
            let front = Front {
                address: Address::Node(Family::V4),
                protocol: Protocol::Tcp,
                port: 80,
            };
            let redirect = Redirect {
                backends: backends.clone(),
                outside,
                unserved,
                ..Redirect::default()
            };
            let places = places(&front, &redirect)
                .into_iter()
                .map(|(map, key, value)| {
                    assert_eq!(key, [6, 0, 0, 0, 0, 80, 0, 0]);
                    match value {
                        Value::Chain(chain) => format!("{map}>{chain}"),
                        other => format!("{map}>{}", format!("{other:?}").to_lowercase()),
                    }
                });
            assert_eq!(places.collect::<Vec<_>>().join(" "), expected);
            let led: BTreeSet<_> = leading(&front, &redirect)
                .into_iter()
                .map(|l| l.1)
                .collect();
            let made = chains(&front, &redirect).into_iter().map(|chain| chain.0);
            assert_eq!(led, made.collect(), "every chain is led to");
        }
    }
}
