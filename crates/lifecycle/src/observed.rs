//! What the rules look at besides the Pod itself: the runtime's records, and what the worker remembers between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cri::{ContainerStatus, Id, SandboxStatus};
use jiff::{SignedDuration, Timestamp};

use crate::plan::{EventType, Start};
use crate::probe::Healths;
use crate::resize::Resizing;
use crate::resources::Amounts;

/// One look at a Pod's world.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Every sandbox of the Pod the runtime knows, in any order.
    pub sandboxes: Vec<SandboxStatus>,
    /// Every container record of the Pod, dead ones included, in any order.
    pub containers: Vec<ContainerStatus>,
    /// Whether the Pod's volumes are in place.
    pub volumes: VolumesSeen,
    /// Termination messages by container id, as the agent read them: the file, or the log's tail where §3.6 asks for it.
    pub termination_messages: BTreeMap<Id, String>,
    /// What the probes of each run have established, by container id.
    pub probes: BTreeMap<Id, Healths>,
    /// Addresses of the node, primary first.
    pub host_ips: Vec<IpAddr>,
    /// The Pod is no longer in the API: it was force-deleted, or its final DELETE succeeded. It ends with the least grace, and
    /// nothing about it is reported any more (§2.6).
    pub gone: bool,
    /// What the worker remembers.
    pub memory: Memory,
}

impl Memory {
    /// What a container was asked for when its stop began: with its hook, or without one.
    pub fn stop_of(&self, id: &str) -> Option<&Stopping> {
        let hooked = self.pre_stops.get(id).map(|hook| &hook.stop);
        hooked.or_else(|| self.stopping.get(id))
    }

    /// A start begins. Its back-off counts from here, and not from when it was planned: hooks of others may have come between (§4.1).
    pub fn begin(&mut self, start: &Start, now: Timestamp) {
        if let Some(back_off) = &start.back_off {
            let back_off = BackOff {
                updated_at: now,
                ..back_off.clone()
            };
            self.restarts.insert(start.container.clone(), back_off);
        }
    }
}

/// Whether volumes are in place (§1.3 step 7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum VolumesSeen {
    /// Not yet set up.
    #[default]
    Pending,
    /// All of them are mounted.
    Ready,
    /// Setting up failed; it is tried again at this time.
    Failed {
        /// When to try again.
        retry_at: Timestamp,
    },
    /// They were taken down at the end of the Pod's life.
    Released,
}

/// The one-way phases of a Pod's worker (§1.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerPhase {
    /// Working towards the spec.
    #[default]
    Syncing,
    /// Stopping everything.
    Terminating,
    /// Nothing runs any more; cleaning up.
    Terminated,
    /// Nothing is left to do.
    Finished,
}

/// The kinds of container, which differ in when they start, restart and stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerKind {
    /// A regular init container: runs to completion, in order.
    Init,
    /// A restartable init container: starts in order, runs beside the apps.
    Sidecar,
    /// A container of `spec.containers`.
    App,
    /// A container of `spec.ephemeralContainers`.
    Ephemeral,
}

/// What a worker remembers between looks. It begins empty and may be lost: everything here can be rebuilt or done without.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// The worker's phase.
    pub phase: WorkerPhase,
    /// Why containers could not be started, by name (§3.4 rule 5). Removed by a success.
    pub start_errors: BTreeMap<String, StartError>,
    /// Crash back-off by container name (§4.1).
    pub restarts: BTreeMap<String, BackOff>,
    /// Pull back-off by image as the spec writes it (§4.2).
    pub pulls: BTreeMap<String, PullBackOff>,
    /// Containers that were asked to stop, by id. The worker writes the entry when it takes a [`crate::Stop`].
    pub stopping: BTreeMap<Id, Stopping>,
    /// Containers whose `preStop` hook was begun, by id. The worker writes the entry when it takes a [`crate::PreStop`], and says
    /// in it when the hook is over.
    pub pre_stops: BTreeMap<Id, PreStopping>,
    /// Runs whose `postStart` hook failed (§1.9 step 9), by id. The worker writes the entry, and a start error, when the hook is
    /// over. The plan stops such a run; until it has ended it counts for nothing else, and what was reported before stands.
    pub failed_hooks: BTreeSet<Id>,
    /// Ended runs, by id, whose containers an agent before this one had begun to start again: their policy is not asked any more.
    /// Grows by [`crate::Plan::owed`].
    pub owed: BTreeSet<Id>,
    /// What the node has decided about the Pod; it ends then, unless it does already.
    pub eviction: Option<Eviction>,
    /// The Pod's own end, once it was decided.
    pub termination: Option<Termination>,
    /// Keys of events that must not be repeated while their cause lasts; replaced by [`crate::Plan::told`].
    pub told: BTreeSet<String>,
    /// All containers are being restarted in place (§1.10); replaced by [`crate::Plan::restarting_all`].
    pub restarting_all: bool,
    /// Something a failed start may have waited for has changed (the spec, a ConfigMap, a Secret): errors older than this are
    /// tried again now. Crash and pull back-off stay.
    pub changed_at: Option<Timestamp>,
    /// Resizes that are wanted, or under way. The worker changes it but for `progress`, which [`crate::Plan::resizing`] replaces.
    pub resizing: Resizing,
    /// A step that no field above remembers has failed (sandbox, teardown, DELETE).
    pub retry: Option<Retry>,
}

/// A step failed; the rest of its phase waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The phase in which it failed. The wait is over when the worker has left it.
    pub phase: WorkerPhase,
    /// Nothing but `Stop` and `Event` is planned before.
    pub at: Timestamp,
}

/// A container's start that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// Waiting reason: `ErrImagePull`, `CrashLoopBackOff`, `CreateContainerConfigError`, …
    pub reason: String,
    /// Waiting message.
    pub message: String,
    /// When it failed: the worker tries again 10 s later unless a back-off says otherwise.
    pub at: Timestamp,
}

/// Crash back-off of one container (§4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackOff {
    /// Least time between an exit and the next start.
    pub delay: SignedDuration,
    /// When the entry was last advanced.
    pub updated_at: Timestamp,
    /// What the container was allocated then: one of another size has no history.
    pub amounts: Amounts,
}

/// Pull back-off of one image (§4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullBackOff {
    /// Least time between a failure and the next attempt.
    pub delay: SignedDuration,
    /// When the last attempt failed.
    pub failed_at: Timestamp,
    /// Its error.
    pub error: String,
}

/// A container that was asked to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    /// When.
    pub since: Timestamp,
    /// With how much grace, in seconds.
    pub grace_seconds: i64,
    /// [`crate::Stop::then_restart`].
    pub then_restart: bool,
}

/// A container whose `preStop` hook was begun. Its stop follows when the hook is over, or the grace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreStopping {
    /// What was asked for, and when.
    pub stop: Stopping,
    /// The hook is over, well or not.
    pub is_over: bool,
}

/// The Pod's end, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// When it was decided.
    pub since: Timestamp,
    /// The worker's grace, which only ever falls (§2.3).
    pub grace_seconds: i64,
    /// Phase, reason and message that override the computed ones (deadline, eviction).
    pub verdict: Option<Verdict>,
}

/// A decision about a Pod that overrides what its containers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `Failed`.
    pub phase: String,
    /// `DeadlineExceeded`, `Evicted`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// Of the event that tells of it.
    pub event_type: EventType,
    /// Annotations of that event.
    pub annotations: BTreeMap<String, String>,
    /// The message of condition `DisruptionTarget`, where the node ends a Pod for the sake of others (§3.2).
    pub disruption: Option<String>,
}

/// The node will not have the Pod any longer (§2.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// What is said of it.
    pub verdict: Verdict,
    /// Most grace it gets, in seconds; as much as it has by itself where none is said.
    pub grace_seconds: Option<i64>,
}
