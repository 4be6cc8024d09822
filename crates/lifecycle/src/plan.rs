//! What the rules return: steps to take now, the reasons, and when to look again.

use std::collections::{BTreeMap, BTreeSet};

use cri::Id;
use jiff::{SignedDuration, Timestamp};

use crate::look::Look;
use crate::observed::{BackOff, ContainerKind, Observed, StartError, Termination, WorkerPhase};
use crate::resize::{Progress, Resize};
use crate::text;

/// Settings of the node that rules depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePolicy {
    /// First pull delay, and crash delay unless those are at most less (10 s).
    pub back_off_initial: SignedDuration,
    /// Greatest pull delay (300 s).
    pub pull_back_off_max: SignedDuration,
    /// Greatest crash delay (300 s; `crashLoopBackOff.maxContainerRestartPeriod`).
    pub crash_back_off_max: SignedDuration,
    /// How long after a failed start without a back-off of its own it is tried again (10 s).
    pub retry_after: SignedDuration,
    /// How long a failed pull or hook is shown before what follows from it (1 s, upstream's relist period).
    pub shown_for: SignedDuration,
    /// How long the last exit of a Pod that completed is shown before its phase says so (1.5 s; upstream needs one to two).
    pub completed_after: SignedDuration,
    /// How long an exit is shown at most before `CrashLoopBackOff` takes its place (60 s, upstream's resync period).
    pub resync_after: SignedDuration,
    /// How long before its end a crash back-off is shown at the latest (300 ms).
    pub announced_before: SignedDuration,
}

impl Default for NodePolicy {
    fn default() -> Self {
        NodePolicy {
            back_off_initial: SignedDuration::from_secs(10),
            pull_back_off_max: SignedDuration::from_secs(300),
            crash_back_off_max: SignedDuration::from_secs(300),
            retry_after: SignedDuration::from_secs(10),
            shown_for: SignedDuration::from_secs(1),
            completed_after: SignedDuration::from_millis(1500),
            resync_after: SignedDuration::from_secs(60),
            announced_before: SignedDuration::from_millis(300),
        }
    }
}

/// What to do now.
///
/// The worker writes the status of what it observed (so that an exit is seen before its restart), stores the changes to its
/// memory (`phase`, `termination`, `restarts`, `start_errors`, `owed`, `told`, `restarting_all`), takes the steps in order, and
/// looks again at once. A plan without steps means: write the status and sleep until an event or `wake_at`. A worker may forget a Pod when its phase is
/// `Finished`, [`crate::Observed::gone`] is set and the plan has no steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The worker's phase from now on; never falls back.
    pub phase: WorkerPhase,
    /// Steps in order. `Start`s run one after another; a regular init container that fails to start ends the plan (§1.4 step 7).
    /// `Stop`s run side by side.
    pub steps: Vec<Step>,
    /// Why each step is taken and what is awaited: what `carob why` prints.
    pub reasons: Vec<Reason>,
    /// When to look again if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// New crash back-off entries of containers that have all of them restarted in place, by name. Others come with their starts.
    pub restarts: BTreeMap<String, BackOff>,
    /// Start errors to remember (containers held by a back-off), by container name.
    pub start_errors: BTreeMap<String, StartError>,
    /// Ended runs to add to the memory's `owed`, by id.
    pub owed: BTreeSet<Id>,
    /// The Pod's end, when it is decided or its grace falls.
    pub termination: Option<Termination>,
    /// The worker's `told` from now on: replaces the old set.
    pub told: BTreeSet<String>,
    /// The worker's `restarting_all` from now on.
    pub restarting_all: bool,
    /// The worker's `resizing.progress` from now on, while the Pod lives.
    pub resizing: Option<Progress>,
}

/// One step, carried out by the worker through a port.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Report an event on the Pod.
    Event(Event),
    /// Make the Pod's directories and mount its volumes.
    SetUpVolumes,
    /// Make and start a sandbox.
    CreateSandbox {
        /// Its number.
        attempt: u32,
    },
    /// Take a sandbox down.
    StopSandbox {
        /// Which.
        id: Id,
    },
    /// Remove a sandbox's record.
    RemoveSandbox {
        /// Which.
        id: Id,
    },
    /// Get the image, make the container, start it.
    Start(Start),
    /// Run a container's `preStop` hook.
    PreStop(PreStop),
    /// Stop a container.
    Stop(Stop),
    /// Note what was granted as the Pod's allocation: in its sandbox's record, then in its spec.
    Allocate,
    /// Change limits in place.
    Resize(Resize),
    /// Remove a dead container's record.
    RemoveContainer {
        /// Which.
        id: Id,
        /// Leave its log file.
        keep_log: bool,
    },
    /// Unmount the volumes and remove the Pod's directories and cgroup.
    TearDown,
    /// Delete the Pod from the API with grace 0 and its UID as precondition (§2.6). When it is gone then (or was already), the
    /// worker sets [`crate::Observed::gone`].
    DeletePod,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its name.
    pub container: String,
    /// Its kind.
    pub kind: ContainerKind,
    /// `attempt` of the new record (§1.9 step 2).
    pub restart_count: u32,
    /// Its crash back-off from now on: the worker has [`Memory::begin`](crate::observed::Memory::begin) note it. `None` for a first start.
    pub back_off: Option<BackOff>,
}

/// A `preStop` hook to run, beside everything else. The worker reports `Killing` with the message, runs the hook for at most the
/// grace, and looks again when it is over; a hook that fails is reported and changes nothing (§6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreStop(pub Stop);

/// A container to stop. The worker reports `Killing` with `message`, and asks the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Which record.
    pub id: Id,
    /// Its name.
    pub container: String,
    /// Its kind.
    pub kind: ContainerKind,
    /// Seconds between the stop signal and SIGKILL; at least 2 (§2.3).
    pub grace_seconds: i64,
    /// Text of the `Killing` event; `None` when it was told before.
    pub message: Option<String>,
    /// The container starts again once it has stopped, whatever its exit code (§1.7).
    pub then_restart: bool,
}

/// Normal or Warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// An event to report (§14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub event_type: EventType,
    /// Its reason, such as `BackOff`.
    pub reason: String,
    /// Its text.
    pub message: String,
    /// The container it is about; `None` for the Pod.
    pub container: Option<(ContainerKind, String)>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Event {
    /// One of something that is as it should be; on no container, but on the Pod itself or on the node.
    pub fn normal(reason: &str, message: impl Into<String>) -> Self {
        Event {
            event_type: EventType::Normal,
            reason: reason.to_owned(),
            message: message.into(),
            container: None,
            annotations: BTreeMap::new(),
        }
    }

    /// One of something to be looked at; likewise on no container.
    pub fn warning(reason: &str, message: impl Into<String>) -> Self {
        Event {
            event_type: EventType::Warning,
            ..Event::normal(reason, message)
        }
    }
}

/// Why something is done, or is not done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The container it is about; `None` for the Pod.
    pub container: Option<String>,
    /// One sentence in lower case without a full stop: `waits for init container migrate to finish`.
    pub text: String,
}

impl Plan {
    /// Whether the worker has nothing left to do for a Pod that has left the API, now or later.
    pub fn is_last(&self, seen: &Observed) -> bool {
        let is_over = self.phase == WorkerPhase::Finished && seen.gone;
        is_over && self.steps.is_empty() && self.wake_at.is_none()
    }

    /// Adds a reason.
    pub(crate) fn because(&mut self, container: Option<&str>, text: impl Into<String>) {
        self.reasons.push(Reason {
            container: container.map(str::to_owned),
            text: text.into(),
        });
    }

    /// Looks again at `at` or before.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }

    /// Keeps `key` told; `true` when it was told before.
    pub(crate) fn tell(&mut self, look: &Look<'_>, key: String) -> bool {
        let told = look.seen.memory.told.contains(&key);
        self.told.insert(key);
        told
    }

    /// Whether a failure of this phase is still to be waited out.
    pub(crate) fn held_by_retry(&mut self, look: &Look<'_>) -> bool {
        let memory = &look.seen.memory;
        let Some(retry) = memory
            .retry
            .filter(|r| r.phase == memory.phase && look.now < r.at)
        else {
            return false;
        };
        self.wake(retry.at);
        self.because(
            None,
            format!(
                "the last step failed and is tried again at {}",
                text::clock(retry.at)
            ),
        );
        true
    }
}
