//! What is reported of a Pod over time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1 as core;

use super::watch::Watch;
use crate::kinds;
use crate::observed::{ContainerKind, Observed};
use crate::plan::Event;

/// A Pod as it is from one moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Time since the beginning.
    pub at: SignedDuration,
    /// `status.phase`.
    pub phase: String,
    /// `status.reason`.
    pub reason: Option<String>,
    /// `True` or `False` by condition.
    pub conditions: BTreeMap<String, String>,
    /// Init containers and sidecars, then app containers, in spec order.
    pub containers: Vec<Shown>,
}

/// A container at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: ContainerKind,
    /// Its state.
    pub state: State,
    /// How often it was restarted.
    pub restart_count: i32,
    /// Whether it is ready.
    pub is_ready: bool,
    /// The state lasts no time, and nothing waits for it to be stored: who watches the Pod may never see it.
    pub is_momentary: bool,
}

/// A container's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does not run, for this reason.
    Waiting {
        /// `ContainerCreating`, `PodInitializing`, `CrashLoopBackOff`, …
        reason: String,
    },
    /// It runs.
    Running,
    /// It has ended.
    Terminated {
        /// `Completed`, `Error`, …
        reason: String,
        /// Its exit code.
        exit_code: i32,
    },
}

impl State {
    fn of(state: &core::ContainerState) -> Self {
        if let Some(ended) = &state.terminated {
            State::Terminated {
                reason: ended.reason.clone().unwrap_or_default(),
                exit_code: ended.exit_code,
            }
        } else if state.running.is_some() {
            State::Running
        } else {
            let waiting = state.waiting.as_ref().and_then(|w| w.reason.clone());
            State::Waiting {
                reason: waiting.unwrap_or_default(),
            }
        }
    }
}

/// An event, and when it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Time since the beginning.
    pub at: SignedDuration,
    /// How many moments come before it.
    pub place: usize,
    /// The event.
    pub event: Event,
}

/// Writes down what is reported.
#[derive(Debug)]
pub(super) struct Recorder {
    began: Timestamp,
    pub(super) moments: Vec<Moment>,
    pub(super) events: Vec<Told>,
}

impl Recorder {
    pub(super) fn new(began: Timestamp) -> Self {
        Recorder {
            began,
            moments: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The moments, with what lasts no time marked.
    pub(super) fn moments(mut self) -> (Vec<Moment>, Vec<Told>) {
        let containers = self
            .moments
            .first()
            .map_or(0, |first| first.containers.len());
        for container in 0..containers {
            self.mark_momentary(container);
        }
        (self.moments, self.events)
    }

    /// Until now `is_momentary` says that the agent itself brings the state about, so that nothing waits for it to be stored.
    fn mark_momentary(&mut self, container: usize) {
        let is_same = |a: &Moment, b: &Moment| {
            let of = |moment: &Moment| {
                let shown = moment.containers.get(container);
                shown.map(|c| (c.state.clone(), c.restart_count))
            };
            of(a) == of(b)
        };
        let mut rest = self.moments.as_mut_slice();
        while let Some(first) = rest.first() {
            let began = first.at;
            let length = rest.iter().take_while(|m| is_same(first, m)).count();
            let (span, after) = rest.split_at_mut(length);
            let lasts = after.first().is_none_or(|next| next.at > began);
            for moment in span {
                if let Some(shown) = moment.containers.get_mut(container) {
                    shown.is_momentary &= !lasts;
                }
            }
            rest = after;
        }
    }
}

impl Watch for Recorder {
    fn told(&mut self, event: &Event, now: Timestamp) {
        self.events.push(Told {
            at: now.duration_since(self.began),
            place: self.moments.len(),
            event: event.clone(),
        });
    }

    fn reported(
        &mut self,
        pod: &core::Pod,
        seen: &Observed,
        status: &core::PodStatus,
        now: Timestamp,
    ) {
        let conditions = status.conditions.iter().flatten();
        let moment = Moment {
            at: now.duration_since(self.began),
            phase: status.phase.clone().unwrap_or_default(),
            reason: status.reason.clone(),
            conditions: conditions
                .map(|c| (c.type_.clone(), c.status.clone()))
                .collect(),
            containers: containers(pod, seen, status),
        };
        let is_new = self.moments.last().is_none_or(|last| {
            let last = Moment {
                at: moment.at,
                ..last.clone()
            };
            last != moment
        });
        if is_new {
            self.moments.push(moment);
        }
    }
}

fn containers(pod: &core::Pod, seen: &Observed, status: &core::PodStatus) -> Vec<Shown> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let statuses: Vec<_> = lists.into_iter().flatten().flatten().collect();
    let shown = |member: kinds::Member<'_>| {
        let status = statuses.iter().find(|s| s.name == member.name())?;
        let state = State::of(&status.state.clone().unwrap_or_default());
        let id = status
            .container_id
            .as_deref()
            .and_then(|id| id.rsplit_once("://"));
        let stop = id.and_then(|(_, id)| seen.memory.stop_of(id));
        let ended_by_itself = matches!(state, State::Terminated { .. })
            && !stop.is_some_and(|stop| stop.then_restart);
        Some(Shown {
            name: status.name.clone(),
            kind: member.kind,
            restart_count: status.restart_count,
            is_ready: status.ready,
            is_momentary: !ended_by_itself,
            state,
        })
    };
    kinds::members(pod).into_iter().filter_map(shown).collect()
}
