//! Probes of the node in memory: attempts take no time, and their answers follow the run's script.

use std::collections::BTreeMap;
use std::time::Duration;

use cri::{ContainerState, Id};
use jiff::{SignedDuration, Timestamp};
use lifecycle::kinds;
use lifecycle::probe::{self, Answer, Kind, Prober};

use super::World;

/// The probers that run, with the time they were made.
#[derive(Default)]
pub(super) struct Probes(BTreeMap<(Id, Kind), (Prober, Timestamp)>);

fn due(prober: &Prober, began: Timestamp) -> Timestamp {
    began + SignedDuration::try_from(prober.due()).unwrap()
}

impl Probes {
    /// When the next attempt is due.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.0
            .values()
            .map(|(prober, began)| due(prober, *began))
            .min()
    }
}

impl World {
    /// Begins the probes that are to run, and ends the others.
    pub(super) fn follow_probes(&mut self) {
        let wanted = probe::wanted(&self.pod, &self.seen);
        self.probes
            .0
            .retain(|(id, kind), _| wanted.iter().any(|w| w.id == *id && w.kind == *kind));
        let members = kinds::members(&self.pod);
        for wanted in wanted {
            let member = members
                .iter()
                .find(|m| m.name() == wanted.container)
                .unwrap();
            let age = Duration::try_from(self.now.duration_since(wanted.started_at)).unwrap();
            let of = wanted.kind.of(member.spec).unwrap();
            let prober = Prober::new(wanted.kind, of, age, None);
            let key = (wanted.id, wanted.kind);
            self.probes.0.entry(key).or_insert((prober, self.now));
        }
    }

    /// Lets time pass until something else is due, or a probe establishes something new.
    pub(super) fn probe_until(&mut self, until: Timestamp) {
        self.follow_probes();
        while let Some(due) = self.probes.due().filter(|due| *due < until) {
            self.now = self.now.max(due);
            if self.probe() {
                return;
            }
        }
        self.now = self.now.max(until);
    }

    /// Makes the attempts that are due; whether they established something new.
    pub(super) fn probe(&mut self) -> bool {
        self.follow_probes();
        let mut is_new = false;
        let mut probes = std::mem::take(&mut self.probes);
        for ((id, kind), (prober, began)) in &mut probes.0 {
            if due(prober, *began) > self.now {
                continue;
            }
            let answer = self.answer(id);
            let passed = Duration::try_from(self.now.duration_since(*began)).unwrap();
            if let Some(health) = prober.take(&answer, passed).health {
                self.seen
                    .probes
                    .entry(id.clone())
                    .or_default()
                    .insert(*kind, health);
                self.watcher.probed(id, *kind, health);
                is_new = true;
            }
        }
        self.probes = probes;
        is_new
    }

    fn answer(&self, id: &str) -> Answer {
        let record = self.seen.containers.iter().find(|c| c.id == id).unwrap();
        let ContainerState::Running { started_at } = record.state else {
            return Answer::Error("not running".to_owned());
        };
        let age = self.now.duration_since(started_at).as_secs();
        let (from, until) = self.current_run(&record.name).healthy;
        if (from..until).contains(&age) {
            Answer::Success
        } else {
            Answer::Failure("no".to_owned())
        }
    }
}
