//! What was found of the node from look to look.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::threshold::{Level, Policy, Signal};
use super::{DISK, Pressure};
use crate::plan::Event;

/// Seconds a Pod has to end that goes for a hard threshold, and the least it has for a soft one.
pub(super) const GRACE: i64 = 1;

/// A threshold that is not kept, and was missed for as long as it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    pub(super) signal: Signal,
    pub(super) least: String,
    pub(super) available: String,
    /// Most seconds a Pod has to end that goes for it.
    pub(super) max_grace_seconds: i64,
}

impl Met {
    /// Whether it matters how much Pods use of the disk.
    pub fn is_of_disk(&self) -> bool {
        self.signal.pressure() == DISK
    }

    /// Whether it is room for files that lacks, and not inodes.
    pub fn is_of_room(&self) -> bool {
        matches!(self.signal, Signal::Disk | Signal::ImageDisk)
    }

    /// What is told of the node before something is done about it.
    pub fn event(&self) -> Event {
        let message = format!("Attempting to reclaim {}", self.signal.resource());
        Event::warning("EvictionThresholdMet", message)
    }
}

/// What a look finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The pressures the node is under.
    pub pressures: BTreeSet<Pressure>,
    /// What has to be done something about, memory first.
    pub met: Vec<Met>,
    /// When the next soft threshold will have been missed for long enough, if it still is.
    pub next: Option<Timestamp>,
}

/// Remembers since when thresholds are missed, and until when a pressure is told of.
#[derive(Debug, Default)]
pub struct Watch {
    /// Since when, by the place of the threshold in the policy.
    since: BTreeMap<usize, Timestamp>,
    /// What had to be done something about at the last look.
    met: BTreeSet<usize>,
    seen: BTreeMap<Pressure, Timestamp>,
}

impl Watch {
    /// Takes in what the node has.
    pub fn look(
        &mut self,
        policy: &Policy,
        levels: &BTreeMap<Signal, Level>,
        now: Timestamp,
    ) -> Found {
        let before = std::mem::take(&mut self.since);
        let was_met = std::mem::take(&mut self.met);
        let mut found = Found::default();
        for (place, threshold) in policy.thresholds.iter().enumerate() {
            let Some(level) = levels.get(&threshold.signal) else {
                continue;
            };
            if !threshold.is_met(level, was_met.contains(&place)) {
                continue;
            }
            self.seen.insert(threshold.signal.pressure(), now);
            let since = *before.get(&place).unwrap_or(&now);
            self.since.insert(place, since);
            let due = since + threshold.grace.unwrap_or_default();
            if now < due {
                found.next = found.next.map_or(Some(due), |next| Some(next.min(due)));
                continue;
            }
            self.met.insert(place);
            found.met.push(Met {
                signal: threshold.signal,
                least: threshold.least_shown(level),
                available: threshold.signal.shown(level.available),
                max_grace_seconds: match threshold.grace {
                    Some(_) => policy.max_grace_seconds.max(GRACE),
                    None => GRACE,
                },
            });
        }
        found.met.sort_by_key(|met| met.signal);
        let lasts =
            |seen: &Timestamp| *seen == now || now.duration_since(*seen) < policy.transition;
        self.seen.retain(|_, seen| lasts(seen));
        found.pressures = self.seen.keys().copied().collect();
        found
    }
}
