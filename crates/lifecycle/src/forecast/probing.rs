//! Probes of the node in memory: attempts take no time, and their answers are those of the run's conduct.

use std::collections::BTreeMap;
use std::time::Duration;

use cri::{ContainerState, Id};
use jiff::{SignedDuration, Timestamp};

use super::node::Node;
use super::watch::Watch;
use crate::events;
use crate::kinds;
use crate::probe::{self, Answer, Kind, Prober};
use crate::text;

/// The probers that run, with the time they were made.
#[derive(Debug, Default)]
pub(super) struct Probes(BTreeMap<(Id, Kind), (Prober, Timestamp)>);

fn due(prober: &Prober, began: Timestamp) -> Timestamp {
    let wait = SignedDuration::try_from(prober.due()).unwrap_or(SignedDuration::MAX);
    text::after(began, wait)
}

fn passed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

impl Probes {
    /// When the next attempt is due.
    fn due(&self) -> Option<Timestamp> {
        let all = self.0.values();
        all.map(|(prober, began)| due(prober, *began)).min()
    }
}

impl<W: Watch> Node<W> {
    /// Begins the probes that are to run, and ends the others.
    fn follow_probes(&mut self) {
        let wanted = probe::wanted(&self.pod, &self.seen);
        self.probes
            .0
            .retain(|(id, kind), _| wanted.iter().any(|w| w.id == *id && w.kind == *kind));
        let members = kinds::members(&self.pod);
        for wanted in wanted {
            let member = members.iter().find(|m| m.name() == wanted.container);
            let Some(of) = member.and_then(|m| wanted.kind.of(m.spec)) else {
                continue;
            };
            let age = passed(wanted.started_at, self.now);
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
            let answer = self.answer(id, *kind);
            let taken = prober.take(&answer, passed(*began, self.now));
            if taken.is_told {
                self.tell_probe(id, *kind, &answer);
            }
            if let Some(health) = taken.health {
                let healths = self.seen.probes.entry(id.clone()).or_default();
                healths.insert(*kind, health);
                self.watch.probed(id, *kind, health);
                is_new = true;
            }
        }
        self.probes = probes;
        is_new
    }

    fn tell_probe(&mut self, id: &str, kind: Kind, answer: &Answer) {
        let record = self.seen.containers.iter().find(|c| c.id == id);
        let members = kinds::members(&self.pod);
        let member = record.and_then(|c| members.iter().find(|m| m.name() == c.name));
        if let Some(event) = member.and_then(|m| events::probed(m, kind, answer)) {
            self.tell(&event);
        }
    }

    fn answer(&self, id: &str, kind: Kind) -> Answer {
        let record = self.seen.containers.iter().find(|c| c.id == id);
        let Some((record, ContainerState::Running { started_at })) = record.map(|c| (c, &c.state))
        else {
            return Answer::Error("not running".to_owned());
        };
        let age = self.now.duration_since(*started_at);
        let run = self.current_run(&record.name);
        if run.probes.get(&kind).is_none_or(|answers| answers.at(age)) {
            Answer::Success
        } else {
            Answer::Failure("as supposed".to_owned())
        }
    }
}
