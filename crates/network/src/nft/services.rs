//! The table of services: what is addressed to a front goes to one of its backends.
//!
//! ```text
//! map services, ports                  { address . protocol . port : goto a chain for each front that has backends }, and
//!                                      { protocol . port : the same } for fronts on every address of the node
//! map outside-services, outside-ports  the same for those who are neither Pods nor this machine
//! map unserved-services, unserved-ports  { …: drop, or goto `refuse` } for fronts that not everybody is led away from
//! set pods                             { a . a for the address a of every backend }
//! set guests                           addresses of Pods that plugins put on networks of their own
//! set peers                            ranges of the Pods of other nodes
//!
//! prerouting, output    look the front up
//! a front's chain       finds the client's backend again, or takes one by chance, and rewrites the destination
//! postrouting           what comes from a Pod and goes back to it takes the node's address, or it would answer itself; so does what
//!                       goes to a backend elsewhere, or its answers would not come by the node, and what comes from loopback, an
//!                       address each Pod has for itself. All others keep their addresses, also from Pods here to those of other nodes
//! forward, input, sent  what was not led away is refused or dropped; so is all that is still addressed to the service range
//! ```
//!
//! There is such a table for each family. A change touches the chains and elements of the fronts it is about and nothing else.

mod chain;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nat::{Family, Front, IpRange, Protocol, Ranges, Redirect, octets};

use crate::netlink::Message;

use super::expression::{
    DESTINATION_PORT, Field, Meta, NEW, REDIRECTED, Register, Reject, branch, connection,
    destination, find, is, is_not, load, masquerade, meta, reject, source, to_node, within,
};
use super::front::{Maps, OUTSIDE, REFUSE, SERVICES, UNSERVED, chains, places};
use super::set::{self, Element, TRANSPORT, Value, addresses, verdict_map};
use super::{
    FORWARD, INPUT, LOOPBACK, OUTPUT, POSTROUTING, PREROUTING, SENT, Table, base_chain, chain,
    delete_chain, empty_chain, fresh_table, in_batch, rule,
};

const PODS: &str = "pods";

/// A batch under construction.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    name: &'a str,
    messages: Vec<Message>,
    /// Sets are known by a number within their batch.
    sets: u32,
    /// What maps are to lead to when all chains are made.
    leading: BTreeMap<(Family, &'static str), Vec<Element>>,
}

impl<'a> Batch<'a> {
    /// Makes a table anew for each range, in place of what is there, with no front. `bridge` is the index of the Pods' link, `pods` their
    /// ranges, `guests` are Pods that are elsewhere, and `peers` the ranges of those on other nodes.
    pub(crate) fn anew(
        name: &'a str,
        bridge: u32,
        services: Ranges,
        pods: Ranges,
        (guests, peers): (&BTreeSet<IpAddr>, &BTreeSet<IpRange>),
    ) -> Self {
        let mut batch = Self::change(name);
        for range in services.iter() {
            let table = batch.table(range.family());
            batch.make_sets(table, guests);
            let id = batch.next_set();
            batch
                .messages
                .extend(super::peers::set(table, id, peers.iter()));
            batch.make_redirects(table, bridge);
            let mut pods = pods.iter();
            let pods = pods.find(|pods| pods.family() == range.family());
            batch.make_masquerades(table, bridge, pods);
            batch.make_refusals(table, range);
        }
        batch
    }

    /// The table, with the maps and sets that are always there.
    fn make_sets(&mut self, table: Table<'_>, guests: &BTreeSet<IpAddr>) {
        self.messages.extend(fresh_table(table));
        for maps in [SERVICES, OUTSIDE, UNSERVED] {
            for (name, kind) in [(maps.ip, set::front(table.family)), (maps.node, TRANSPORT)] {
                let id = self.next_set();
                self.put(verdict_map(table, name, id, kind));
            }
        }
        let id = self.next_set();
        self.put(set::set(table, PODS, id, addresses(table.family)));
        let id = self.next_set();
        let guests = super::guests::set(table, id, guests);
        self.messages.extend(guests);
    }

    /// The chains where a destination is chosen.
    fn make_redirects(&mut self, table: Table<'_>, bridge: u32) {
        let link = bridge.to_ne_bytes();
        let from_guests = |m| super::guests::from_guests(m, table.family);
        self.put(base_chain(
            table,
            "prerouting",
            PREROUTING.after_older(bridge),
        ));
        self.lead(table, "prerouting", SERVICES, |m| {
            is(m, Meta::LinkIn, &link)
        });
        self.lead(table, "prerouting", SERVICES, from_guests);
        self.lead(table, "prerouting", OUTSIDE, |m| {
            is_not(m, Meta::LinkIn, &link)
        });
        self.put(base_chain(table, "output", OUTPUT.after_older(bridge)));
        self.lead(table, "output", SERVICES, |m| m);
    }

    /// The chain where a source is rewritten, if the answers would not come this way otherwise.
    fn make_masquerades(&mut self, table: Table<'_>, bridge: u32, pods: Option<IpRange>) {
        let (link, family) = (bridge.to_ne_bytes(), table.family);
        self.put(base_chain(table, "postrouting", POSTROUTING));
        if let Some(pods) = pods {
            self.put(super::peers::keep_senders(table, "postrouting", pods));
        }
        self.put(rule(table, "postrouting", |m| {
            let to_pods = is(m, Meta::LinkOut, &link);
            masquerade(among_backends(to_pods, source(family), family))
        }));
        self.put(rule(table, "postrouting", |m| {
            let elsewhere = [link, LOOPBACK.to_ne_bytes()]
                .iter()
                .fold(m, |m, link| is_not(m, Meta::LinkOut, link));
            let led = connection(elsewhere, REDIRECTED);
            masquerade(among_backends(led, destination(family), family))
        }));
        self.put(rule(table, "postrouting", |m| {
            let to_pods = is(m, Meta::LinkOut, &link);
            let loopback = IpRange::loopback(family);
            masquerade(within(to_pods, source(family), loopback, true))
        }));
    }

    /// The chains where what was not led away ends.
    fn make_refusals(&mut self, table: Table<'_>, services: IpRange) {
        let family = table.family;
        self.put(chain(table, REFUSE));
        self.put(rule(table, REFUSE, |m| {
            reject(is_tcp(m), Reject::Reset, family)
        }));
        self.put(rule(table, REFUSE, |m| {
            reject(m, Reject::Unreachable, family)
        }));
        for (name, hook) in [("forward", FORWARD), ("input", INPUT), ("sent", SENT)] {
            self.put(base_chain(table, name, hook));
            self.lead(table, name, UNSERVED, |m| connection(m, NEW));
        }
        self.refuse(table, "forward", services);
        self.refuse(table, "sent", services);
    }

    /// Changes the tables that are there.
    pub(crate) fn change(name: &'a str) -> Self {
        Batch {
            name,
            messages: Vec::new(),
            sets: 0,
            leading: BTreeMap::new(),
        }
    }

    /// The table of a family.
    fn table(&self, family: Family) -> Table<'a> {
        let name = self.name;
        Table { family, name }
    }

    /// A front leads elsewhere than it did. Clients stay with their backends where they may.
    pub(crate) fn replace(&mut self, front: &Front, old: &Redirect, new: &Redirect) {
        let table = self.table(front.address.family());
        let (before, after) = (places(front, old), places(front, new));
        for (map, key, _) in before.iter().filter(|place| !after.contains(place)) {
            self.messages
                .extend(set::delete(table, map, vec![key.clone()]));
        }
        let mut made = chains(front, old);
        for (name, backends) in chains(front, new) {
            match made.iter().position(|(made, _)| *made == name) {
                Some(n) => {
                    made.remove(n);
                    self.put(empty_chain(table, &name));
                    if old.affinity != new.affinity {
                        self.forget(table, &name, old);
                        self.remember(table, &name, new);
                    }
                }
                None => {
                    self.put(chain(table, &name));
                    self.remember(table, &name, new);
                }
            }
            self.guard(table, &name, &new.sources);
            self.fill(table, &name, backends, new.affinity.is_some());
        }
        for (name, _) in made {
            self.put(empty_chain(table, &name));
            self.forget(table, &name, old);
            self.put(delete_chain(table, &name));
        }
        for (map, key, value) in after {
            if !before.contains(&(map, key.clone(), value.clone())) {
                let places = self.leading.entry((table.family, map));
                places.or_default().push((key, value));
            }
        }
    }

    /// Addresses of backends that are new, and those that are backends no more.
    pub(crate) fn backends(&mut self, new: &BTreeSet<IpAddr>, gone: &BTreeSet<IpAddr>) {
        for family in Family::ALL {
            let table = self.table(family);
            let is_of = |ip: &&IpAddr| Family::of(**ip) == family;
            let new = new.iter().filter(is_of);
            let new: Vec<Element> = new.map(|ip| (twice(*ip), Value::Nothing)).collect();
            let gone = gone.iter().filter(is_of).map(|ip| twice(*ip)).collect();
            self.messages.extend(set::add(table, PODS, None, &new));
            self.messages.extend(set::delete(table, PODS, gone));
        }
    }

    /// The finished batch; empty if there is nothing to do.
    pub(crate) fn finish(mut self) -> Vec<Message> {
        for ((family, map), elements) in std::mem::take(&mut self.leading) {
            let table = self.table(family);
            self.messages.extend(set::add(table, map, None, &elements));
        }
        if self.messages.is_empty() {
            return self.messages;
        }
        in_batch(self.messages)
    }

    /// Looks up in a chain where the packets `of` selects are led to.
    fn lead(&mut self, table: Table<'_>, chain: &str, maps: Maps, of: impl Fn(Message) -> Message) {
        let family = table.family;
        self.put(rule(table, chain, |m| to_front(of(m), maps, family)));
        self.put(rule(table, chain, |m| to_port(of(m), maps, family)));
    }

    /// What is still addressed to the range in a chain is refused.
    fn refuse(&mut self, table: Table<'_>, chain: &str, services: IpRange) {
        let family = table.family;
        let ours = |m| within(m, destination(family), services, true);
        self.put(rule(table, chain, |m| {
            reject(ours(is_tcp(m)), Reject::Reset, family)
        }));
        self.put(rule(table, chain, |m| {
            reject(ours(m), Reject::Unreachable, family)
        }));
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
fn to_front(m: Message, maps: Maps, family: Family) -> Message {
    let protocol = Register(0).after_address(family);
    let m = load(m, destination(family), Register(0));
    let m = meta(m, Meta::Protocol, protocol);
    let m = load(m, DESTINATION_PORT, Register(protocol.0 + 1));
    branch(m, maps.ip, Register(0))
}

/// The same by the port alone, on the node's addresses.
fn to_port(m: Message, maps: Maps, family: Family) -> Message {
    let m = meta(to_node(m, family), Meta::Protocol, Register(0));
    branch(
        load(m, DESTINATION_PORT, Register(1)),
        maps.node,
        Register(0),
    )
}

/// Goes on only if the packet goes to a backend: from itself, where `field` is the source.
fn among_backends(m: Message, field: Field, family: Family) -> Message {
    let m = load(m, field, Register(0));
    let second = Register(0).after_address(family);
    let m = load(m, destination(family), second);
    find(m, PODS, None, Register(0))
}

fn twice(address: IpAddr) -> Vec<u8> {
    octets(address).repeat(2)
}
