//! The set of ranges that the Pods of other nodes have, which more than one table has.

use nat::IpRange;

use crate::netlink::Message;

use super::expression::{Field, Register, accept, destination, find, load, source, within};
use super::interval::{bounds, elements, merged, of_addresses};
use super::set::{self, Element, address};
use super::{Table, in_batch, rule};

const PEERS: &str = "peers";

/// Makes the set in a table, with those of these that are of its family.
pub(super) fn set<'a>(
    table: Table<'_>,
    id: u32,
    ranges: impl Iterator<Item = &'a IpRange>,
) -> Vec<Message> {
    let mut messages = vec![set::intervals(table, PEERS, id, address(table.family))];
    messages.extend(set::add(table, PEERS, Some(id), &members(table, ranges)));
    messages
}

/// Has these in a table's set and no others; refused with `ENOENT` if there is no such table.
pub(crate) fn replace<'a>(
    table: Table<'_>,
    ranges: impl Iterator<Item = &'a IpRange>,
) -> Vec<Message> {
    let mut messages = vec![set::empty(table, PEERS)];
    messages.extend(set::add(table, PEERS, None, &members(table, ranges)));
    in_batch(messages)
}

fn members<'a>(table: Table<'_>, ranges: impl Iterator<Item = &'a IpRange>) -> Vec<Element> {
    let ranges = ranges.filter(|range| range.family() == table.family);
    let intervals = merged(ranges.map(bounds).collect());
    elements(&intervals, of_addresses(table.family))
}

/// What Pods of this range, and the node under its address among them, say to Pods of other nodes keeps its sender: the answers come back
/// here.
pub(super) fn keep_senders(table: Table<'_>, chain: &str, pods: IpRange) -> Message {
    rule(table, chain, |m| {
        let from_here = within(m, source(table.family), pods, true);
        accept(among(from_here, destination(table.family)))
    })
}

/// Goes on only if an address is one of theirs.
pub(super) fn among(m: Message, field: Field) -> Message {
    find(load(m, field, Register(0)), PEERS, None, Register(0))
}
