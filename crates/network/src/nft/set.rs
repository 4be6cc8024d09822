//! Sets and maps, and what is in them.

use crate::netlink::{Message, NF_TABLES, NLM_F_CREATE, netfilter};

use nat::Family;

use super::{Table, request};

const NEW_SET: u16 = netfilter(NF_TABLES, 9);
const DELETE_SET: u16 = netfilter(NF_TABLES, 11);
const NEW_ELEMENTS: u16 = netfilter(NF_TABLES, 12);
const DELETE_ELEMENTS: u16 = netfilter(NF_TABLES, 14);

const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
const INTERVALS: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const CHANGED_BY_RULES: u32 = 0x20;
/// The kernel's word for a map that leads to chains (`NFT_DATA_VERDICT`).
const VERDICTS: u32 = 0xffff_ff00;
const GOTO: i32 = -4;
const DROP: u32 = 0;
const INTERVAL_END: u32 = 1;

/// Elements of a message: its attributes have 16-bit lengths.
const AT_ONCE: usize = 200;

/// A kind of value: what `nft list` shows it as (a number of six bits for each part), and its length in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    shown_as: u32,
    length: u32,
}

const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const INTEGER: u32 = 4;

/// What an address is shown as, and its length.
const fn shape(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (7, 4),
        Family::V6 => (8, 16),
    }
}

/// An address.
pub(super) const fn address(family: Family) -> Kind {
    let (shown_as, length) = shape(family);
    Kind { shown_as, length }
}

/// Two addresses.
pub(super) const fn addresses(family: Family) -> Kind {
    let (ip, length) = shape(family);
    Kind {
        shown_as: ip << 6 | ip,
        length: 2 * length,
    }
}

/// An address and a port.
pub(super) const fn backend(family: Family) -> Kind {
    let (ip, length) = shape(family);
    Kind {
        shown_as: ip << 6 | PORT,
        length: length + 4,
    }
}

/// An address, a protocol and a port.
pub(super) const fn front(family: Family) -> Kind {
    let (ip, length) = shape(family);
    Kind {
        shown_as: ip << 12 | PROTOCOL << 6 | PORT,
        length: length + 8,
    }
}

/// A port.
pub(super) const PORTS: Kind = Kind {
    shown_as: PORT,
    length: 2,
};
/// A protocol and a port.
pub(super) const TRANSPORT: Kind = Kind {
    shown_as: PROTOCOL << 6 | PORT,
    length: 8,
};
/// 32 bits of the host.
pub(super) const NUMBER: Kind = Kind {
    shown_as: INTEGER,
    length: 4,
};

/// What a key of a map leads to, or nothing in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Bytes(Vec<u8>),
    Chain(String),
    Drop,
    /// The first key that is no more in the interval which the key before began.
    End,
}

/// One element.
pub(super) type Element = (Vec<u8>, Value);

/// A set.
pub(super) fn set(table: Table<'_>, name: &str, id: u32, keys: Kind) -> Message {
    new_set(table, name, id, 0, keys)
}

/// A map that leads to chains.
pub(super) fn verdict_map(table: Table<'_>, name: &str, id: u32, keys: Kind) -> Message {
    new_set(table, name, id, MAP, keys).attr_be32(6, VERDICTS)
}

/// A map that rules fill, and that forgets after so many seconds.
pub(super) fn memory(
    table: Table<'_>,
    name: &str,
    id: u32,
    kinds: (Kind, Kind),
    seconds: u32,
) -> Message {
    const MOST: u32 = 65_535;
    let milliseconds = u64::from(seconds) * 1000;
    with_values(
        new_set(table, name, id, MAP | TIMEOUT | CHANGED_BY_RULES, kinds.0),
        kinds.1,
    )
    .nest(9, |m| m.attr_be32(1, MOST))
    .attr(11, &milliseconds.to_be_bytes())
}

/// The name of every map that is part of a rule; its id tells it from others of the same batch.
pub(super) const OF_RULE: &str = "__map%d";

/// A map that is part of a rule: the kernel finds a name, and it goes with the rule.
pub(super) fn map_of_rule(table: Table<'_>, id: u32, kinds: (Kind, Kind)) -> Message {
    let flags = ANONYMOUS | CONSTANT | MAP;
    with_values(new_set(table, OF_RULE, id, flags, kinds.0), kinds.1)
}

/// A set of intervals.
pub(super) fn intervals(table: Table<'_>, name: &str, id: u32, keys: Kind) -> Message {
    new_set(table, name, id, INTERVALS, keys)
}

/// Removes every element of a set.
pub(super) fn empty(table: Table<'_>, name: &str) -> Message {
    request(table, format!("empty set {name}"), DELETE_ELEMENTS, 0)
        .attr_str(1, table.name)
        .attr_str(2, name)
}

/// The same without values.
pub(super) fn set_of_rule(table: Table<'_>, id: u32, keys: Kind) -> Message {
    new_set(table, OF_RULE, id, ANONYMOUS | CONSTANT, keys)
}

/// A set of intervals, as part of a rule.
pub(super) fn intervals_of_rule(table: Table<'_>, id: u32, keys: Kind) -> Message {
    new_set(table, OF_RULE, id, ANONYMOUS | CONSTANT | INTERVALS, keys)
}

fn new_set(table: Table<'_>, name: &str, id: u32, flags: u32, keys: Kind) -> Message {
    request(table, format!("add set {name}"), NEW_SET, NLM_F_CREATE)
        .attr_str(1, table.name)
        .attr_str(2, name)
        .attr_be32(3, flags)
        .attr_be32(4, keys.shown_as)
        .attr_be32(5, keys.length)
        .attr_be32(10, id)
}

fn with_values(set: Message, values: Kind) -> Message {
    set.attr_be32(6, values.shown_as)
        .attr_be32(7, values.length)
}

pub(super) fn delete_set(table: Table<'_>, name: &str) -> Message {
    request(table, format!("delete set {name}"), DELETE_SET, 0)
        .attr_str(1, table.name)
        .attr_str(2, name)
}

/// Adds elements to a set; `id` is that of one which is made in the same batch.
pub(super) fn add(
    table: Table<'_>,
    name: &str,
    id: Option<u32>,
    elements: &[Element],
) -> Vec<Message> {
    elements_of(NEW_ELEMENTS, NLM_F_CREATE, table, name, id, elements)
}

/// Removes elements from a set by their keys.
pub(super) fn delete(table: Table<'_>, name: &str, keys: Vec<Vec<u8>>) -> Vec<Message> {
    let elements: Vec<Element> = keys.into_iter().map(|key| (key, Value::Nothing)).collect();
    elements_of(DELETE_ELEMENTS, 0, table, name, None, &elements)
}

fn elements_of(
    kind: u16,
    flags: u16,
    table: Table<'_>,
    name: &str,
    id: Option<u32>,
    elements: &[Element],
) -> Vec<Message> {
    let chunks = elements.chunks(AT_ONCE).map(|chunk| {
        let message = request(table, format!("change elements of set {name}"), kind, flags)
            .attr_str(1, table.name)
            .attr_str(2, name)
            .nest(3, |list| chunk.iter().fold(list, element));
        match id {
            Some(id) => message.attr_be32(4, id),
            None => message,
        }
    });
    chunks.collect()
}

fn element(list: Message, (key, value): &Element) -> Message {
    list.nest(1, |m| {
        let m = m.nest(1, |m| m.attr(1, key));
        match value {
            Value::Nothing => m,
            Value::Bytes(bytes) => m.nest(2, |m| m.attr(1, bytes)),
            Value::Chain(chain) => m.nest(2, |m| {
                m.nest(2, |verdict| {
                    verdict.attr_be32(1, GOTO as u32).attr_str(2, chain)
                })
            }),
            Value::End => m.attr_be32(3, INTERVAL_END),
            Value::Drop => m.nest(2, |m| m.nest(2, |verdict| verdict.attr_be32(1, DROP))),
        }
    })
}
