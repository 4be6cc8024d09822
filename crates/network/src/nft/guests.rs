//! The set of Pods on other networks than the bridge's, which more than one table has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nat::{Family, octets};

use crate::netlink::Message;

use super::expression::{Register, find, load, source};
use super::set::{self, Element, Value, address};
use super::{Table, in_batch};

const GUESTS: &str = "guests";

/// Makes the set in a table, with those of these that are of its family.
pub(super) fn set(table: Table<'_>, id: u32, guests: &BTreeSet<IpAddr>) -> Vec<Message> {
    let mut messages = vec![set::set(table, GUESTS, id, address(table.family))];
    let elements: Vec<Element> = guests
        .iter()
        .filter(|ip| Family::of(**ip) == table.family)
        .map(|ip| element(*ip))
        .collect();
    messages.extend(set::add(table, GUESTS, Some(id), &elements));
    messages
}

/// Goes on only if the packet is from one of them.
pub(super) fn from_guests(m: Message, family: Family) -> Message {
    find(
        load(m, source(family), Register(0)),
        GUESTS,
        None,
        Register(0),
    )
}

/// Adds one to a table's set.
pub(crate) fn add(table: Table<'_>, ip: IpAddr) -> Vec<Message> {
    in_batch(set::add(table, GUESTS, None, &[element(ip)]))
}

/// Removes one from a table's set; refused with `ENOENT` if it is not there.
pub(crate) fn delete(table: Table<'_>, ip: IpAddr) -> Vec<Message> {
    in_batch(set::delete(table, GUESTS, vec![octets(ip)]))
}

fn element(ip: IpAddr) -> Element {
    (octets(ip), Value::Nothing)
}
