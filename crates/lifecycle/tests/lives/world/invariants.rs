//! The invariants of §16, checked at every step taken, every end seen and every status written. Numbers in messages are theirs.

use std::collections::{BTreeMap, BTreeSet};

use cri::{ContainerState, Id, SandboxState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use lifecycle::forecast::Watch;
use lifecycle::kinds;
use lifecycle::probe::{Health, Kind};
use lifecycle::{
    ContainerKind, Event, Memory, Observed, Plan, PreStop, Start, Step, Stop, VolumesSeen,
};

/// What a container did in the past.
#[derive(Debug, Default)]
struct Past {
    runs: u32,
    attempts: BTreeSet<u32>,
    last_end: Option<(Timestamp, i32)>,
    /// Its records were removed to restart all containers: its number goes on from what was reported, which may be ahead.
    is_removed: bool,
    /// Restarts counted since the last long run, and when the last one was.
    restarts: usize,
    restarted_at: Option<Timestamp>,
}

/// Watches the node.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    past: BTreeMap<String, Past>,
    pulls: BTreeMap<String, (Timestamp, usize)>,
    last: Option<PodStatus>,
    /// By when everything must be gone, 2 s of the last stop apart.
    kill: Option<Timestamp>,
    /// How often the agent died.
    pub(crate) agent_deaths: u32,
    sandbox_deaths: u32,
    /// Phases in the order they were written.
    pub(crate) phases: Vec<String>,
    /// What probes established last, by run.
    probes: BTreeMap<(Id, Kind), Health>,
    /// Containers that were stopped to be started again.
    stopped_to_start: BTreeSet<String>,
    /// Runs whose startup probe succeeded.
    started_up: BTreeSet<Id>,
    /// Runs in the order they began: container and number.
    pub(crate) started: Vec<String>,
    /// Events that were told, each once.
    pub(crate) events: Vec<String>,
}

/// Crash delays in seconds, the first for the first restart.
const DELAYS: [i64; 7] = [0, 10, 20, 40, 80, 160, 300];

impl Watch for Watcher {
    fn agent_died(&mut self) {
        self.agent_deaths += 1;
        self.kill = None;
        self.pulls.clear();
        for past in self.past.values_mut() {
            past.restarts = 0;
            past.restarted_at = None;
        }
    }

    fn probed(&mut self, id: &Id, kind: Kind, health: Health) {
        self.probes.insert((id.clone(), kind), health);
        if (kind, health) == (Kind::Startup, Health::Good) {
            self.started_up.insert(id.clone());
        }
    }

    fn planned(&mut self, memory: &Memory, plan: &Plan, now: Timestamp) {
        assert!(
            plan.phase >= memory.phase,
            "the worker's phase fell from {:?} to {:?}",
            memory.phase,
            plan.phase
        );
        if let (Some(old), Some(new)) = (&memory.termination, &plan.termination) {
            assert!(
                new.grace_seconds <= old.grace_seconds,
                "16: grace grew from {old:?} to {new:?}"
            );
            assert_eq!(new.since, old.since, "16: the kill began anew");
        }
        if let Some(new) = &plan.termination {
            // A grace that falls late is over at once.
            self.kill = Some(now.max(new.since + SignedDuration::from_secs(new.grace_seconds)));
        }
    }

    fn about_to(&mut self, step: &Step, pod: &Pod, seen: &Observed, now: Timestamp) {
        let alive = |name: &str| {
            seen.containers
                .iter()
                .any(|c| c.name == name && matches!(c.state, ContainerState::Running { .. }))
        };
        let any_alive = seen
            .containers
            .iter()
            .any(|c| matches!(c.state, ContainerState::Running { .. }));
        let ending = pod.metadata.deletion_timestamp.is_some() || seen.gone || stored_terminal(pod);
        match step {
            Step::CreateSandbox { attempt } => {
                assert!(!ending, "6: a sandbox is made for a Pod that ends");
                assert!(!any_alive, "39: a sandbox is replaced while something runs");
                assert!(
                    seen.sandboxes
                        .iter()
                        .all(|s| s.state == SandboxState::NotReady),
                    "39: two sandboxes"
                );
                assert!(
                    seen.sandboxes.iter().all(|s| s.metadata.attempt < *attempt),
                    "39: sandbox number {attempt} again"
                );
            }
            Step::Start(start) => {
                assert!(
                    !ending,
                    "6: {} starts although the Pod ends",
                    start.container
                );
                assert!(
                    !alive(&start.container),
                    "5: {} runs already",
                    start.container
                );
                assert_eq!(
                    seen.volumes,
                    VolumesSeen::Ready,
                    "8: {} starts without volumes",
                    start.container
                );
                if start.kind == ContainerKind::Ephemeral {
                    assert_eq!(start.restart_count, 0, "{start}: again");
                    let past = self.past.get(&start.container);
                    assert!(past.is_none_or(|p| p.runs == 0), "{start}: twice");
                    return;
                }
                self.check_order(start, pod, seen);
                self.check_restart(start, pod, now);
            }
            Step::PreStop(PreStop(stop)) => {
                self.check_probed(stop);
                self.check_alone_cause(stop, seen);
                let memory = &seen.memory;
                let is_new = !memory.stopping.contains_key(&stop.id)
                    && !memory.pre_stops.contains_key(&stop.id);
                assert!(is_new, "7: {stop} runs its hook again, or too late");
                assert!(alive(&stop.container), "7: {stop} has ended");
                if stop.then_restart {
                    self.stopped_to_start.insert(stop.container.clone());
                }
            }
            Step::Stop(stop) => {
                assert!(stop.grace_seconds >= 2, "16: {stop} leaves less than 2 s");
                self.check_probed(stop);
                self.check_alone_cause(stop, seen);
                let hook = seen.memory.pre_stops.get(&stop.id);
                // What a rule restarts with all others is killed at once (§1.10).
                let is_killed = stop.message.as_deref() == Some("killing");
                let waited = hook.is_none_or(|hook| {
                    let grace = SignedDuration::from_secs(hook.stop.grace_seconds);
                    let falls = seen.memory.termination.is_some();
                    hook.is_over || falls || is_killed || now >= hook.stop.since + grace
                });
                assert!(waited, "7: {stop} does not wait for its hook");
                if stop.then_restart {
                    self.stopped_to_start.insert(stop.container.clone());
                }
                if let Some(kill) = &seen.memory.termination
                    && stop.kind == ContainerKind::Sidecar
                    // One that was being stopped for itself before is only given less time.
                    && !seen.memory.stopping.contains_key(&stop.id)
                    && now.duration_since(kill.since)
                        < SignedDuration::from_secs(kill.grace_seconds)
                {
                    let after = kinds::members(pod)
                        .into_iter()
                        .skip_while(|m| m.name() != stop.container)
                        .skip(1);
                    for other in after.filter(|m| m.kind != ContainerKind::Init) {
                        assert!(
                            !alive(other.name()),
                            "17: {} is stopped before {}",
                            stop.container,
                            other.name()
                        );
                    }
                }
            }
            Step::TearDown => assert!(!any_alive, "8: volumes go while something runs"),
            Step::DeletePod => {
                assert!(
                    !any_alive && seen.volumes == VolumesSeen::Released && stored_terminal(pod),
                    "19: deleted too early"
                );
                assert!(
                    pod.metadata.deletion_timestamp.is_some(),
                    "19: deleted although nobody asked"
                );
            }
            Step::RemoveContainer { id, .. } => {
                let record = seen
                    .containers
                    .iter()
                    .find(|c| c.id == *id)
                    .expect("what is removed exists");
                assert!(
                    !matches!(record.state, ContainerState::Running { .. }),
                    "{id} is removed while it runs"
                );
                if seen.memory.restarting_all {
                    // It begins anew, whatever its policy says.
                    let past = self.past.entry(record.name.clone()).or_default();
                    past.last_end = None;
                    past.is_removed = true;
                }
            }
            Step::RemoveSandbox { .. } | Step::StopSandbox { .. } => {
                assert!(
                    !any_alive || seen.sandboxes.len() > 1,
                    "a sandbox goes while something runs"
                );
            }
            Step::Allocate | Step::Resize(_) => panic!("a resize that nobody asked for"),
            Step::Event(_) | Step::SetUpVolumes => {}
        }
    }

    fn started(&mut self, start: &Start) {
        let past = self.past.entry(start.container.clone()).or_default();
        past.runs += 1;
        past.attempts.insert(start.restart_count);
        self.stopped_to_start.remove(&start.container);
        self.started
            .push(format!("{}#{}", start.container, start.restart_count));
    }

    fn ended(&mut self, name: &str, at: Timestamp, code: i32, memory: &Memory) {
        self.past.entry(name.to_owned()).or_default().last_end = Some((at, code));
        if let (Some(kill), Some(_)) = (self.kill, &memory.termination) {
            assert!(
                at <= kill + SignedDuration::from_secs(2),
                "18: {name} ends at {at}, its grace at {kill}"
            );
        }
    }

    fn pull_failed(&mut self, image: &str, now: Timestamp) {
        let entry = self.pulls.entry(image.to_owned()).or_insert((now, 0));
        if now.duration_since(entry.0) > SignedDuration::from_secs(600) {
            entry.1 = 0;
        }
        if entry.1 > 0 {
            let least = DELAYS[entry.1.min(DELAYS.len() - 1)];
            assert!(
                now.duration_since(entry.0) >= SignedDuration::from_secs(least),
                "15: {image} is pulled again within {least} s"
            );
        }
        *entry = (now, entry.1 + 1);
    }

    fn reported(&mut self, pod: &Pod, seen: &Observed, status: &PodStatus, now: Timestamp) {
        if self.last.as_ref() == Some(status) {
            return;
        }
        check_alone(pod, status);
        if let Some(last) = self.last.take() {
            self.check_change(pod, &last, status, now);
        }
        let phase = status.phase.clone().unwrap_or_default();
        if self.phases.last() != Some(&phase) {
            self.phases.push(phase);
        }
        let written = Pod {
            metadata: pod.metadata.clone(),
            spec: pod.spec.clone(),
            status: Some(status.clone()),
        };
        let again = lifecycle::status(&written, seen, now);
        assert_eq!(status, &again, "writing a status does not change it");
        if seen.memory.phase == lifecycle::WorkerPhase::Syncing {
            check_rebuilt(&written, seen, status, now);
        }
        self.last = written.status;
    }

    fn told(&mut self, event: &Event, _now: Timestamp) {
        let text = event.to_string();
        if !self.events.contains(&text) {
            self.events.push(text);
        }
    }
}

impl Watcher {
    pub(crate) fn sandbox_died(&mut self) {
        self.sandbox_deaths += 1;
    }

    /// 14: who is stopped for a probe is the one that failed it.
    fn check_probed(&self, stop: &Stop) {
        let message = stop.message.as_deref().unwrap_or_default();
        for kind in Kind::ALL {
            let failed = format!("failed {} probe", kind.title().to_lowercase());
            if message.contains(&failed) {
                let health = self.probes.get(&(stop.id.clone(), kind));
                assert_eq!(health, Some(&Health::Bad), "14: {stop}");
                assert_ne!(kind, Kind::Readiness, "14: {stop}");
            }
        }
    }

    /// 13: while the Pod lives, a container is stopped for what it did itself, and not for what became of another.
    fn check_alone_cause(&self, stop: &Stop, seen: &Observed) {
        let memory = &seen.memory;
        let is_sound = seen
            .sandboxes
            .iter()
            .any(|s| s.state == SandboxState::Ready);
        let is_alone = memory.phase == lifecycle::WorkerPhase::Syncing && is_sound;
        if !is_alone || memory.restarting_all {
            return;
        }
        let mut kinds = Kind::ALL.iter();
        let is_sick =
            kinds.any(|kind| self.probes.get(&(stop.id.clone(), *kind)) == Some(&Health::Bad));
        let is_begun = memory.pre_stops.contains_key(&stop.id);
        let is_taken_back = memory.failed_hooks.contains(&stop.id);
        assert!(
            is_sick || is_begun || is_taken_back,
            "13: {stop} for no fault of its own"
        );
    }

    /// 13: an init container that has succeeded runs again in a new sandbox only.
    fn check_once(start: &Start, sandbox: &str, seen: &Observed) {
        let mut own = seen.containers.iter();
        let done = own.find(|c| {
            let is_it = c.name == start.container && c.sandbox_id == sandbox;
            is_it && matches!(c.state, ContainerState::Exited { exit_code: 0, .. })
        });
        assert!(
            start.kind != ContainerKind::Init || done.is_none(),
            "13: {start} has succeeded in this sandbox"
        );
    }

    /// 1, 2 and 3: who may start, by what ran in the newest sandbox.
    fn check_order(&self, start: &Start, pod: &Pod, seen: &Observed) {
        let sandbox = seen
            .sandboxes
            .iter()
            .max_by_key(|s| s.metadata.attempt)
            .expect("6: a start without a sandbox");
        assert_eq!(
            sandbox.state,
            SandboxState::Ready,
            "6: {} starts in a dead sandbox",
            start.container
        );
        Self::check_once(start, &sandbox.id, seen);
        let here = |name: &str| -> Vec<_> {
            seen.containers
                .iter()
                .filter(|c| c.name == name && c.sandbox_id == sandbox.id)
                .collect()
        };
        let index = kinds::init(pod)
            .iter()
            .position(|m| m.name() == start.container);
        let before = kinds::init(pod)
            .into_iter()
            .take(index.unwrap_or(usize::MAX));
        for member in before {
            let fine = here(member.name())
                .iter()
                .any(|c| match (&c.state, member.kind) {
                    (ContainerState::Exited { exit_code, .. }, ContainerKind::Init) => {
                        *exit_code == 0
                    }
                    (ContainerState::Created, _) => false,
                    // Its `postStart` hook failed.
                    (ContainerState::Running { .. }, _)
                        if seen.memory.failed_hooks.contains(&c.id) =>
                    {
                        false
                    }
                    (ContainerState::Running { .. }, ContainerKind::Sidecar)
                        if member.spec.startup_probe.is_some() =>
                    {
                        self.started_up.contains(&c.id)
                    }
                    _ => member.is_sidecar(),
                });
            // A sidecar's records are thinned out as it restarts; later containers with records prove that it ran.
            let later = kinds::members(pod)
                .into_iter()
                .skip_while(|m| m.name() != member.name())
                .skip(1)
                .any(|m| !here(m.name()).is_empty());
            assert!(
                fine || later,
                "1-3: {} starts before {}",
                start.container,
                member.name()
            );
        }
        if start.kind == ContainerKind::Init {
            let others = kinds::init(pod)
                .into_iter()
                .filter(|m| m.kind == ContainerKind::Init);
            for other in others {
                assert!(
                    !here(other.name())
                        .iter()
                        .any(|c| matches!(c.state, ContainerState::Running { .. })),
                    "2: {} and {}",
                    start.container,
                    other.name()
                );
            }
        }
    }

    /// 9, 11 and 12: whether and when a container may run again, and under which number.
    fn check_restart(&mut self, start: &Start, pod: &Pod, now: Timestamp) {
        let member = kinds::members(pod)
            .into_iter()
            .find(|m| m.name() == start.container)
            .expect("of the spec");
        let past = self.past.entry(start.container.clone()).or_default();
        assert!(
            !past.attempts.contains(&start.restart_count),
            "12: {} runs as #{} again",
            start.container,
            start.restart_count
        );
        if std::mem::take(&mut past.is_removed) {
            past.runs = past.runs.max(start.restart_count);
        }
        assert_eq!(
            start.restart_count, past.runs,
            "12: {} skips a number",
            start.container
        );
        let Some((ended, code)) = past.last_end else {
            return;
        };
        let policy = member
            .spec
            .restart_policy
            .as_deref()
            .or(pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()));
        let is_own = self.stopped_to_start.contains(&start.container);
        let mut rules = member.spec.restart_policy_rules.iter().flatten();
        let by_rule = rules.any(|rule| {
            let codes = rule.exit_codes.as_ref().and_then(|c| c.values.as_ref());
            codes.is_some_and(|codes| codes.contains(&code))
        });
        if self.sandbox_deaths == 0 && !member.is_sidecar() && !is_own && !by_rule {
            assert_ne!(policy, Some("Never"), "9: {} runs twice", start.container);
            assert!(
                policy != Some("OnFailure") || code != 0,
                "9: {} runs again after success",
                start.container
            );
        }
        if past
            .restarted_at
            .is_some_and(|at| ended.duration_since(at) > SignedDuration::from_secs(600))
        {
            past.restarts = 0;
        }
        let least = DELAYS[past.restarts.min(DELAYS.len() - 1)];
        assert!(
            now.duration_since(ended) >= SignedDuration::from_secs(least),
            "11: {} restarts within {least} s",
            start.container
        );
        past.restarts += 1;
        past.restarted_at = Some(now);
    }

    fn check_change(&self, pod: &Pod, old: &PodStatus, new: &PodStatus, now: Timestamp) {
        let (from, to) = (
            old.phase.as_deref().unwrap_or_default(),
            new.phase.as_deref().unwrap_or_default(),
        );
        if matches!(from, "Succeeded" | "Failed") {
            assert_eq!(from, to, "22: a final phase changed");
        }
        if (from, to) == ("Running", "Pending") {
            let in_place = |c: &PodCondition| c.type_ == "AllContainersRestarting";
            let may_fall =
                new.conditions.iter().flatten().any(in_place) && !kinds::init(pod).is_empty();
            assert!(
                self.sandbox_deaths > 0 || may_fall,
                "22: Running became Pending"
            );
        }
        assert_eq!(old.start_time, new.start_time, "29: startTime changed");
        assert_eq!(old.qos_class, new.qos_class, "29: qosClass changed");
        let kept = old.host_ips.is_none() || old.host_ips == new.host_ips;
        assert!(kept, "29: hostIPs changed");
        let kept = old.pod_ips.is_none() || old.pod_ips == new.pod_ips;
        assert!(kept || self.sandbox_deaths > 0, "29: podIPs changed");
        for after in new.conditions.iter().flatten() {
            let Some(before) = old
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == after.type_)
            else {
                continue;
            };
            let moved = before.last_transition_time != after.last_transition_time;
            let changed = before.status != after.status;
            let instant = after
                .last_transition_time
                .as_ref()
                .is_some_and(|t| t.0.as_second() == now.as_second());
            assert!(
                !moved || changed,
                "30: {} moved without a change",
                after.type_
            );
            assert!(
                !changed || moved || instant,
                "30: {} changed without a move",
                after.type_
            );
            assert!(
                after.type_ != "Initialized" || before.status != "True" || after.status == "True",
                "26: Initialized was lost"
            );
        }
        for (before, after) in pairs(old, new) {
            assert!(
                after.restart_count >= before.restart_count,
                "12: restartCount of {} fell",
                after.name
            );
            if self.sandbox_deaths == 0 {
                check_back(pod, before, after);
            }
        }
    }
}

/// The API takes no end back that the container's policy does not (§3.7), and would refuse every later status too.
fn check_back(pod: &Pod, before: &ContainerStatus, after: &ContainerStatus) {
    let end = |c: &ContainerStatus| c.state.clone().unwrap_or_default().terminated;
    let (Some(was), None) = (end(before), end(after)) else {
        return;
    };
    let members = kinds::members(pod);
    let member = members.iter().find(|m| m.name() == after.name);
    let may_restart =
        member.is_some_and(|m| lifecycle::restart::restarts_after(pod, m, was.exit_code));
    assert!(
        restart_all(pod) || may_restart,
        "{} comes back after exit code {}",
        after.name,
        was.exit_code
    );
}

/// Whether a rule restarts all containers.
fn restart_all(pod: &Pod) -> bool {
    let members = kinds::members(pod);
    let mut rules = members
        .iter()
        .flat_map(|m| m.spec.restart_policy_rules.iter().flatten());
    rules.any(|rule| rule.action == "RestartAllContainers")
}

fn pairs<'a>(
    old: &'a PodStatus,
    new: &'a PodStatus,
) -> impl Iterator<Item = (&'a ContainerStatus, &'a ContainerStatus)> {
    all(old).flat_map(|before| {
        all(new)
            .filter(move |after| after.name == before.name)
            .map(move |after| (before, after))
    })
}

fn all(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten()
}

fn stored_terminal(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|s| s.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}

/// What holds of every status by itself.
fn check_alone(pod: &Pod, status: &PodStatus) {
    let is = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    let has_init = !kinds::init(pod).is_empty();
    assert_eq!(
        all(status).count(),
        kinds::members(pod).len(),
        "27: not one status for each container"
    );
    for container in all(status) {
        let state = container.state.clone().unwrap_or_default();
        let set = [
            state.running.is_some(),
            state.waiting.is_some(),
            state.terminated.is_some(),
        ];
        assert_eq!(
            set.iter().filter(|s| **s).count(),
            1,
            "27: state of {}: {state:?}",
            container.name
        );
        let reason = state.waiting.and_then(|w| w.reason).unwrap_or_default();
        assert!(
            reason != "PodInitializing" || has_init,
            "31: PodInitializing without init containers"
        );
        assert!(
            reason != "ContainerCreating" || !has_init,
            "31: ContainerCreating with init containers"
        );
        if let Some(last) = container
            .last_state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
        {
            let same = last.container_id.is_some()
                && last.container_id
                    == state
                        .terminated
                        .as_ref()
                        .and_then(|t| t.container_id.clone());
            assert!(!same, "28: lastState of {} is its state", container.name);
        }
        if let Some(end) = state.terminated.filter(|t| t.container_id.is_some()) {
            assert!(
                end.finished_at >= end.started_at,
                "27: {} ended before it began",
                container.name
            );
        }
    }
    let kind = |name: &str| kinds::kind_of(pod, name);
    let counted = || all(status).filter(|c| kind(&c.name) != ContainerKind::Init);
    let running = |c: &ContainerStatus| c.state.as_ref().is_some_and(|s| s.running.is_some());
    assert!(
        !is("Ready") || is("ContainersReady"),
        "25: Ready without ContainersReady"
    );
    assert!(
        !is("ContainersReady") || counted().all(|c| c.ready),
        "25: ContainersReady with an unready container"
    );
    assert!(
        counted().all(|c| !c.ready || c.started == Some(true)),
        "25: ready and not started"
    );
    assert!(
        all(status).all(|c| c.started != Some(true) || running(c)),
        "25: started and not running"
    );
    let app_runs = all(status).any(|c| kind(&c.name) == ContainerKind::App && running(c));
    assert!(
        !app_runs || is("Initialized"),
        "26: an app runs before Initialized"
    );
    let phase = status.phase.as_deref().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        assert!(
            !all(status).any(running),
            "23: something runs in phase {phase}"
        );
        assert!(
            !is("Ready") && !is("ContainersReady"),
            "23: ready in phase {phase}"
        );
        let mut apps = all(status).filter(|c| kind(&c.name) == ContainerKind::App);
        let well = apps.all(|c| {
            c.state
                .as_ref()
                .and_then(|s| s.terminated.as_ref())
                .is_some_and(|t| t.exit_code == 0)
        });
        // After a sandbox died, init containers run again beside what is known of the apps, and may fail (§3.1 rule 1).
        let init_failed = all(status).any(|c| {
            let end = c.state.as_ref().and_then(|s| s.terminated.as_ref());
            kind(&c.name) == ContainerKind::Init && end.is_some_and(|t| t.exit_code != 0)
        });
        let overridden = status.reason.is_some();
        assert!(
            overridden || (phase == "Succeeded") == (well && !init_failed),
            "24: {phase} although the apps ended {}",
            if well { "well" } else { "badly" }
        );
    }
}

/// 33: an agent that begins anew reports the same, but for what only the old one knew.
fn check_rebuilt(written: &Pod, seen: &Observed, status: &PodStatus, now: Timestamp) {
    // Why a run was stopped is forgotten: its policy decides.
    if !seen.memory.owed.is_empty() {
        return;
    }
    let hooked = seen.memory.pre_stops.values().map(|hook| &hook.stop);
    let mut stops = seen.memory.stopping.values().chain(hooked);
    if stops.any(|stop| stop.then_restart) || seen.memory.restarting_all {
        return;
    }
    let fresh = Observed {
        sandboxes: seen.sandboxes.clone(),
        containers: seen.containers.clone(),
        volumes: seen.volumes.clone(),
        termination_messages: seen.termination_messages.clone(),
        probes: BTreeMap::new(),
        host_ips: seen.host_ips.clone(),
        gone: seen.gone,
        memory: Memory::default(),
    };
    let rebuilt = lifecycle::status(written, &fresh, now);
    for (before, after) in pairs(status, &rebuilt) {
        if !seen.memory.start_errors.contains_key(&before.name) {
            assert_eq!(before, after, "33: a new agent reports another state");
        }
    }
    if seen.memory.start_errors.is_empty() {
        assert_eq!(status, &rebuilt, "33: a new agent reports another status");
    }
}
