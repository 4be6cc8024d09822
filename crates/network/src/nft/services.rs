//! The table of services: what is addressed to a front goes to one of its backends.
//!
//! ```text
//! map services, ports                  { address . protocol . port : goto a chain for each front that has backends }, and
//!                                      { protocol . port : the same } for fronts on every address of the node
//! map outside-services, outside-ports  the same for those who are neither Pods nor this machine
//! map unserved-services, unserved-ports  { …: drop, or goto `refuse` } for fronts that not everybody is led away from
//! set pods                             { a . a for the address a of every backend }
//! set guests                           addresses of Pods that plugins put on networks of their own
//!
//! prerouting, output    look the front up
//! a front's chain       finds the client's backend again, or takes one by chance, and rewrites the destination
//! postrouting           what comes from a Pod and goes back to it takes the node's address, or it would answer itself; so does what
//!                       goes to a backend elsewhere, or its answers would not come by the node, and what comes from loopback, an
//!                       address each Pod has for itself. All others keep their addresses
//! forward, input, sent  what was not led away is refused or dropped; so is all that is still addressed to the service range
//! ```
//!
//! A change touches the chains and elements of the fronts it is about and nothing else.

mod chain;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nat::{Front, Ipv4Range, Protocol, Redirect};

use crate::netlink::Message;

use super::expression::{
    DESTINATION_PORT, Field, IPV4_DESTINATION, IPV4_SOURCE, Meta, NEW, REDIRECTED, Register,
    Reject, branch, connection, find, is, is_not, load, masquerade, meta, reject, to_node, within,
};
use super::front::{Maps, OUTSIDE, REFUSE, SERVICES, UNSERVED, chains, places};
use super::set::{self, ADDRESSES, Element, FRONT, TRANSPORT, Value, verdict_map};
use super::{
    FORWARD, INPUT, LOOPBACK, OUTPUT, POSTROUTING, PREROUTING, SENT, base_chain, chain,
    delete_chain, empty_chain, fresh_table, in_batch, rule,
};

const PODS: &str = "pods";

/// A batch under construction.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    table: &'a str,
    messages: Vec<Message>,
    /// Sets are known by a number within their batch.
    sets: u32,
    /// What maps are to lead to when all chains are made.
    leading: BTreeMap<&'static str, Vec<Element>>,
}

impl<'a> Batch<'a> {
    /// Makes the table anew, in place of what is there, with no front. `bridge` is the index of the Pods' link, `guests` are Pods that
    /// are elsewhere.
    pub(crate) fn anew(
        table: &'a str,
        bridge: u32,
        services: Ipv4Range,
        guests: &BTreeSet<Ipv4Addr>,
    ) -> Self {
        let mut batch = Self::change(table);
        batch.messages.extend(fresh_table(table));
        for maps in [SERVICES, OUTSIDE, UNSERVED] {
            for (name, kind) in [(maps.ip, FRONT), (maps.node, TRANSPORT)] {
                let id = batch.next_set();
                batch.put(verdict_map(table, name, id, kind));
            }
        }
        let id = batch.next_set();
        batch.put(set::set(table, PODS, id, ADDRESSES));
        let id = batch.next_set();
        batch.messages.extend(super::guests::set(table, id, guests));

        let link = bridge.to_ne_bytes();
        batch.put(base_chain(
            table,
            "prerouting",
            PREROUTING.after_older(bridge),
        ));
        batch.lead("prerouting", SERVICES, |m| is(m, Meta::LinkIn, &link));
        batch.lead("prerouting", SERVICES, super::guests::from_guests);
        batch.lead("prerouting", OUTSIDE, |m| is_not(m, Meta::LinkIn, &link));
        batch.put(base_chain(table, "output", OUTPUT.after_older(bridge)));
        batch.lead("output", SERVICES, |m| m);
        batch.put(base_chain(table, "postrouting", POSTROUTING));
        batch.put(rule(table, "postrouting", |m| {
            masquerade(among_backends(is(m, Meta::LinkOut, &link), IPV4_SOURCE))
        }));
        batch.put(rule(table, "postrouting", |m| {
            let elsewhere = [link, LOOPBACK.to_ne_bytes()]
                .iter()
                .fold(m, |m, link| is_not(m, Meta::LinkOut, link));
            let led = connection(elsewhere, REDIRECTED);
            masquerade(among_backends(led, IPV4_DESTINATION))
        }));
        batch.put(rule(table, "postrouting", |m| {
            let to_pods = is(m, Meta::LinkOut, &link);
            masquerade(within(to_pods, IPV4_SOURCE, Ipv4Range::LOOPBACK, true))
        }));
        batch.put(chain(table, REFUSE));
        batch.put(rule(table, REFUSE, |m| reject(is_tcp(m), Reject::Reset)));
        batch.put(rule(table, REFUSE, |m| reject(m, Reject::Unreachable)));
        for (name, hook) in [("forward", FORWARD), ("input", INPUT), ("sent", SENT)] {
            batch.put(base_chain(table, name, hook));
            batch.lead(name, UNSERVED, |m| connection(m, NEW));
        }
        batch.refuse("forward", services);
        batch.refuse("sent", services);
        batch
    }

    /// Changes the table that is there.
    pub(crate) fn change(table: &'a str) -> Self {
        Batch {
            table,
            messages: Vec::new(),
            sets: 0,
            leading: BTreeMap::new(),
        }
    }

    /// A front leads elsewhere than it did. Clients stay with their backends where they may.
    pub(crate) fn replace(&mut self, front: &Front, old: &Redirect, new: &Redirect) {
        let (before, after) = (places(front, old), places(front, new));
        for (map, key, _) in before.iter().filter(|place| !after.contains(place)) {
            self.messages
                .extend(set::delete(self.table, map, vec![key.clone()]));
        }
        let mut made = chains(front, old);
        for (name, backends) in chains(front, new) {
            match made.iter().position(|(made, _)| *made == name) {
                Some(n) => {
                    made.remove(n);
                    self.put(empty_chain(self.table, &name));
                    if old.affinity != new.affinity {
                        self.forget(&name, old);
                        self.remember(&name, new);
                    }
                }
                None => {
                    self.put(chain(self.table, &name));
                    self.remember(&name, new);
                }
            }
            self.guard(&name, &new.sources);
            self.fill(&name, backends, new.affinity.is_some());
        }
        for (name, _) in made {
            self.put(empty_chain(self.table, &name));
            self.forget(&name, old);
            self.put(delete_chain(self.table, &name));
        }
        for (map, key, value) in after {
            if !before.contains(&(map, key.clone(), value.clone())) {
                self.leading.entry(map).or_default().push((key, value));
            }
        }
    }

    /// Addresses of backends that are new, and those that are backends no more.
    pub(crate) fn backends(&mut self, new: &BTreeSet<Ipv4Addr>, gone: &BTreeSet<Ipv4Addr>) {
        let new: Vec<Element> = new.iter().map(|a| (twice(*a), Value::Nothing)).collect();
        let gone = gone.iter().map(|a| twice(*a)).collect();
        self.messages.extend(set::add(self.table, PODS, None, &new));
        self.messages.extend(set::delete(self.table, PODS, gone));
    }

    /// The finished batch; empty if there is nothing to do.
    pub(crate) fn finish(mut self) -> Vec<Message> {
        for (map, elements) in std::mem::take(&mut self.leading) {
            self.messages
                .extend(set::add(self.table, map, None, &elements));
        }
        if self.messages.is_empty() {
            return self.messages;
        }
        in_batch(self.messages)
    }

    /// Looks up in a chain where the packets `of` selects are led to.
    fn lead(&mut self, chain: &str, maps: Maps, of: impl Fn(Message) -> Message) {
        let table = self.table;
        self.put(rule(table, chain, |m| to_front(of(m), maps)));
        self.put(rule(table, chain, |m| to_port(of(m), maps)));
    }

    /// What is still addressed to the range in a chain is refused.
    fn refuse(&mut self, chain: &str, services: Ipv4Range) {
        let table = self.table;
        let ours = |m| within(m, IPV4_DESTINATION, services, true);
        self.put(rule(table, chain, |m| {
            reject(ours(is_tcp(m)), Reject::Reset)
        }));
        self.put(rule(table, chain, |m| reject(ours(m), Reject::Unreachable)));
    }

    fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    fn put(&mut self, message: Message) {
        self.messages.push(message);
    }
}

fn is_tcp(m: Message) -> Message {
    is(m, Meta::Protocol, &[Protocol::Tcp.number()])
}

/// Goes where the map leads that knows the packet's address and port.
fn to_front(m: Message, maps: Maps) -> Message {
    let m = load(m, IPV4_DESTINATION, Register(0));
    let m = meta(m, Meta::Protocol, Register(1));
    branch(load(m, DESTINATION_PORT, Register(2)), maps.ip, Register(0))
}

/// The same by the port alone, on the node's addresses.
fn to_port(m: Message, maps: Maps) -> Message {
    let m = meta(to_node(m), Meta::Protocol, Register(0));
    branch(
        load(m, DESTINATION_PORT, Register(1)),
        maps.node,
        Register(0),
    )
}

/// Goes on only if the packet goes to a backend: from itself, where `field` is the source.
fn among_backends(m: Message, field: Field) -> Message {
    let m = load(m, field, Register(0));
    let m = load(m, IPV4_DESTINATION, Register(1));
    find(m, PODS, None, Register(0))
}

fn twice(address: Ipv4Addr) -> Vec<u8> {
    [address.octets(), address.octets()].concat()
}
