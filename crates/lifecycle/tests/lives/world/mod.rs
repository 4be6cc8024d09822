//! A node in memory: it carries plans out as the agent does, with containers that follow a script, under a clock of its own.
//!
//! Whatever it sees is checked against the invariants of §16 in [`invariants`]; breaking one panics.

mod invariants;
mod probing;

use std::collections::BTreeMap;

use cri::{ContainerState, SandboxState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::image::{self, Decision, Presence};
use lifecycle::kinds::{self, Member};
use lifecycle::{
    Event, Memory, NodePolicy, Observed, Plan, PreStop, PreStopping, Start, StartError, Step, Stop,
    Stopping, VolumesSeen, WorkerPhase, events,
};
use testkit::{at, created, sandbox};

use invariants::Watcher;
use probing::Probes;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    /// Ends by itself after so many seconds; `None` runs on.
    pub(crate) lasts: Option<i64>,
    /// Exit code of that end.
    pub(crate) code: i32,
    /// Seconds it takes to end after the stop signal, and the exit code then; `None` ignores the signal.
    pub(crate) on_stop: Option<(i64, i32)>,
    /// Whether it gets that far.
    pub(crate) start: Starts,
    /// Seconds its `preStop` hook takes.
    pub(crate) hook: i64,
    /// From which second to which its probes succeed.
    pub(crate) healthy: (i64, i64),
}

/// How a start goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Starts {
    Well,
    /// The image cannot be pulled.
    NoImage,
    /// A ConfigMap is missing.
    NoConfig,
    /// The program cannot be executed.
    NoProgram,
}

impl Run {
    /// Runs on, and ends with 0 when asked to.
    pub(crate) const fn on() -> Self {
        Run {
            lasts: None,
            code: 0,
            on_stop: Some((0, 0)),
            start: Starts::Well,
            hook: 0,
            healthy: (0, i64::MAX),
        }
    }

    /// Ends by itself.
    pub(crate) const fn ends(after: i64, code: i32) -> Self {
        Run {
            lasts: Some(after),
            code,
            ..Run::on()
        }
    }

    /// Does not start.
    pub(crate) const fn fails(start: Starts) -> Self {
        Run { start, ..Run::on() }
    }
}

/// What happens to the Pod from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outside {
    /// `kubectl delete --grace-period=N`.
    Delete(i64),
    /// `kubectl delete --force --grace-period=0`.
    Force,
    /// The sandbox and everything in it dies.
    SandboxDies,
    /// `kubectl debug`: an ephemeral container is added.
    Debug,
    /// The agent dies after so many more steps and comes back at once.
    AgentDies(u32),
}

/// The node with its one Pod.
pub(crate) struct World {
    pub(crate) pod: Pod,
    pub(crate) seen: Observed,
    pub(crate) now: Timestamp,
    pub(crate) events: Vec<String>,
    pub(crate) scripts: BTreeMap<String, Vec<Run>>,
    /// Statuses written, as `phase` and the summary of containers.
    pub(crate) watcher: Watcher,
    policy: NodePolicy,
    starts: BTreeMap<String, usize>,
    ends: BTreeMap<String, (Timestamp, i32)>,
    steps_left: Option<u32>,
    probes: Probes,
    /// Hooks that run, and when they are over.
    hooks: BTreeMap<String, Timestamp>,
}

impl World {
    pub(crate) fn new(pod: Pod, scripts: &[(&str, &[Run])]) -> Self {
        World {
            pod,
            seen: Observed {
                host_ips: vec![std::net::IpAddr::from([192, 0, 2, 1])],
                ..Observed::default()
            },
            now: at(0),
            events: Vec::new(),
            scripts: scripts
                .iter()
                .map(|(name, runs)| ((*name).to_owned(), runs.to_vec()))
                .collect(),
            watcher: Watcher::default(),
            policy: NodePolicy::default(),
            starts: BTreeMap::new(),
            ends: BTreeMap::new(),
            steps_left: None,
            probes: Probes::default(),
            hooks: BTreeMap::new(),
        }
    }

    /// Runs until nothing happens any more or `second` is reached.
    pub(crate) fn run_to(&mut self, second: i64) {
        let until = at(second);
        for _ in 0..100_000 {
            let plan = self.look();
            let busy = !plan.steps.is_empty();
            if !busy && self.forgotten(&plan) {
                return;
            }
            if busy {
                continue;
            }
            let end = self.ends.values().map(|(at, _)| *at).min();
            let hook = self.hooks.values().min().copied();
            let next = [plan.wake_at, end, hook].into_iter().flatten().min();
            match next {
                Some(next) if next <= until => self.probe_until(next),
                _ => self.probe_until(until),
            }
            if next.is_none_or(|next| next > until) && self.now >= until {
                self.live_to_now();
                self.probe();
                self.report();
                return;
            }
        }
        panic!("the plan never comes to rest; last: {}", self.look());
    }

    fn forgotten(&self, plan: &Plan) -> bool {
        self.seen.gone && plan.phase == WorkerPhase::Finished
    }

    /// One look: report, plan, remember, act.
    pub(crate) fn look(&mut self) -> Plan {
        self.live_to_now();
        self.probe();
        self.report();
        let plan = lifecycle::plan(&self.pod, &self.seen, self.now, &self.policy);
        let memory = &mut self.seen.memory;
        self.watcher.planned(memory, &plan, self.now);
        memory.phase = plan.phase;
        memory.restarts.extend(plan.restarts.clone());
        memory.start_errors.extend(plan.start_errors.clone());
        memory.told = plan.told.clone();
        memory.restarting_all = plan.restarting_all;
        if plan.termination.is_some() {
            memory.termination = plan.termination.clone();
        }
        for step in &plan.steps {
            if self.steps_left == Some(0) {
                self.agent_dies();
                break;
            }
            self.steps_left = self.steps_left.map(|n| n - 1);
            let deaths = self.watcher.agent_deaths;
            if !self.take(step) || self.watcher.agent_deaths > deaths {
                break;
            }
        }
        plan
    }

    fn report(&mut self) {
        if self.seen.gone {
            return;
        }
        let status = lifecycle::status(&self.pod, &self.seen, self.now);
        self.watcher
            .reported(&self.pod, &self.seen, &status, self.now);
        self.pod.status = Some(status);
    }

    /// Lets something happen now.
    pub(crate) fn outside(&mut self, what: Outside) {
        match what {
            Outside::Delete(grace) => self.delete(grace),
            Outside::Force => self.delete(0),
            Outside::SandboxDies => {
                self.watcher.sandbox_died();
                self.kill_sandbox();
            }
            Outside::Debug => self.debug(),
            Outside::AgentDies(steps) => self.steps_left = Some(steps),
        }
    }

    /// DELETE as the API server serves it (§2.1).
    fn delete(&mut self, grace: i64) {
        if self.seen.gone {
            return;
        }
        let stored = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let grace = if matches!(stored, Some("Succeeded" | "Failed")) {
            0
        } else {
            grace
        };
        let meta = &mut self.pod.metadata;
        match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
            (Some(_), Some(old)) if grace > 0 && grace >= old => return,
            _ => {}
        }
        meta.deletion_timestamp = Some(Time(self.now + SignedDuration::from_secs(grace)));
        meta.deletion_grace_period_seconds = Some(grace);
        self.seen.gone = grace == 0;
    }

    fn debug(&mut self) {
        let spec = self.pod.spec.as_mut().expect("a spec");
        let list = spec.ephemeral_containers.get_or_insert_default();
        let name = format!("debug{}", list.len());
        list.push(EphemeralContainer {
            name,
            image: Some("debugger".to_owned()),
            ..EphemeralContainer::default()
        });
    }

    fn agent_dies(&mut self) {
        self.steps_left = None;
        self.watcher.agent_died();
        self.seen.memory = Memory::default();
        self.seen.probes.clear();
        self.probes = Probes::default();
        self.hooks.clear();
        self.seen.volumes = VolumesSeen::Pending;
    }

    /// Ends what has ended by now.
    fn live_to_now(&mut self) {
        let due: Vec<_> = self
            .ends
            .iter()
            .filter(|(_, (at, _))| *at <= self.now)
            .map(|(id, end)| (id.clone(), *end))
            .collect();
        for (id, (at, code)) in due {
            self.end(&id, at, code);
        }
        let now = self.now;
        let pre_stops = &mut self.seen.memory.pre_stops;
        self.hooks.retain(|id, over| {
            if *over <= now
                && let Some(hook) = pre_stops.get_mut(id)
            {
                hook.is_over = true;
            }
            *over > now
        });
    }

    fn end(&mut self, id: &str, finished_at: Timestamp, exit_code: i32) {
        self.ends.remove(id);
        let record = self.seen.containers.iter_mut().find(|c| c.id == id);
        let Some((record, started_at)) = record.and_then(|c| match c.state {
            ContainerState::Running { started_at } => Some((c, started_at)),
            _ => None,
        }) else {
            return;
        };
        let reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
        record.state = ContainerState::Exited {
            started_at,
            finished_at,
            exit_code,
            reason,
            message: String::new(),
        };
        self.watcher
            .ended(&record.name, finished_at, exit_code, &self.seen.memory);
    }

    fn kill_sandbox(&mut self) {
        for id in self.ends.keys().cloned().collect::<Vec<_>>() {
            self.end(&id, self.now, 137);
        }
        let running: Vec<_> = self
            .seen
            .containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running { .. }))
            .map(|c| c.id.clone())
            .collect();
        for id in running {
            self.end(&id, self.now, 137);
        }
        self.seen
            .sandboxes
            .iter_mut()
            .for_each(|s| s.state = SandboxState::NotReady);
    }

    /// Takes a step as the agent does; `false` ends the plan.
    fn take(&mut self, step: &Step) -> bool {
        self.watcher.about_to(step, &self.pod, &self.seen, self.now);
        match step {
            Step::Event(event) => self.tell(event),
            Step::SetUpVolumes => self.seen.volumes = VolumesSeen::Ready,
            Step::CreateSandbox { attempt } => {
                let mut made = sandbox(*attempt, SandboxState::Ready);
                made.created_at = self.now;
                self.seen.sandboxes.push(made);
            }
            Step::StopSandbox { .. } => self.kill_sandbox(),
            Step::RemoveSandbox { id } => {
                self.seen.sandboxes.retain(|s| s.id != *id);
                self.seen.containers.retain(|c| c.sandbox_id != *id);
            }
            Step::RemoveContainer { id, .. } => self.seen.containers.retain(|c| c.id != *id),
            Step::PreStop(PreStop(stop)) => self.begin_hook(stop),
            Step::Stop(stop) => self.stop(stop),
            Step::TearDown => self.seen.volumes = VolumesSeen::Released,
            Step::DeletePod => self.seen.gone = true,
            Step::Start(start) => {
                return self.start(start) || start.kind != lifecycle::ContainerKind::Init;
            }
        }
        true
    }

    fn tell(&mut self, event: &Event) {
        let text = event.to_string();
        if !self.events.contains(&text) {
            self.events.push(text);
        }
    }

    fn begin_hook(&mut self, stop: &Stop) {
        if let Some(message) = &stop.message {
            self.tell(&events::killing(stop.kind, &stop.container, message));
        }
        let takes = self
            .current_run(&stop.container)
            .hook
            .min(stop.grace_seconds);
        let over = self.now + SignedDuration::from_secs(takes);
        self.hooks.insert(stop.id.clone(), over);
        let stop_of = Stopping {
            since: self.now,
            grace_seconds: stop.grace_seconds,
            then_restart: stop.then_restart,
        };
        let hook = PreStopping {
            stop: stop_of,
            is_over: false,
        };
        self.seen.memory.pre_stops.insert(stop.id.clone(), hook);
    }

    fn stop(&mut self, stop: &Stop) {
        if let Some(message) = &stop.message {
            self.tell(&events::killing(stop.kind, &stop.container, message));
        }
        self.seen.memory.stopping.insert(
            stop.id.clone(),
            Stopping {
                since: self.now,
                grace_seconds: stop.grace_seconds,
                then_restart: stop.then_restart,
            },
        );
        let grace = stop.grace_seconds;
        let run = self.current_run(&stop.container);
        let (after, code) = run
            .on_stop
            .filter(|(after, _)| *after < grace)
            .unwrap_or((grace, 137));
        let end = (self.now + SignedDuration::from_secs(after), code);
        let entry = self.ends.entry(stop.id.clone()).or_insert(end);
        if end.0 < entry.0 {
            *entry = end;
        }
    }

    fn current_run(&self, name: &str) -> Run {
        let runs = self
            .scripts
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let index = self
            .starts
            .get(name)
            .copied()
            .unwrap_or(1)
            .saturating_sub(1);
        runs.get(index)
            .or(runs.last())
            .copied()
            .unwrap_or(Run::on())
    }

    fn start(&mut self, start: &Start) -> bool {
        *self.starts.entry(start.container.clone()).or_default() += 1;
        let run = self.current_run(&start.container);
        let pod = self.pod.clone();
        let found = kinds::find(&pod, &start.container);
        let found = found.expect("only containers of the spec are started");
        let member = found.member();
        if !self.get_image(&member, run) {
            return false;
        }
        if run.start == Starts::NoConfig {
            return self.failed(
                &member,
                "CreateContainerConfigError",
                "configmap \"c\" not found",
            );
        }
        let newest = self
            .seen
            .sandboxes
            .iter()
            .max_by_key(|s| s.metadata.attempt)
            .expect("a sandbox")
            .id
            .clone();
        let mut record = created(&start.container, start.restart_count, 0);
        record.created_at = self.now;
        record.sandbox_id = newest;
        record.annotations.insert(
            kinds::HASH_ANNOTATION.to_owned(),
            kinds::container_hash(member.spec),
        );
        self.seen.containers.push(record);
        self.tell(&events::created(&member));
        if self.steps_left == Some(0) {
            self.agent_dies();
            return false;
        }
        self.begin(&member, start, run)
    }

    fn begin(&mut self, member: &Member<'_>, start: &Start, run: Run) -> bool {
        let now = self.now;
        let record = self.seen.containers.last_mut().expect("it was just made");
        if run.start == Starts::NoProgram {
            let message = "no such file or directory".to_owned();
            record.state = ContainerState::Exited {
                started_at: Timestamp::UNIX_EPOCH,
                finished_at: now,
                exit_code: 128,
                reason: "StartError".to_owned(),
                message,
            };
            self.watcher.started(start);
            self.watcher
                .ended(member.name(), now, 128, &self.seen.memory);
            return self.failed(member, "RunContainerError", "failed to start container");
        }
        record.state = ContainerState::Running { started_at: now };
        if let Some(lasts) = run.lasts {
            self.ends.insert(
                record.id.clone(),
                (now + SignedDuration::from_secs(lasts), run.code),
            );
        }
        self.watcher.started(start);
        self.tell(&events::started(member));
        self.seen.memory.start_errors.remove(member.name());
        true
    }

    fn get_image(&mut self, member: &Member<'_>, run: Run) -> bool {
        let presence = if run.start == Starts::NoImage {
            Presence::Absent
        } else {
            Presence::Present
        };
        let entry = self.seen.memory.pulls.get(member.image()).cloned();
        let failure = match image::decide(member, &presence, entry.as_ref(), self.now) {
            Decision::Use { event } => {
                self.tell(&event);
                return true;
            }
            Decision::Pull { event } => {
                self.tell(&event);
                self.watcher.pulled(member.image(), self.now);
                image::failed(
                    member,
                    "no such tag",
                    entry.as_ref(),
                    self.now,
                    &self.policy,
                )
            }
            Decision::Fail(failure) => failure,
        };
        failure.events.iter().for_each(|e| self.tell(e));
        if let Some(entry) = failure.back_off {
            self.seen
                .memory
                .pulls
                .insert(member.image().to_owned(), entry);
        }
        self.seen
            .memory
            .start_errors
            .insert(member.name().to_owned(), failure.error);
        false
    }

    fn failed(&mut self, member: &Member<'_>, reason: &str, message: &str) -> bool {
        self.tell(&events::failed(member, message));
        let error = StartError {
            reason: reason.to_owned(),
            message: message.to_owned(),
            at: self.now,
        };
        self.seen
            .memory
            .start_errors
            .insert(member.name().to_owned(), error);
        false
    }

    /// Phase, conditions and containers in a short form.
    pub(crate) fn summary(&self) -> String {
        let status = self.pod.status.clone().unwrap_or_default();
        let mut lines = vec![status.phase.unwrap_or_default()];
        let conditions = status.conditions.unwrap_or_default();
        lines.extend(conditions.iter().map(|c| {
            let reason = c
                .reason
                .as_deref()
                .map(|r| format!(" {r}"))
                .unwrap_or_default();
            let message = c
                .message
                .as_deref()
                .map(|m| format!(": {m}"))
                .unwrap_or_default();
            format!("{}={}{reason}{message}", c.type_, c.status)
        }));
        let init = status.init_container_statuses.unwrap_or_default();
        for c in init
            .iter()
            .chain(&status.container_statuses.unwrap_or_default())
        {
            let flags = format!(
                "{}{}",
                if c.ready { " ready" } else { "" },
                if c.started == Some(true) {
                    " started"
                } else {
                    ""
                }
            );
            let last = state_text(&c.last_state.clone().unwrap_or_default());
            let last = if last.is_empty() {
                String::new()
            } else {
                format!(", last {last}")
            };
            lines.push(format!(
                "{} #{}{flags}: {}{last}",
                c.name,
                c.restart_count,
                state_text(&c.state.clone().unwrap_or_default())
            ));
        }
        lines.join("\n")
    }
}

fn state_text(state: &k8s_openapi::api::core::v1::ContainerState) -> String {
    let with = |text: String, message: Option<&String>| {
        message.map_or(text.clone(), |m| format!("{text} ({m})"))
    };
    match (&state.running, &state.waiting, &state.terminated) {
        (Some(_), None, None) => "running".to_owned(),
        (None, Some(w), None) => with(
            format!("waiting {}", w.reason.as_deref().unwrap_or("-")),
            w.message.as_ref(),
        ),
        (None, None, Some(t)) => with(
            format!(
                "terminated {} {}",
                t.reason.as_deref().unwrap_or("-"),
                t.exit_code
            ),
            t.message.as_ref(),
        ),
        _ => String::new(),
    }
}
