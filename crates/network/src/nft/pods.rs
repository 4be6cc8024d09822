//! The table of the Pod network: what leaves the ranges of Pods for elsewhere takes the node's address, and the node's address among the Pods
//! is for them, the Pods of other networks and nodes, and the node itself alone; nobody on the bridge is, or reaches, the node's loopback.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nat::{Family, IpRange, octets};

use crate::netlink::Message;

use super::expression::{
    ICMP_KIND, Meta, NEW, Reject, accept, connection, destination, drop, has, is, is_not,
    masquerade, reject, source, within,
};
use super::{
    ARRIVING, INPUT, LOOPBACK, POSTROUTING, SENT, Table, base_chain, fresh_table, guests, in_batch,
    peers, rule,
};

/// Makes the table, in place of an older one of that name. `bridge` is the index of the Pods' link.
pub(crate) fn table<'a>(
    table: Table<'_>,
    bridge: u32,
    (pods, gateway): (IpRange, IpAddr),
    peers: impl Iterator<Item = &'a IpRange>,
) -> Vec<Message> {
    let family = table.family;
    let mut messages = fresh_table(table).to_vec();
    messages.extend(guests::set(table, 1, &BTreeSet::new()));
    messages.extend(peers::set(table, 2, peers));
    messages.extend([
        base_chain(table, "postrouting", POSTROUTING),
        peers::keep_senders(table, "postrouting", pods),
        rule(table, "postrouting", |m| {
            let from_pods = within(m, source(family), pods, true);
            masquerade(within(from_pods, destination(family), pods, false))
        }),
        base_chain(table, "input", INPUT),
        rule(table, "input", |m| accept(guests::from_guests(m, family))),
        rule(table, "input", |m| accept(peers::among(m, source(family)))),
        rule(table, "input", |m| {
            // Answers to what the node asked under that address come in from anywhere.
            let from_outside = [bridge, LOOPBACK]
                .iter()
                .fold(connection(m, NEW), |m, link| {
                    is_not(m, Meta::LinkIn, &link.to_ne_bytes())
                });
            let to_gateway = has(from_outside, destination(family), &octets(gateway));
            reject(to_gateway, Reject::Unreachable, family)
        }),
        base_chain(table, "arriving", ARRIVING),
    ]);
    // Answers come to loopback from Pods, too, but not as such: the kernel rewrites them later.
    messages.extend([source(family), destination(family)].map(|field| {
        rule(table, "arriving", |m| {
            let from_pods = is(m, Meta::LinkIn, &bridge.to_ne_bytes());
            drop(within(from_pods, field, IpRange::loopback(family), true))
        })
    }));
    if family == Family::V6 {
        messages.extend([base_chain(table, "sent", SENT), no_redirects(table, bridge)]);
    }
    in_batch(messages)
}

/// Pods reach each other by the node on purpose: it does not tell them a shorter way (ICMPv6 "redirect", RFC 4861). For IPv4 the kernel
/// can be told so.
fn no_redirects(table: Table<'_>, bridge: u32) -> Message {
    const ICMPV6: u8 = 58;
    const REDIRECT: u8 = 137;
    rule(table, "sent", |m| {
        let to_pods = is(m, Meta::LinkOut, &bridge.to_ne_bytes());
        let icmp = is(to_pods, Meta::Protocol, &[ICMPV6]);
        drop(has(icmp, ICMP_KIND, &[REDIRECT]))
    })
}
