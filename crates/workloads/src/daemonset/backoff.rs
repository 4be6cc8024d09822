//! How long failed Pods are kept: a second, twice as long each time one fails on the same node, 15 minutes at most.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const LONGEST: SignedDuration = SignedDuration::from_mins(15);
/// Without failures for so long, a node begins anew.
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(30);

/// Where Pods of a DaemonSet have failed; none at first. A plan takes what the plan before it gave. Nothing is lost with it but
/// patience: Pods that fail are then replaced as fast as in the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// The generation of the DaemonSet that this is about: another begins anew.
    generation: Option<i64>,
    nodes: BTreeMap<String, Rest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rest {
    since: Timestamp,
    length: SignedDuration,
}

impl Memory {
    /// What still counts of it.
    pub(super) fn at(&self, generation: Option<i64>, now: Timestamp) -> Memory {
        let mut memory = self.clone();
        if memory.generation != generation {
            memory.nodes.clear();
        }
        memory.generation = generation;
        memory
            .nodes
            .retain(|_, rest| now.duration_since(rest.since) <= FORGOTTEN);
        memory
    }

    /// Until when a failed Pod on this node is kept; `None` if it may go now.
    pub(super) fn rests_until(&self, node: &str, now: Timestamp) -> Option<Timestamp> {
        let rest = self.nodes.get(node)?;
        let end = rest.since.checked_add(rest.length).ok()?;
        Some(end).filter(|end| *end > now)
    }

    /// Notes that a failed Pod of this node goes now.
    pub(super) fn note(&mut self, node: &str, now: Timestamp) {
        let before = self.nodes.get(node).map(|rest| rest.length);
        let length = before.map_or(FIRST, |length| (length * 2).min(LONGEST));
        let rest = Rest { since: now, length };
        self.nodes.insert(node.to_owned(), rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_fifteen_minutes_and_are_forgotten() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut memory = Memory::default().at(Some(1), now);
        assert_eq!(memory.rests_until("a", now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            memory.note("a", now);
            let end = now + SignedDuration::from_secs(seconds);
            assert_eq!(memory.rests_until("a", now), Some(end));
            assert_eq!(memory.rests_until("b", now), None, "a node by itself");
            assert_eq!(memory.rests_until("a", end), None);
            now = end;
        }
        assert_eq!(memory.at(Some(1), now), memory, "nothing has changed");
        assert_eq!(memory.at(Some(2), now).rests_until("a", now), None);
        let later = now + SignedDuration::from_mins(16);
        let mut later_memory = memory.at(Some(1), later);
        later_memory.note("a", later);
        assert_eq!(
            later_memory.rests_until("a", later),
            Some(later + SignedDuration::from_secs(1))
        );
    }
}
