//! The invariants of §16, checked against the machine (what really ran) and against the store (what was said about it).
//! Numbers in messages are theirs.

mod again;
mod debug;
mod exec;
mod machine;
mod object;
mod pressure;
mod runs;
mod sizes;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::scenario::Run;

pub(crate) use pressure::{Lack, SOFT};
pub(crate) use sizes::fits;
pub(crate) use workloads::{KINDS, kind_of};

/// What is known of one Pod, by UID; it stays known when the Pod is gone.
#[derive(Debug, Default)]
struct Known {
    /// As stored last.
    pod: Pod,
    /// When its deletion, or its being gone, was first stored.
    deleted_at: Option<Duration>,
    /// What the clock showed when its status was changed last.
    told_at: Timestamp,
    /// So many statuses the agent wrote since the Pod was changed last.
    idle_writes: u32,
    /// When its grace was set or shortened.
    graced_at: Duration,
    is_gone: bool,
    /// It left the API before its agent was done, as its user wished.
    is_forced: bool,
    /// Containers whose image was changed.
    edited: BTreeSet<String>,
    /// Containers that were given another size.
    resized: BTreeSet<String>,
    /// What the machine had too little of in its life.
    lacked: BTreeSet<Lack>,
    /// It filled a volume.
    has_filled: bool,
    /// A final phase was stored.
    is_over: bool,
    sandbox_deaths: u32,
    /// All its containers are being restarted in place, or were once.
    restart_all: Option<again::RestartAll>,
    has_restarted_all: bool,
    /// When its kill began for the agent that lives.
    kill: Option<Duration>,
    /// An agent died in its life.
    is_adopted: bool,
    /// An agent died since its deletion.
    kill_began_anew: bool,
    containers: BTreeMap<String, Past>,
}

/// What a container did.
#[derive(Debug, Default, Clone)]
struct Past {
    runs: u32,
    attempts: BTreeSet<u32>,
    last_end: Option<(Duration, Timestamp, i32)>,
    /// Sandboxes in which its startup probe succeeded.
    started_up: BTreeSet<String>,
    /// Sandboxes in which its `postStart` hook succeeded.
    hooked: BTreeSet<String>,
    /// A probe of the run that is on failed.
    is_sick: bool,
    /// The `postStart` hook of the run that is on failed.
    has_failed_hook: bool,
    /// Its next run follows a restart of all.
    is_anew: bool,
    /// Its last record went before it ran.
    was_never_run: bool,
    /// Restarts counted since the last long run, and when the last one was.
    restarts: usize,
    restarted_at: Option<(Duration, Timestamp)>,
}

/// Failed pulls of an image.
#[derive(Debug)]
struct Pulls {
    failed_at: (Duration, Timestamp),
    count: usize,
}

/// Everything the checks remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pods: BTreeMap<String, Known>,
    pulls: BTreeMap<String, Pulls>,
    /// Since when the agent sees every change of Pods as it is made; `None` while it does not.
    sees_since: Option<Duration>,
    clock_went_back: bool,
    clock_jumped: bool,
    stops_fail: bool,
    lacked: BTreeSet<Lack>,
    node: Node,
    workloads: workloads::Workloads,
    runs: u64,
}

/// Crash and pull delays in seconds, the first for the first restart.
const DELAYS: [u64; 7] = [0, 10, 20, 40, 80, 160, 300];

/// After so long without trouble, back-off begins anew: ten minutes, counted from before a pull that takes up to one.
const FORGOTTEN: Duration = Duration::from_secs(530);

/// The greater of what passed and what the clock says has passed: back-off may follow either.
fn since(at: &(Duration, Timestamp), passed: Duration, now: Timestamp) -> Duration {
    let shown = Duration::try_from(now.duration_since(at.1)).unwrap_or_default();
    shown.max(passed.saturating_sub(at.0))
}

impl Checks {
    /// Verbs fail by chance, so that no end is sure to come in time.
    pub(crate) fn stops_may_fail(&mut self) {
        self.stops_fail = true;
    }

    /// An agent begins, remembering nothing.
    pub(crate) fn agent_began(&mut self) {
        self.agent_died();
    }

    /// The agent is dead: what it remembered is lost.
    pub(crate) fn agent_died(&mut self) {
        self.blinded();
        for known in self.pods.values_mut() {
            known.kill = None;
            known.is_adopted = true;
            known.kill_began_anew |= known.deleted_at.is_some();
        }
        self.forget_back_off();
    }

    fn forget_back_off(&mut self) {
        self.pulls.clear();
        for past in self
            .pods
            .values_mut()
            .flat_map(|k| k.containers.values_mut())
        {
            past.restarts = 0;
            past.restarted_at = None;
        }
    }

    /// The agent does not see changes of Pods any more.
    pub(crate) fn blinded(&mut self) {
        self.sees_since = None;
    }

    /// The agent sees changes of Pods from now on, and has been told of those before.
    pub(crate) fn sees_pods(&mut self, passed: Duration) {
        self.sees_since = Some(passed);
    }

    pub(crate) fn clock_jumped(&mut self, by: SignedDuration) {
        self.clock_jumped = true;
        self.clock_went_back |= by.is_negative();
        // Back-off that looks older than it is may be forgotten.
        self.forget_back_off();
    }

    pub(crate) fn sandbox_died(&mut self, uid: &str) {
        if let Some(known) = self.pods.get_mut(uid) {
            known.sandbox_deaths += 1;
        }
    }

    /// Whether there has been such a Pod.
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// A Pod's name, for people.
    pub(crate) fn name(&self, uid: &str) -> String {
        let name = self.pods.get(uid).and_then(|k| k.pod.metadata.name.clone());
        name.unwrap_or_else(|| "a pod nobody knows".to_owned())
    }

    /// Runs in all.
    pub(crate) fn runs(&self) -> u64 {
        self.runs
    }

    /// What the next run of a container will do.
    pub(crate) fn next_run(
        &self,
        uid: &str,
        container: &str,
        scripts: &BTreeMap<(String, String), Vec<Run>>,
    ) -> Run {
        let forever = Run {
            lasts: None,
            code: 0,
            on_stop: Some((Duration::ZERO, 0)),
            starts: true,
            healthy: (Duration::ZERO, Duration::MAX),
            hook: (Duration::ZERO, 0),
        };
        let before = self
            .pods
            .get(uid)
            .and_then(|known| known.containers.get(container))
            .map_or(0, |past| past.runs);
        let Some(runs) = scripts.get(&(self.script(uid), container.to_owned())) else {
            return forever;
        };
        let index = usize::try_from(before).unwrap_or(usize::MAX);
        runs.get(index).or(runs.last()).copied().unwrap_or(forever)
    }

    /// When the agent learned of the Pod's deletion; `None` while it has not.
    fn deletion_seen(&self, known: &Known) -> Option<Duration> {
        Some(known.deleted_at?.max(self.sees_since?))
    }
}

fn ensure(holds: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text()) }
}
