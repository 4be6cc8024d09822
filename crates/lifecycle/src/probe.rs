//! Probes (§5): which of them run now, when the next attempt is due, and what the answers add up to.
//!
//! [`wanted`] says which probes of a Pod are to run. The agent keeps one [`Prober`] for each of them: it makes an attempt when
//! [`Prober::due`] says so, and tells the answer to [`Prober::take`]. What that returns goes into [`crate::Observed::probes`], where
//! plan and status find it.
//!
//! A new run's first second is not judged: upstream's agent learns of a start with its next relist and probes from then on, so a
//! server that is up within a second has never failed a probe. Here it is asked from the start, and what fails in that second is
//! neither told nor counted.

use std::collections::BTreeMap;
use std::time::Duration;

use cri::{ContainerState, Id};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, Probe};

use crate::kinds::{self, Member};
use crate::observed::{Observed, WorkerPhase};
use crate::status;

/// How long the failures of a new run are not judged.
const UNJUDGED: Duration = Duration::from_secs(1);
/// The first wait between two attempts in that time; the next ones are twice as long each.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The three probes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `startupProbe`: holds back the others, and the containers after a sidecar.
    Startup,
    /// `livenessProbe`: its failure ends the run.
    Liveness,
    /// `readinessProbe`: says whether the container is ready.
    Readiness,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

    /// The container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }

    /// Its name at the beginning of event texts.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }
}

/// What enough equal answers in a row have established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// The success threshold was reached.
    Good,
    /// The failure threshold was reached.
    Bad,
}

/// What is established of one run; nothing is known at its beginning, nor after the agent began anew.
pub type Healths = BTreeMap<Kind, Health>;

/// A probe that is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The run.
    pub id: Id,
    /// Its container.
    pub container: String,
    /// Which probe.
    pub kind: Kind,
    /// Since when it runs.
    pub started_at: Timestamp,
}

/// The probes that are to run now. One that has come to a final answer about a run is no longer wanted, nor are liveness and
/// startup probes once the Pod ends; readiness is asked for until the end.
pub fn wanted(pod: &Pod, seen: &Observed) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let ends = seen.memory.phase > WorkerPhase::Syncing
        || pod.metadata.deletion_timestamp.is_some()
        || seen.gone;
    let members = kinds::members(pod);
    for record in &seen.containers {
        let ContainerState::Running { started_at } = record.state else {
            continue;
        };
        if seen.memory.failed_hooks.contains(&record.id) {
            continue;
        }
        let Some(member) = members.iter().find(|m| m.name() == record.name) else {
            continue;
        };
        let before = status::previous(pod, member);
        let is_started = is_started(seen, member, &record.id, before);
        for kind in Kind::ALL {
            let is_due = match kind {
                Kind::Startup => !is_started && !ends && !is_bad(seen, &record.id, kind),
                Kind::Liveness => is_started && !ends && !is_bad(seen, &record.id, kind),
                Kind::Readiness => is_started,
            };
            if is_due && kind.of(member.spec).is_some() {
                wanted.push(Wanted {
                    id: record.id.clone(),
                    container: record.name.clone(),
                    kind,
                    started_at,
                });
            }
        }
    }
    wanted
}

/// Whether a probe has established that the run is bad.
pub(crate) fn is_bad(seen: &Observed, id: &str, kind: Kind) -> bool {
    health(seen, id, kind) == Some(Health::Bad)
}

fn health(seen: &Observed, id: &str, kind: Kind) -> Option<Health> {
    seen.probes.get(id)?.get(&kind).copied()
}

/// Whether the status reported before is about this run and says so.
fn was(before: Option<&ContainerStatus>, id: &str, says: fn(&ContainerStatus) -> bool) -> bool {
    before.is_some_and(|status| {
        let reported = status.container_id.as_deref().unwrap_or_default();
        reported
            .rsplit_once("://")
            .is_some_and(|(_, old)| old == id)
            && says(status)
    })
}

/// Whether a run that is running counts as started (§3.5): its startup probe has succeeded, if it has one. Before the first answer
/// it is what was reported of it, so that a new agent changes nothing; of a Pod that ends nobody asks, and it counts as started (§5.2).
pub(crate) fn is_started(
    seen: &Observed,
    member: &Member<'_>,
    id: &str,
    before: Option<&ContainerStatus>,
) -> bool {
    if member.spec.startup_probe.is_none() {
        return true;
    }
    match health(seen, id, Kind::Startup) {
        Some(health) => health == Health::Good,
        None => {
            seen.memory.phase > WorkerPhase::Syncing
                || was(before, id, |status| status.started == Some(true))
        }
    }
}

/// Whether a run that is started counts as ready (§3.5).
pub(crate) fn is_ready(
    seen: &Observed,
    member: &Member<'_>,
    id: &str,
    before: Option<&ContainerStatus>,
) -> bool {
    if member.spec.readiness_probe.is_none() {
        return true;
    }
    match health(seen, id, Kind::Readiness) {
        Some(health) => health == Health::Good,
        None => was(before, id, |status| status.ready),
    }
}

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It succeeded.
    Success,
    /// It succeeded, and there is something to be told.
    Warning(String),
    /// It failed; why.
    Failure(String),
    /// It could not be made; why. Nothing is learned from it.
    Error(String),
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// The answer is to be told in an event.
    pub is_told: bool,
    /// What is established now, if that is new.
    pub health: Option<Health>,
}

/// One probe of one run. Time is counted from the moment the prober was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Prober {
    period: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    due: Duration,
    /// Until when failures are not judged, and how long the next wait is until then.
    unjudged: Option<(Duration, Duration)>,
    health: Option<Health>,
    /// The last answer, and how often in a row it was given.
    row: Option<(Health, u32)>,
}

impl Prober {
    /// A prober of a run that has been running for `age`. Those of runs that were found running by a new agent do not all begin at
    /// once: `spread` says after which fraction of its period this one does.
    pub fn new(kind: Kind, probe: &Probe, age: Duration, spread: Option<f64>) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            let value = u64::try_from(value.unwrap_or(0)).unwrap_or(0);
            Duration::from_secs(if value == 0 { default } else { value })
        };
        let count = |value: Option<i32>, default: u32| {
            u32::try_from(value.unwrap_or(0))
                .ok()
                .filter(|n| *n > 0)
                .unwrap_or(default)
        };
        let period = seconds(probe.period_seconds, 10);
        let delay = seconds(probe.initial_delay_seconds, 0);
        let judged_from = UNJUDGED.min(period);
        let mut unjudged = None;
        let due = match (spread, kind) {
            (Some(spread), _) => period
                .mul_f64(spread.clamp(0.0, 1.0))
                .max(delay.saturating_sub(age)),
            (None, _) if !delay.is_zero() => delay.saturating_sub(age),
            (None, Kind::Liveness) => period,
            (None, _) if age < judged_from => {
                unjudged = Some((judged_from - age, first_wait(probe, judged_from)));
                Duration::ZERO
            }
            (None, _) => Duration::ZERO,
        };
        Prober {
            period,
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            due,
            unjudged,
            health: None,
            row: None,
        }
    }

    /// When the next attempt is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Takes in the answer of the attempt that was due, and ended at `now`.
    pub fn take(&mut self, answer: &Answer, now: Duration) -> Taken {
        let failed = matches!(answer, Answer::Failure(_) | Answer::Error(_));
        if failed && let Some((until, wait)) = self.unjudged.filter(|(until, _)| self.due < *until)
        {
            self.unjudged = Some((until, wait.saturating_mul(2)));
            self.due = (now + wait).min(until).max(now);
            return Taken::default();
        }
        self.unjudged = None;
        self.due = (self.due + self.period).max(now);
        let established = match answer {
            Answer::Success | Answer::Warning(_) => {
                self.count(Health::Good, self.success_threshold)
            }
            Answer::Failure(_) => self.count(Health::Bad, self.failure_threshold),
            Answer::Error(_) => None,
        };
        let health = established.filter(|new| self.health != Some(*new));
        self.health = established.or(self.health);
        Taken {
            is_told: *answer != Answer::Success,
            health,
        }
    }

    fn count(&mut self, answer: Health, threshold: u32) -> Option<Health> {
        let times = match self.row {
            Some((last, times)) if last == answer => times.saturating_add(1),
            _ => 1,
        };
        self.row = Some((answer, times));
        (times >= threshold).then_some(answer)
    }
}

/// Asking a program in the container is dear: it is asked at the start, and then when its answers count.
fn first_wait(probe: &Probe, judged_from: Duration) -> Duration {
    if probe.exec.is_some() {
        judged_from
    } else {
        FIRST_WAIT
    }
}
