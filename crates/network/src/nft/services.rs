//! The table of services: what is addressed to a front goes to one of its backends.
//!
//! ```text
//! map services, ports                  { address . protocol . port : goto a chain for each front that has backends }, and
//!                                      { protocol . port : the same } for fronts on every address of the node
//! map outside-services, outside-ports  the same for those who are neither Pods nor this machine
//! map unserved-services, unserved-ports  { …: drop, or goto `refuse` } for fronts that not everybody is led away from
//! set pods                             { a . a for the address a of every backend }
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

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use nat::{Front, Protocol, Redirect};

use crate::netlink::Message;
use nat::Ipv4Range;

use super::expression::{
    DESTINATION_PORT, Field, IPV4_DESTINATION, IPV4_SOURCE, Learn, Meta, NEW, REDIRECTED, Register,
    Reject, branch, connection, drop, find, is, is_not, learn, load, map, masquerade, meta, miss,
    random, redirect, reject, to_node, within,
};
use super::front::{Maps, OUTSIDE, REFUSE, SERVICES, UNSERVED, chains, places};
use super::set::{
    self, ADDRESS, ADDRESSES, BACKEND, Element, FRONT, NUMBER, OF_RULE, TRANSPORT, Value,
    intervals_of_rule, map_of_rule, memory, set_of_rule, verdict_map,
};
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
    /// Makes the table anew, in place of what is there, with no front. `bridge` is the index of the Pods' link.
    pub(crate) fn anew(table: &'a str, bridge: u32, services: Ipv4Range) -> Self {
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

        let link = bridge.to_ne_bytes();
        batch.put(base_chain(
            table,
            "prerouting",
            PREROUTING.after_older(bridge),
        ));
        batch.lead("prerouting", SERVICES, |m| is(m, Meta::LinkIn, &link));
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

    fn remember(&mut self, chain: &str, redirect: &Redirect) {
        if let Some(seconds) = redirect.affinity {
            let id = self.next_set();
            let kinds = (ADDRESS, BACKEND);
            self.put(memory(self.table, &clients(chain), id, kinds, seconds));
        }
    }

    fn forget(&mut self, chain: &str, redirect: &Redirect) {
        if redirect.affinity.is_some() {
            self.put(set::delete_set(self.table, &clients(chain)));
        }
    }

    /// In a front's chain, drops what comes from elsewhere than the ranges, if there are any.
    fn guard(&mut self, chain: &str, sources: &BTreeSet<Ipv4Range>) {
        if sources.is_empty() {
            return;
        }
        let id = self.next_set();
        self.put(intervals_of_rule(self.table, id, ADDRESS));
        let elements = intervals(sources);
        self.messages
            .extend(set::add(self.table, OF_RULE, Some(id), &elements));
        self.put(rule(self.table, chain, |m| {
            let client = Register(0);
            drop(miss(
                load(m, IPV4_SOURCE, client),
                OF_RULE,
                Some(id),
                client,
            ))
        }));
    }

    /// The rules of a front's chain.
    fn fill(&mut self, name: &str, backends: &BTreeSet<SocketAddrV4>, sticks: bool) {
        let (client, backend) = (Register(0), Register(1));
        if sticks {
            let known = clients(name);
            let valid = self.set_of(backends);
            self.put(rule(self.table, name, |m| {
                let m = load(m, IPV4_SOURCE, client);
                let m = map(m, &known, None, client, backend);
                let m = find(m, OF_RULE, Some(valid), backend);
                redirect(learn(m, Learn::Update, &known, client, backend), backend)
            }));
            let all = self.choice_of(backends);
            self.put(rule(self.table, name, |m| {
                let m = choose(load(m, IPV4_SOURCE, client), all, backend);
                // Where it was sent is no backend any more, or it is new.
                let m = learn(m, Learn::Delete, &known, client, backend);
                redirect(learn(m, Learn::Add, &known, client, backend), backend)
            }));
        }
        // Without affinity, and for those that there was no room to remember.
        let all = self.choice_of(backends);
        self.put(rule(self.table, name, |m| {
            redirect(choose(m, all, backend), backend)
        }));
    }

    /// A set of the backends.
    fn set_of(&mut self, backends: &BTreeSet<SocketAddrV4>) -> u32 {
        let id = self.next_set();
        self.put(set_of_rule(self.table, id, BACKEND));
        let elements: Vec<Element> = backends
            .iter()
            .map(|b| (bytes_of(b), Value::Nothing))
            .collect();
        self.messages
            .extend(set::add(self.table, OF_RULE, Some(id), &elements));
        id
    }

    /// A map from numbers to backends, and how many there are.
    fn choice_of(&mut self, backends: &BTreeSet<SocketAddrV4>) -> (u32, u32) {
        let id = self.next_set();
        self.put(map_of_rule(self.table, id, (NUMBER, BACKEND)));
        let numbered = (0u32..).zip(backends);
        let elements: Vec<Element> = numbered
            .map(|(n, backend)| (n.to_ne_bytes().to_vec(), Value::Bytes(bytes_of(backend))))
            .collect();
        self.messages
            .extend(set::add(self.table, OF_RULE, Some(id), &elements));
        (id, elements.len() as u32)
    }

    fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    fn put(&mut self, message: Message) {
        self.messages.push(message);
    }
}

/// Where addresses of the ranges begin and end; those that overlap are one.
fn intervals(ranges: &BTreeSet<Ipv4Range>) -> Vec<Element> {
    let bounds = |range: &Ipv4Range| {
        let first = u64::from(u32::from(range.base()));
        (first, first + range.size())
    };
    let mut merged: Vec<(u64, u64)> = Vec::new();
    // In order of their first addresses.
    for (first, end) in ranges.iter().map(bounds) {
        match merged.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((first, end)),
        }
    }
    let key = |address: u64| Some(u32::try_from(address).ok()?.to_be_bytes().to_vec());
    let elements = merged.into_iter().flat_map(|(first, end)| {
        // What goes on to the last address has no end.
        [(first, Value::Nothing), (end, Value::End)]
    });
    elements
        .filter_map(|(address, value)| Some((key(address)?, value)))
        .collect()
}

fn is_tcp(m: Message) -> Message {
    is(m, Meta::Protocol, &[Protocol::Tcp.number()])
}

/// Takes a backend by chance, of a map and how many are in it.
fn choose(m: Message, (all, count): (u32, u32), backend: Register) -> Message {
    let number = Register(backend.0 + 2);
    map(
        random(m, count, number),
        OF_RULE,
        Some(all),
        number,
        backend,
    )
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

/// Name of the map of a chain's clients.
fn clients(chain: &str) -> String {
    format!("clients/{chain}")
}

/// A backend as registers hold it.
fn bytes_of(backend: &SocketAddrV4) -> Vec<u8> {
    let mut bytes = backend.ip().octets().to_vec();
    bytes.extend(backend.port().to_be_bytes());
    bytes.extend([0; 2]);
    bytes
}

fn twice(address: Ipv4Addr) -> Vec<u8> {
    [address.octets(), address.octets()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_are_one_interval() {
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
            let mut shown = String::new();
            for (key, value) in intervals(&ranges.collect()) {
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
