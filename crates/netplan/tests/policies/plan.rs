//! A plan as changes make it, and what it lets through. Changes that no firewall could carry out are failures.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nat::Protocol;
use nat::policy::{Bonds, Change, Door, GroupId, Peers, Ports, Rule, RuleId, Turn};

/// A connection: who, whom, and where to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    rules: BTreeMap<RuleId, Rule>,
    members: BTreeSet<(RuleId, IpAddr)>,
    doors: BTreeSet<(RuleId, Door)>,
    groups: BTreeMap<GroupId, BTreeSet<RuleId>>,
    pods: BTreeMap<IpAddr, Bonds>,
}

impl Plan {
    pub(crate) fn apply(&mut self, change: &Change) {
        if change.anew {
            *self = Plan::default();
        }
        turn(&mut self.rules, &change.rules);
        for gone in change.rules.iter().filter(|(_, turn)| is_gone(turn)) {
            self.members.retain(|(rule, _)| rule != gone.0);
            self.doors.retain(|(rule, _)| rule != gone.0);
        }
        for (member, is_in) in &change.members {
            assert!(self.rules.contains_key(&member.0), "{member:?} of no rule");
            put(&mut self.members, *member, *is_in);
        }
        for (door, is_in) in &change.doors {
            assert!(self.rules.contains_key(&door.0), "{door:?} of no rule");
            put(&mut self.doors, *door, *is_in);
        }
        turn(&mut self.groups, &change.groups);
        for (address, (was, now)) in &change.pods {
            let before = self.pods.remove(address).unwrap_or_default();
            assert_eq!(before, *was, "{address}");
            if *now != Bonds::default() {
                self.pods.insert(*address, *now);
            }
        }
        for rules in self.groups.values() {
            let is_there = |rule| self.rules.contains_key(rule);
            assert!(rules.iter().all(is_there), "a group of rules that are gone");
        }
        for bonds in self.pods.values() {
            let mut groups = bonds.ingress.iter().chain(&bonds.egress);
            assert!(groups.all(|group| self.groups.contains_key(group)));
        }
    }

    pub(crate) fn lets_through(&self, connection: &Connection) -> bool {
        let Connection { from, to, .. } = *connection;
        let bonds = |address| self.pods.get(address).copied().unwrap_or_default();
        let (out, into) = (bonds(&from).egress, bonds(&to).ingress);
        from == to || (self.passes(out, to, connection) && self.passes(into, from, connection))
    }

    fn passes(&self, group: Option<GroupId>, peer: IpAddr, connection: &Connection) -> bool {
        let passes_rule = |id: &RuleId| {
            let rule = &self.rules[id];
            let is_peer = match &rule.peers {
                Peers::Any => true,
                Peers::Some(blocks) => {
                    self.members.contains(&(*id, peer)) || blocks.iter().any(|b| b.contains(peer))
                }
            };
            let Connection { protocol, port, .. } = *connection;
            let is_port = match &rule.ports {
                Ports::Any => true,
                Ports::Some(ranges) => {
                    let door = Door {
                        address: connection.to,
                        protocol,
                        port,
                    };
                    let mut ranges = ranges.iter().filter(|range| range.protocol == protocol);
                    ranges.any(|range| (range.first..=range.last).contains(&port))
                        || self.doors.contains(&(*id, door))
                }
            };
            is_peer && is_port
        };
        group.is_none_or(|group| self.groups[&group].iter().any(passes_rule))
    }
}

fn is_gone<T>(turn: &Turn<T>) -> bool {
    matches!(turn, Turn::Gone(_))
}

fn turn<K: Ord + Copy, V: Clone + PartialEq + std::fmt::Debug>(
    map: &mut BTreeMap<K, V>,
    turns: &BTreeMap<K, Turn<V>>,
) {
    for (key, turn) in turns {
        match turn {
            Turn::New(value) => assert_eq!(map.insert(*key, value.clone()), None),
            Turn::Gone(value) => assert_eq!(map.remove(key).as_ref(), Some(value)),
        }
    }
}

fn put<K: Ord + std::fmt::Debug>(set: &mut BTreeSet<K>, key: K, is_in: bool) {
    let shown = format!("{key:?}");
    let is_new = match is_in {
        true => set.insert(key),
        false => set.remove(&key),
    };
    assert!(is_new, "{shown} is so already");
}
