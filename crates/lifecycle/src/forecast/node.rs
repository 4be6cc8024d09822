//! A node in memory with one Pod: it observes, plans, acts and reports as the node agent does, under a clock of its own.
//!
//! Steps take no time, but for `postStart` hooks, which keep the agent from everything else as they do on a real node. What
//! containers do is written down in a [`Conduct`].

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use cri::{ContainerState, ContainerStatus, Id, SandboxState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

use super::conduct::{Conduct, Run};
use super::probing::Probes;
use super::watch::Watch;
use crate::observed::{Memory, Observed, VolumesSeen, WorkerPhase};
use crate::plan::{NodePolicy, Plan, Step};
use crate::{decide, status, termination};

/// Addresses for documentation (RFC 5737).
const HOST_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
pub(super) const POD_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

/// What a container does that nothing is supposed about.
static ON: Run = Run::on();

/// More looks at one moment than any Pod needs.
const MANY_LOOKS: u32 = 10_000;

/// The plans for a Pod never come to rest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at {at} the plan does not come to rest")]
pub struct Restless {
    /// The moment.
    pub at: Timestamp,
}

/// The node with its one Pod.
#[derive(Debug)]
pub struct Node<W> {
    /// The Pod with the status reported last.
    pub pod: Pod,
    /// What the agent sees.
    pub seen: Observed,
    /// The time.
    pub now: Timestamp,
    /// What containers do.
    pub conduct: Conduct,
    /// Hears of everything.
    pub watch: W,
    /// The agent dies before it takes so many more steps, and comes back at once.
    pub dies_after: Option<u32>,
    pub(super) policy: NodePolicy,
    /// How often each container was started.
    pub(super) starts: BTreeMap<String, usize>,
    /// When runs end, and with which exit code.
    pub(super) ends: BTreeMap<Id, (Timestamp, i32)>,
    pub(super) probes: Probes,
    /// `preStop` hooks that run, and when they are over.
    pub(super) hooks: BTreeMap<Id, Timestamp>,
    /// The run whose `postStart` hook is under way, and when that is over. The agent does not see it before.
    pub(super) starting: Option<(ContainerStatus, Timestamp)>,
    pub(super) queue: VecDeque<Step>,
    wake_at: Option<Timestamp>,
    /// The agent has just begun. It reports only when it has decided what to do, so that it does not take back what was decided
    /// before it.
    is_new: bool,
    /// Something has changed since the last report. One that follows from the same again would be the same.
    pub(super) is_changed: bool,
    is_finished: bool,
}

impl<W: Watch> Node<W> {
    /// A node that has just been told of a Pod.
    pub fn new(pod: Pod, conduct: Conduct, now: Timestamp, watch: W) -> Self {
        Node {
            pod,
            seen: Observed {
                host_ips: vec![HOST_IP],
                ..Observed::default()
            },
            now,
            conduct,
            watch,
            dies_after: None,
            policy: NodePolicy::default(),
            starts: BTreeMap::new(),
            ends: BTreeMap::new(),
            probes: Probes::default(),
            hooks: BTreeMap::new(),
            starting: None,
            queue: VecDeque::new(),
            wake_at: None,
            is_new: true,
            is_changed: true,
            is_finished: false,
        }
    }

    /// Lives until nothing is left to do, or `until`.
    ///
    /// # Errors
    /// When the plans never come to rest.
    pub fn live_until(&mut self, until: Timestamp) -> Result<(), Restless> {
        let (mut looks, mut moment) = (0, self.now);
        // By whatever happened from outside.
        self.is_changed = true;
        loop {
            looks = if self.now == moment { looks + 1 } else { 0 };
            self.is_changed |= self.now != moment;
            moment = self.now;
            if looks > MANY_LOOKS {
                return Err(Restless { at: self.now });
            }
            if self.turn() {
                continue;
            }
            let next = self.next();
            let is_over = self.now >= until && next.is_none_or(|next| next > until);
            if is_over || self.is_finished && next.is_none() {
                return Ok(());
            }
            self.probe_until(next.map_or(until, |next| next.min(until)));
        }
    }

    /// Whether the Pod has ended, and nothing is left to do about it.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// One look: takes in what has happened, reports, plans and acts. Whether it acted.
    fn turn(&mut self) -> bool {
        self.is_changed |= self.take_in();
        self.is_changed |= self.probe();
        // Nothing is reported before a start that is abandoned is seen.
        self.interrupt();
        if !self.is_new {
            self.report();
        }
        if self.starting.is_some() {
            return false;
        }
        if self.queue.is_empty() {
            self.plan();
        }
        // What was decided shows, and on a real node steps take time: the status may be written before each of them.
        self.report();
        let acts = !self.queue.is_empty();
        while let Some(step) = self.queue.pop_front() {
            if self.dies_after == Some(0) {
                self.agent_dies();
                break;
            }
            self.dies_after = self.dies_after.map(|steps| steps - 1);
            if matches!(step, Step::Start(_)) && !self.has_sandbox() {
                // It was lost since the plan was made; the next look makes another.
                self.queue.clear();
                break;
            }
            self.watch.about_to(&step, &self.pod, &self.seen, self.now);
            self.take(&step);
            if self.is_new {
                break;
            }
            if !matches!(step, Step::Event(_)) {
                self.is_changed = true;
                self.report();
            }
            if self.starting.is_some() {
                break;
            }
        }
        acts
    }

    fn has_sandbox(&self) -> bool {
        let mut sandboxes = self.seen.sandboxes.iter();
        sandboxes.any(|s| s.state == SandboxState::Ready)
    }

    fn plan(&mut self) {
        let plan = decide::plan(&self.pod, &self.seen, self.now, &self.policy);
        let memory = &mut self.seen.memory;
        self.watch.planned(memory, &plan, self.now);
        let Plan {
            phase,
            steps,
            wake_at,
            restarts,
            start_errors,
            owed,
            termination,
            told,
            restarting_all,
            ..
        } = plan;
        self.is_changed |= phase != memory.phase
            || !start_errors.is_empty()
            || !owed.is_empty()
            || restarting_all != memory.restarting_all
            || termination.is_some();
        memory.phase = phase;
        memory.restarts.extend(restarts);
        memory.start_errors.extend(start_errors);
        memory.owed.extend(owed);
        memory.told = told;
        memory.restarting_all = restarting_all;
        memory.termination = termination.or(memory.termination.take());
        self.wake_at = wake_at;
        self.is_new = false;
        self.is_finished = phase == WorkerPhase::Finished && steps.is_empty();
        self.queue = steps.into();
    }

    /// Abandons a start when the Pod is told to end.
    fn interrupt(&mut self) {
        if self.starting.is_none() && self.queue.is_empty() {
            return;
        }
        let plan = decide::plan(&self.pod, &self.seen, self.now, &self.policy);
        if plan.phase == WorkerPhase::Syncing {
            self.take_back(&plan.steps);
            return;
        }
        let has_verdict = plan.termination.is_some_and(|end| end.verdict.is_some());
        if has_verdict || self.seen.gone || self.pod.metadata.deletion_timestamp.is_some() {
            self.show_starting();
            self.queue.clear();
            self.is_changed = true;
        }
    }

    /// The agent sees the run that was being started.
    fn show_starting(&mut self) {
        if let Some((record, _)) = self.starting.take() {
            self.seen.containers.push(record);
        }
    }

    /// Computes the status and writes it.
    fn report(&mut self) {
        if self.seen.gone || !std::mem::take(&mut self.is_changed) {
            return;
        }
        let status = status::status(&self.pod, &self.seen, self.now);
        self.watch
            .reported(&self.pod, &self.seen, &status, self.now);
        self.pod.status = Some(status);
    }

    /// The next moment at which something happens.
    fn next(&self) -> Option<Timestamp> {
        let ends = self.ends.values().map(|(at, _)| *at);
        let hooks = self.hooks.values().copied();
        let starting = self.starting.as_ref().map(|(_, over)| *over);
        let deadline = termination::deadline(&self.pod)
            .filter(|at| *at > self.now && self.seen.memory.phase == WorkerPhase::Syncing);
        let wake = if starting.is_some() {
            deadline
        } else {
            self.wake_at
        };
        ends.chain(hooks).chain(starting).chain(wake).min()
    }

    /// Takes in what has happened by now; whether anything has.
    fn take_in(&mut self) -> bool {
        let now = self.now;
        let ends = self.ends.iter().filter(|(_, (at, _))| *at <= now);
        let due: Vec<_> = ends.map(|(id, end)| (id.clone(), *end)).collect();
        let mut has_any = !due.is_empty();
        for (id, (at, code)) in due {
            self.end(&id, at, code);
        }
        let pre_stops = &mut self.seen.memory.pre_stops;
        self.hooks.retain(|id, over| {
            if *over <= now
                && let Some(hook) = pre_stops.get_mut(id)
            {
                hook.is_over = true;
                has_any = true;
            }
            *over > now
        });
        if let Some((record, _)) = self.starting.take_if(|(_, over)| *over <= now) {
            self.hook_is_over(record);
            has_any = true;
        }
        has_any
    }

    /// Ends a run.
    pub(super) fn end(&mut self, id: &str, finished_at: Timestamp, exit_code: i32) {
        self.ends.remove(id);
        let starting = self.starting.iter_mut().map(|(record, _)| record);
        let record = self
            .seen
            .containers
            .iter_mut()
            .chain(starting)
            .find(|c| c.id == id);
        let Some(record) = record else { return };
        let ContainerState::Running { started_at } = record.state else {
            return;
        };
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        record.state = ContainerState::Exited {
            started_at,
            finished_at,
            exit_code,
            reason: reason.to_owned(),
            message: String::new(),
        };
        self.watch
            .ended(&record.name, finished_at, exit_code, &self.seen.memory);
    }

    /// Kills everything in the sandbox, and the sandbox.
    pub fn kill_sandbox(&mut self) {
        let starting = self.starting.iter().map(|(record, _)| record);
        let records = self.seen.containers.iter().chain(starting);
        let ids: Vec<Id> = records.map(|c| c.id.clone()).collect();
        for id in ids {
            self.end(&id, self.now, 137);
        }
        for sandbox in &mut self.seen.sandboxes {
            sandbox.state = SandboxState::NotReady;
        }
    }

    /// The agent dies and comes back at once: what it remembered is lost, and what it had begun itself.
    pub fn agent_dies(&mut self) {
        self.dies_after = None;
        self.is_new = true;
        self.is_changed = true;
        self.watch.agent_died();
        self.show_starting();
        self.queue.clear();
        self.seen.memory = Memory::default();
        self.seen.probes.clear();
        self.probes = Probes::default();
        self.hooks.clear();
        self.seen.volumes = VolumesSeen::Pending;
    }

    /// What the run of a container that was begun last does.
    pub(super) fn current_run(&self, name: &str) -> &Run {
        let runs = self.conduct.get(name).map(Vec::as_slice);
        let runs = runs.unwrap_or_default();
        let begun = self.starts.get(name).copied().unwrap_or(1);
        let run = runs.get(begun.saturating_sub(1)).or(runs.last());
        run.unwrap_or(&ON)
    }
}
