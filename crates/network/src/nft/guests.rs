//! The set of Pods on other networks than the bridge's, which more than one table has.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::netlink::Message;

use super::expression::{IPV4_SOURCE, Register, find, load};
use super::in_batch;
use super::set::{self, ADDRESS, Element, Value};

const GUESTS: &str = "guests";

/// Makes the set in a table, with these.
pub(super) fn set(table: &str, id: u32, guests: &BTreeSet<Ipv4Addr>) -> Vec<Message> {
    let mut messages = vec![set::set(table, GUESTS, id, ADDRESS)];
    let elements: Vec<Element> = guests.iter().map(|ip| element(*ip)).collect();
    messages.extend(set::add(table, GUESTS, Some(id), &elements));
    messages
}

/// Goes on only if the packet is from one of them.
pub(super) fn from_guests(m: Message) -> Message {
    find(load(m, IPV4_SOURCE, Register(0)), GUESTS, None, Register(0))
}

/// Adds one to a table's set.
pub(crate) fn add(table: &str, ip: Ipv4Addr) -> Vec<Message> {
    in_batch(set::add(table, GUESTS, None, &[element(ip)]))
}

/// Removes one from a table's set; refused with `ENOENT` if it is not there.
pub(crate) fn delete(table: &str, ip: Ipv4Addr) -> Vec<Message> {
    in_batch(set::delete(table, GUESTS, vec![ip.octets().to_vec()]))
}

fn element(ip: Ipv4Addr) -> Element {
    (ip.octets().to_vec(), Value::Nothing)
}
