//! The table of services: what is addressed to a front goes to one of its backends.
//!
//! ```text
//! map services { address . protocol . port : goto a chain for each front that has backends }
//! set pods     { a . a for the address a of every backend }
//!
//! prerouting, output    look the front up in `services`
//! a front's chain       finds the client's backend again, or takes one by chance, and rewrites the destination
//! postrouting           what comes from a Pod and goes back to it takes the node's address, or it would answer itself
//! forward, sent         what is still addressed to the service range is refused: it has no backend
//! ```
//!
//! A change touches the chains and elements of the fronts it is about and nothing else.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use nat::{Front, Protocol, Redirect};

use crate::netlink::Message;
use crate::range::Ipv4Range;

use super::expression::{
    DESTINATION_PORT, IPV4_DESTINATION, IPV4_SOURCE, Learn, Meta, Register, Reject, branch, find,
    is, learn, load, map, masquerade, meta, random, redirect, reject, within,
};
use super::set::{
    self, ADDRESS, ADDRESSES, BACKEND, Element, FRONT, NUMBER, OF_RULE, Value, map_of_rule, memory,
    set_of_rule, verdict_map,
};
use super::{
    FORWARD, Hook, OUTPUT, POSTROUTING, PREROUTING, SENT, base_chain, chain, delete_chain,
    empty_chain, fresh_table, in_batch, rule,
};

const SERVICES: &str = "services";
const PODS: &str = "pods";

/// A batch under construction.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    table: &'a str,
    messages: Vec<Message>,
    /// Sets are known by a number within their batch.
    sets: u32,
    leading: Vec<Element>,
}

impl<'a> Batch<'a> {
    /// Makes the table anew, in place of what is there, with no front. `bridge` is the index of the Pods' link.
    pub(crate) fn anew(table: &'a str, bridge: u32, services: Ipv4Range) -> Self {
        let mut batch = Self::change(table);
        batch.messages.extend(fresh_table(table));
        let id = batch.next_set();
        batch.put(verdict_map(table, SERVICES, id, FRONT));
        let id = batch.next_set();
        batch.put(set::set(table, PODS, id, ADDRESSES));

        batch.put(base_chain(table, "prerouting", PREROUTING));
        batch.put(rule(table, "prerouting", |m| {
            to_front(is(m, Meta::LinkIn, &bridge.to_ne_bytes()))
        }));
        batch.put(base_chain(table, "output", OUTPUT));
        batch.put(rule(table, "output", to_front));
        batch.put(base_chain(table, "postrouting", POSTROUTING));
        batch.put(rule(table, "postrouting", |m| {
            let to_pods = is(m, Meta::LinkOut, &bridge.to_ne_bytes());
            let both = load(
                load(to_pods, IPV4_SOURCE, Register(0)),
                IPV4_DESTINATION,
                Register(1),
            );
            masquerade(find(both, PODS, None, Register(0)))
        }));
        batch.refuse("forward", FORWARD, services);
        batch.refuse("sent", SENT, services);
        batch
    }

    /// Changes the table that is there.
    pub(crate) fn change(table: &'a str) -> Self {
        Batch {
            table,
            messages: Vec::new(),
            sets: 0,
            leading: Vec::new(),
        }
    }

    /// A front that leads nowhere yet leads somewhere.
    pub(crate) fn add(&mut self, front: &Front, redirect: &Redirect) {
        let name = front.to_string();
        self.put(chain(self.table, &name));
        self.remember(front, redirect);
        self.fill(front, redirect);
        self.leading.push((key_of(front), Value::Chain(name)));
    }

    /// A front leads elsewhere than it did. Clients stay with their backends where they may.
    pub(crate) fn replace(&mut self, front: &Front, old: &Redirect, new: &Redirect) {
        self.put(empty_chain(self.table, &front.to_string()));
        if old.affinity != new.affinity {
            self.forget(front, old);
            self.remember(front, new);
        }
        self.fill(front, new);
    }

    /// A front leads nowhere any more.
    pub(crate) fn remove(&mut self, front: &Front, old: &Redirect) {
        let name = front.to_string();
        self.messages
            .extend(set::delete(self.table, SERVICES, vec![key_of(front)]));
        self.put(empty_chain(self.table, &name));
        self.forget(front, old);
        self.put(delete_chain(self.table, &name));
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
        let leading = set::add(self.table, SERVICES, None, &self.leading);
        self.messages.extend(leading);
        if self.messages.is_empty() {
            return self.messages;
        }
        in_batch(self.messages)
    }

    /// What is still addressed to the range there is refused.
    fn refuse(&mut self, name: &str, hook: Hook, services: Ipv4Range) {
        let table = self.table;
        self.put(base_chain(table, name, hook));
        self.put(rule(table, name, |m| {
            let tcp = is(m, Meta::Protocol, &[Protocol::Tcp.number()]);
            reject(within(tcp, IPV4_DESTINATION, services, true), Reject::Reset)
        }));
        self.put(rule(table, name, |m| {
            let ours = within(m, IPV4_DESTINATION, services, true);
            reject(ours, Reject::Unreachable)
        }));
    }

    fn remember(&mut self, front: &Front, redirect: &Redirect) {
        if let Some(seconds) = redirect.affinity {
            let id = self.next_set();
            let kinds = (ADDRESS, BACKEND);
            self.put(memory(self.table, &clients(front), id, kinds, seconds));
        }
    }

    fn forget(&mut self, front: &Front, redirect: &Redirect) {
        if redirect.affinity.is_some() {
            self.put(set::delete_set(self.table, &clients(front)));
        }
    }

    /// The rules of a front's chain.
    fn fill(&mut self, front: &Front, to: &Redirect) {
        let (client, backend) = (Register(0), Register(1));
        let name = front.to_string();
        if to.affinity.is_some() {
            let known = clients(front);
            let valid = self.backends_of_rule(to);
            self.put(rule(self.table, &name, |m| {
                let m = load(m, IPV4_SOURCE, client);
                let m = map(m, &known, None, client, backend);
                let m = find(m, OF_RULE, Some(valid), backend);
                redirect(learn(m, Learn::Update, &known, client, backend), backend)
            }));
            let (all, count) = self.choice_of_rule(to);
            self.put(rule(self.table, &name, |m| {
                let m = choose(load(m, IPV4_SOURCE, client), all, count, backend);
                // Where it was sent is no backend any more, or it is new.
                let m = learn(m, Learn::Delete, &known, client, backend);
                redirect(learn(m, Learn::Add, &known, client, backend), backend)
            }));
        }
        // Without affinity, and for those that there was no room to remember.
        let (all, count) = self.choice_of_rule(to);
        self.put(rule(self.table, &name, |m| {
            redirect(choose(m, all, count, backend), backend)
        }));
    }

    /// A set of the backends.
    fn backends_of_rule(&mut self, redirect: &Redirect) -> u32 {
        let id = self.next_set();
        self.put(set_of_rule(self.table, id, BACKEND));
        let backends = redirect.backends.iter();
        let elements: Vec<Element> = backends.map(|b| (bytes_of(b), Value::Nothing)).collect();
        self.messages
            .extend(set::add(self.table, OF_RULE, Some(id), &elements));
        id
    }

    /// A map from numbers to backends, and how many there are.
    fn choice_of_rule(&mut self, redirect: &Redirect) -> (u32, u32) {
        let id = self.next_set();
        self.put(map_of_rule(self.table, id, (NUMBER, BACKEND)));
        let numbered = (0u32..).zip(&redirect.backends);
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

/// Takes a backend by chance.
fn choose(m: Message, all: u32, count: u32, backend: Register) -> Message {
    let number = Register(backend.0 + 2);
    map(
        random(m, count, number),
        OF_RULE,
        Some(all),
        number,
        backend,
    )
}

/// Goes to the chain of the front a packet is addressed to.
fn to_front(m: Message) -> Message {
    let m = load(m, IPV4_DESTINATION, Register(0));
    let m = meta(m, Meta::Protocol, Register(1));
    branch(
        load(m, DESTINATION_PORT, Register(2)),
        SERVICES,
        Register(0),
    )
}

/// Name of the map of a front's clients.
fn clients(front: &Front) -> String {
    format!("clients/{front}")
}

/// A front as registers hold it: each part fills up four bytes.
fn key_of(front: &Front) -> Vec<u8> {
    let mut key = front.address.octets().to_vec();
    key.extend([front.protocol.number(), 0, 0, 0]);
    key.extend(front.port.to_be_bytes());
    key.extend([0; 2]);
    key
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
