//! What is in a front's chain: who is let in, where a client was sent before, and the choice among backends.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use nat::{Family, IpRange, Redirect, octets};

use super::super::expression::{
    Learn, Register, drop, find, learn, load, map, miss, random, redirect, source,
};
use super::super::interval::{bounds, elements, merged, of_addresses};
use super::super::set::{
    self, Element, NUMBER, OF_RULE, Value, address, backend, intervals_of_rule, map_of_rule,
    memory, set_of_rule,
};
use super::super::{Table, rule};
use super::Batch;
use crate::netlink::Message;

impl Batch<'_> {
    pub(super) fn remember(&mut self, table: Table<'_>, chain: &str, redirect: &Redirect) {
        if let Some(seconds) = redirect.affinity {
            let id = self.next_set();
            let kinds = (address(table.family), backend(table.family));
            self.put(memory(table, &clients(chain), id, kinds, seconds));
        }
    }

    pub(super) fn forget(&mut self, table: Table<'_>, chain: &str, redirect: &Redirect) {
        if redirect.affinity.is_some() {
            self.put(set::delete_set(table, &clients(chain)));
        }
    }

    /// In a front's chain, drops what comes from elsewhere than the ranges, if there are any.
    pub(super) fn guard(&mut self, table: Table<'_>, chain: &str, sources: &BTreeSet<IpRange>) {
        if sources.is_empty() {
            return;
        }
        let id = self.next_set();
        self.put(intervals_of_rule(table, id, address(table.family)));
        let sources = merged(sources.iter().map(bounds).collect());
        let elements = elements(&sources, of_addresses(table.family));
        self.messages
            .extend(set::add(table, OF_RULE, Some(id), &elements));
        self.put(rule(table, chain, |m| {
            let client = Register(0);
            drop(miss(
                load(m, source(table.family), client),
                OF_RULE,
                Some(id),
                client,
            ))
        }));
    }

    /// The rules of a front's chain.
    pub(super) fn fill(
        &mut self,
        table: Table<'_>,
        name: &str,
        backends: &BTreeSet<SocketAddr>,
        sticks: bool,
    ) {
        let client = Register(0);
        let backend = client.after_address(table.family);
        if sticks {
            let known = clients(name);
            let valid = self.set_of(table, backends);
            self.put(rule(table, name, |m| {
                let m = load(m, source(table.family), client);
                let m = map(m, &known, None, client, backend);
                let m = find(m, OF_RULE, Some(valid), backend);
                redirect(
                    learn(m, Learn::Update, &known, client, backend),
                    backend,
                    table,
                )
            }));
            let all = self.choice_of(table, backends);
            self.put(rule(table, name, |m| {
                let m = choose(
                    load(m, source(table.family), client),
                    all,
                    backend,
                    table.family,
                );
                // Where it was sent is no backend any more, or it is new.
                let m = learn(m, Learn::Delete, &known, client, backend);
                redirect(
                    learn(m, Learn::Add, &known, client, backend),
                    backend,
                    table,
                )
            }));
        }
        // Without affinity, and for those that there was no room to remember.
        let all = self.choice_of(table, backends);
        self.put(rule(table, name, |m| {
            redirect(choose(m, all, backend, table.family), backend, table)
        }));
    }

    /// A set of the backends.
    fn set_of(&mut self, table: Table<'_>, backends: &BTreeSet<SocketAddr>) -> u32 {
        let id = self.next_set();
        self.put(set_of_rule(table, id, backend(table.family)));
        let elements: Vec<Element> = backends
            .iter()
            .map(|b| (bytes_of(b), Value::Nothing))
            .collect();
        self.messages
            .extend(set::add(table, OF_RULE, Some(id), &elements));
        id
    }

    /// A map from numbers to backends, and how many there are.
    fn choice_of(&mut self, table: Table<'_>, backends: &BTreeSet<SocketAddr>) -> (u32, u32) {
        let id = self.next_set();
        self.put(map_of_rule(table, id, (NUMBER, backend(table.family))));
        let numbered = (0u32..).zip(backends);
        let elements: Vec<Element> = numbered
            .map(|(n, backend)| (n.to_ne_bytes().to_vec(), Value::Bytes(bytes_of(backend))))
            .collect();
        self.messages
            .extend(set::add(table, OF_RULE, Some(id), &elements));
        (id, elements.len() as u32)
    }
}

/// Takes a backend by chance, of a map and how many are in it.
fn choose(m: Message, (all, count): (u32, u32), backend: Register, family: Family) -> Message {
    let port = backend.after_address(family);
    let number = Register(port.0 + 1);
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
fn bytes_of(backend: &SocketAddr) -> Vec<u8> {
    let mut bytes = octets(backend.ip());
    bytes.extend(backend.port().to_be_bytes());
    bytes.extend([0; 2]);
    bytes
}
