//! The table of policies: what gets to Pods and out of them.
//!
//! ```text
//! map ingress, egress   { address : goto group } for Pods that are bound to rules this way
//! set selves            { a . a } for the address a of every such Pod: nobody is kept from itself
//!
//! egress, ingress       base chains, both of which a forwarded packet passes: what is known goes on, then the maps are looked up
//! group                 jumps to each of its rules; what none of them lets through is refused
//! rule                  goes to the rule's peers for each of its ports
//! peers                 lets its members and blocks through
//! ```
//!
//! Neither what this machine sends nor what it receives is forwarded, so it is never kept from its Pods. A packet meets the rules of two
//! Pods at most, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nat::policy::{Block, Bonds, Change, Door, GroupId, Peers, PortRange, Ports, Rule, RuleId};
use nat::policy::{Turn, Way};
use nat::{Family, Protocol, octets};

use super::expression::{
    DESTINATION_PORT, Field, KNOWN, Meta, Register, Reject, accept, branch, connection,
    destination, find, go_to, is, jump, load, meta, reject, source,
};
use super::front::transport;
use super::interval::{Interval, bounds, elements, merged, of_addresses, of_ports};
use super::set::{
    self, Element, OF_RULE, PORTS, Value, address, addresses, intervals_of_rule, verdict_map,
};
use super::{
    FORWARD, Table, base_chain, chain, delete_chain, empty_chain, fresh_table, in_batch, rule,
};
use crate::netlink::Message;

const SELVES: &str = "selves";

/// The maps of Pods, and the chain that looks them up.
const fn map_of(way: Way, family: Family) -> (&'static str, Field) {
    match way {
        Way::In => ("ingress", destination(family)),
        Way::Out => ("egress", source(family)),
    }
}

/// Carries a change out in tables of one name, which `change` may make anew.
pub(crate) fn messages(name: &str, families: &[Family], change: &Change) -> Vec<Message> {
    let (mut messages, mut sets) = (Vec::new(), 0);
    for family in families {
        let table = Table {
            family: *family,
            name,
        };
        let mut batch = Batch {
            table,
            messages,
            sets,
        };
        if change.anew {
            batch.make();
        }
        batch.carry_out(change);
        (messages, sets) = (batch.messages, batch.sets);
    }
    in_batch(messages)
}

/// A batch under construction, as far as it is about one table. What is of another family is passed over.
struct Batch<'a> {
    table: Table<'a>,
    messages: Vec<Message>,
    /// Sets are known by a number within their batch, whichever table they are in.
    sets: u32,
}

impl Batch<'_> {
    fn put(&mut self, message: Message) {
        self.messages.push(message);
    }

    fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    fn rule(&mut self, chain: &str, fill: impl FnOnce(Message) -> Message) {
        self.put(rule(self.table, chain, fill));
    }

    /// The table, with nobody bound.
    fn make(&mut self) {
        let table = self.table;
        self.messages.extend(fresh_table(table));
        let id = self.next_set();
        self.put(set::set(table, SELVES, id, addresses(table.family)));
        for way in [Way::Out, Way::In] {
            let (name, field) = map_of(way, table.family);
            let id = self.next_set();
            self.put(verdict_map(table, name, id, address(table.family)));
            self.put(base_chain(table, name, FORWARD));
            self.rule(name, |m| accept(connection(m, KNOWN)));
            self.rule(name, |m| {
                let second = Register(0).after_address(table.family);
                let m = load(m, source(table.family), Register(0));
                let m = load(m, destination(table.family), second);
                accept(find(m, SELVES, None, Register(0)))
            });
            self.rule(name, |m| {
                branch(load(m, field, Register(0)), name, Register(0))
            });
        }
    }

    fn carry_out(&mut self, change: &Change) {
        let pods = change.pods.iter();
        let pods: Vec<_> = pods.filter(|(ip, _)| self.is_ours(**ip)).collect();
        for (address, (was, now)) in &pods {
            self.unbind(**address, was, now);
        }
        for (id, turn) in &change.rules {
            if let Turn::New(rule) = turn {
                self.make_rule(*id, rule);
            }
        }
        self.fill(change);
        for (id, turn) in &change.groups {
            if let Turn::New(rules) = turn {
                self.make_group(*id, rules);
            }
        }
        for (address, (was, now)) in &pods {
            self.bind(**address, was, now);
        }
        for (id, turn) in &change.groups {
            if let Turn::Gone(_) = turn {
                self.remove_chain(&group_name(*id));
            }
        }
        for (id, turn) in &change.rules {
            if let Turn::Gone(rule) = turn {
                self.remove_rule(*id, rule);
            }
        }
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        Family::of(ip) == self.table.family
    }

    fn unbind(&mut self, address: IpAddr, was: &Bonds, now: &Bonds) {
        for (way, was, now) in ways(was, now) {
            if was.is_some() && was != now {
                let key = octets(address);
                let (map, _) = map_of(way, self.table.family);
                self.messages
                    .extend(set::delete(self.table, map, vec![key]));
            }
        }
        if is_bound(was) && !is_bound(now) {
            let keys = vec![twice(address)];
            self.messages.extend(set::delete(self.table, SELVES, keys));
        }
    }

    fn bind(&mut self, address: IpAddr, was: &Bonds, now: &Bonds) {
        for (way, was, now) in ways(was, now) {
            if let Some(group) = now.filter(|_| was != now) {
                let (map, _) = map_of(way, self.table.family);
                let lead = (octets(address), Value::Chain(group_name(group)));
                self.messages
                    .extend(set::add(self.table, map, None, &[lead]));
            }
        }
        if is_bound(now) && !is_bound(was) {
            let own = [(twice(address), Value::Nothing)];
            self.messages
                .extend(set::add(self.table, SELVES, None, &own));
        }
    }

    fn make_group(&mut self, id: GroupId, rules: &BTreeSet<RuleId>) {
        let name = group_name(id);
        self.put(chain(self.table, &name));
        for id in rules {
            self.rule(&name, |m| jump(m, &rule_name(*id)));
        }
        let family = self.table.family;
        self.rule(&name, |m| reject(m, Reject::Prohibited, family));
    }

    fn make_rule(&mut self, id: RuleId, of: &Rule) {
        let (name, peers) = (rule_name(id), peers_name(id));
        if let Peers::Some(blocks) = &of.peers {
            self.make_peers(id, of.way, blocks);
        }
        let lead = |m: Message| match of.peers {
            Peers::Any => accept(m),
            Peers::Some(_) => go_to(m, &peers),
        };
        self.put(chain(self.table, &name));
        let Ports::Some(ranges) = &of.ports else {
            return self.rule(&name, lead);
        };
        for (protocol, ranges) in by_protocol(ranges) {
            let is_of = |m| is(m, Meta::Protocol, &[protocol.number()]);
            if ranges == [(0, u16::MAX.into())] {
                self.rule(&name, |m| lead(is_of(m)));
                continue;
            }
            let elements = elements(&ranges, of_ports);
            let set = self.next_set();
            self.put(intervals_of_rule(self.table, set, PORTS));
            self.messages
                .extend(set::add(self.table, OF_RULE, Some(set), &elements));
            self.rule(&name, |m| {
                let m = load(is_of(m), DESTINATION_PORT, Register(0));
                lead(find(m, OF_RULE, Some(set), Register(0)))
            });
        }
        let doors = doors_name(id);
        let set = self.next_set();
        let family = self.table.family;
        self.put(set::set(self.table, &doors, set, set::front(family)));
        self.rule(&name, |m| {
            let protocol = Register(0).after_address(family);
            let m = load(m, destination(family), Register(0));
            let m = meta(m, Meta::Protocol, protocol);
            let m = load(m, DESTINATION_PORT, Register(protocol.0 + 1));
            lead(find(m, &doors, Some(set), Register(0)))
        });
    }

    fn make_peers(&mut self, id: RuleId, way: Way, blocks: &BTreeSet<Block>) {
        let (name, members) = (peers_name(id), members_name(id));
        // The other end of what the maps look up.
        let family = self.table.family;
        let field = match way {
            Way::In => source(family),
            Way::Out => destination(family),
        };
        let set = self.next_set();
        self.put(set::set(self.table, &members, set, address(family)));
        self.put(chain(self.table, &name));
        self.rule(&name, |m| {
            let m = load(m, field, Register(0));
            accept(find(m, &members, Some(set), Register(0)))
        });
        let blocks = blocks.iter().filter(|b| b.range.family() == family);
        let covered = merged(blocks.flat_map(parts).collect());
        if covered.is_empty() {
            return;
        }
        let elements = elements(&covered, of_addresses(family));
        let set = self.next_set();
        self.put(intervals_of_rule(self.table, set, address(family)));
        self.messages
            .extend(set::add(self.table, OF_RULE, Some(set), &elements));
        self.rule(&name, |m| {
            let m = load(m, field, Register(0));
            accept(find(m, OF_RULE, Some(set), Register(0)))
        });
    }

    /// Members and doors of rules.
    fn fill(&mut self, change: &Change) {
        let mut sets: BTreeMap<String, (Vec<Element>, Vec<Vec<u8>>)> = BTreeMap::new();
        let members = change.members.iter();
        let members = members.filter(|((_, ip), _)| self.is_ours(*ip));
        let members = members.map(|((id, ip), is_in)| (members_name(*id), octets(*ip), is_in));
        let doors = change.doors.iter();
        let doors = doors.filter(|((_, door), _)| self.is_ours(door.address));
        let doors = doors.map(|((id, door), is_in)| (doors_name(*id), bytes_of(door), is_in));
        for (set, key, is_in) in members.chain(doors) {
            let (new, gone) = sets.entry(set).or_default();
            match is_in {
                true => new.push((key, Value::Nothing)),
                false => gone.push(key),
            }
        }
        for (set, (new, gone)) in sets {
            self.messages.extend(set::delete(self.table, &set, gone));
            self.messages.extend(set::add(self.table, &set, None, &new));
        }
    }

    fn remove_rule(&mut self, id: RuleId, of: &Rule) {
        self.remove_chain(&rule_name(id));
        if let Ports::Some(_) = of.ports {
            self.put(set::delete_set(self.table, &doors_name(id)));
        }
        if let Peers::Some(_) = of.peers {
            self.remove_chain(&peers_name(id));
            self.put(set::delete_set(self.table, &members_name(id)));
        }
    }

    fn remove_chain(&mut self, name: &str) {
        self.put(empty_chain(self.table, name));
        self.put(delete_chain(self.table, name));
    }
}

fn ways(was: &Bonds, now: &Bonds) -> [(Way, Option<GroupId>, Option<GroupId>); 2] {
    [
        (Way::In, was.ingress, now.ingress),
        (Way::Out, was.egress, now.egress),
    ]
}

fn is_bound(bonds: &Bonds) -> bool {
    *bonds != Bonds::default()
}

fn group_name(GroupId(id): GroupId) -> String {
    format!("group-{id}")
}

fn rule_name(RuleId(id): RuleId) -> String {
    format!("rule-{id}")
}

fn peers_name(RuleId(id): RuleId) -> String {
    format!("peers-{id}")
}

fn members_name(RuleId(id): RuleId) -> String {
    format!("members-{id}")
}

fn doors_name(RuleId(id): RuleId) -> String {
    format!("doors-{id}")
}

fn twice(address: IpAddr) -> Vec<u8> {
    octets(address).repeat(2)
}

/// A door as registers hold it.
fn bytes_of(door: &Door) -> Vec<u8> {
    let transport = transport(door.protocol, door.port);
    [octets(door.address), transport].concat()
}

fn by_protocol(ranges: &BTreeSet<PortRange>) -> BTreeMap<Protocol, Vec<Interval>> {
    let mut found: BTreeMap<Protocol, Vec<Interval>> = BTreeMap::new();
    for range in ranges {
        let of = found.entry(range.protocol).or_default();
        of.push((range.first.into(), range.last.into()));
    }
    found
        .into_iter()
        .map(|(of, all)| (of, merged(all)))
        .collect()
}

/// What is left of a block.
fn parts(block: &Block) -> Vec<Interval> {
    let (first, last) = bounds(&block.range);
    let except = block.except.iter();
    let except = except.filter(|except| except.family() == block.range.family());
    let mut left = Vec::new();
    // Where what may be left begins; nowhere behind the last address there is.
    let mut next = Some(first);
    for (from, to) in merged(except.map(bounds).collect()) {
        let before = from.checked_sub(1).map(|before| before.min(last));
        left.extend(next.zip(before).filter(|(next, before)| next <= before));
        next = next
            .zip(to.checked_add(1))
            .map(|(next, behind)| next.max(behind));
    }
    left.extend(next.filter(|next| *next <= last).map(|next| (next, last)));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_what_their_exceptions_leave() {
        for (range, except, expected) in [
            ("10.0.0.0/30", &[][..], "0-3"),
            ("10.0.0.0/30", &["10.0.0.0/32"], "1-3"),
            ("10.0.0.0/30", &["10.0.0.3/32"], "0-2"),
            ("10.0.0.0/30", &["10.0.0.1/32", "10.0.0.2/32"], "0-0 3-3"),
            ("10.0.0.0/30", &["10.0.0.0/31", "10.0.0.0/32"], "2-3"),
            ("10.0.0.0/30", &["10.0.0.0/31", "10.0.0.2/31"], ""),
            ("10.0.0.0/30", &["10.0.0.0/24"], ""),
            ("10.0.0.0/30", &["9.0.0.0/8", "11.0.0.0/8"], "0-3"),
            ("fd00::/126", &["fd00::1/128", "10.0.0.0/8"], "0-0 2-3"),
            (
                "::/0",
                &["::/1", "c000::/2"],
                "170141183460469231731687303715884105728-255211775190703847597530955573826158591",
            ),
            ("::/0", &["::/0"], ""),
        ] {
            let block = Block {
                range: range.parse().expect("a range"),
                except: except
                    .iter()
                    .map(|text| text.parse().expect("a range"))
                    .collect(),
            };
            let base = nat::number(block.range.base());
            let shown = parts(&block)
                .into_iter()
                .map(|(first, last)| format!("{}-{}", first - base, last - base));
            assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
        }
    }
}
