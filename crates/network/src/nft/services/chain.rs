//! What is in a front's chain: who is let in, where a client was sent before, and the choice among backends.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use nat::{Ipv4Range, Redirect};

use super::super::expression::{
    IPV4_SOURCE, Learn, Register, drop, find, learn, load, map, miss, random, redirect,
};
use super::super::interval::{bounds, elements, merged, of_addresses};
use super::super::rule;
use super::super::set::{
    self, ADDRESS, BACKEND, Element, NUMBER, OF_RULE, Value, intervals_of_rule, map_of_rule,
    memory, set_of_rule,
};
use super::Batch;
use crate::netlink::Message;

impl Batch<'_> {
    pub(super) fn remember(&mut self, chain: &str, redirect: &Redirect) {
        if let Some(seconds) = redirect.affinity {
            let id = self.next_set();
            let kinds = (ADDRESS, BACKEND);
            self.put(memory(self.table, &clients(chain), id, kinds, seconds));
        }
    }

    pub(super) fn forget(&mut self, chain: &str, redirect: &Redirect) {
        if redirect.affinity.is_some() {
            self.put(set::delete_set(self.table, &clients(chain)));
        }
    }

    /// In a front's chain, drops what comes from elsewhere than the ranges, if there are any.
    pub(super) fn guard(&mut self, chain: &str, sources: &BTreeSet<Ipv4Range>) {
        if sources.is_empty() {
            return;
        }
        let id = self.next_set();
        self.put(intervals_of_rule(self.table, id, ADDRESS));
        let sources = merged(sources.iter().map(bounds).collect());
        let elements = elements(&sources, of_addresses);
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
    pub(super) fn fill(&mut self, name: &str, backends: &BTreeSet<SocketAddrV4>, sticks: bool) {
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
