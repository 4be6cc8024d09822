//! The table of the Pod network: what leaves the Pod range for elsewhere takes the node's address, and the node's address among the Pods
//! is for them, the Pods of other networks and the node itself alone; nobody on the bridge is, or reaches, the node's loopback.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nat::Ipv4Range;

use crate::netlink::Message;

use super::expression::{
    IPV4_DESTINATION, IPV4_SOURCE, Meta, NEW, Reject, accept, connection, drop, has, is, is_not,
    masquerade, reject, within,
};
use super::{
    ARRIVING, INPUT, LOOPBACK, POSTROUTING, base_chain, fresh_table, guests, in_batch, rule,
};

/// Makes the table, in place of an older one of that name. `bridge` is the index of the Pods' link.
pub(crate) fn table(table: &str, bridge: u32, pods: Ipv4Range, gateway: Ipv4Addr) -> Vec<Message> {
    let mut messages = fresh_table(table).to_vec();
    messages.extend(guests::set(table, 1, &BTreeSet::new()));
    messages.extend([
        base_chain(table, "postrouting", POSTROUTING),
        rule(table, "postrouting", |m| {
            let from_pods = within(m, IPV4_SOURCE, pods, true);
            masquerade(within(from_pods, IPV4_DESTINATION, pods, false))
        }),
        base_chain(table, "input", INPUT),
        rule(table, "input", |m| accept(guests::from_guests(m))),
        rule(table, "input", |m| {
            // Answers to what the node asked under that address come in from anywhere.
            let from_outside = [bridge, LOOPBACK]
                .iter()
                .fold(connection(m, NEW), |m, link| {
                    is_not(m, Meta::LinkIn, &link.to_ne_bytes())
                });
            let to_gateway = has(from_outside, IPV4_DESTINATION, &gateway.octets());
            reject(to_gateway, Reject::Unreachable)
        }),
        base_chain(table, "arriving", ARRIVING),
    ]);
    // Answers come to loopback from Pods, too, but not as such: the kernel rewrites them later.
    messages.extend([IPV4_SOURCE, IPV4_DESTINATION].map(|field| {
        rule(table, "arriving", |m| {
            let from_pods = is(m, Meta::LinkIn, &bridge.to_ne_bytes());
            drop(within(from_pods, field, Ipv4Range::LOOPBACK, true))
        })
    }));
    in_batch(messages)
}
