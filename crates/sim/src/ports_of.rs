//! The agent's ports on the simulated machine. Each verb takes time, may fail, and is one step.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use ports::clock::Clock;
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, ContainerStatus, Id, NamespaceMode,
    Resources, RuntimeError, RuntimeEvent, SandboxConfig, SandboxState, SandboxStatus, Stats,
};
use ports::streams::{ExecRequest, Reader, Session, StreamError, Writer};
use rand::Rng;
use tokio::sync::broadcast;

use crate::life::MEMORY;
use crate::machine::Made;
use crate::scenario::{Odds, Run};
use crate::stores::named;
use crate::world::{Holder, State, World};

/// What one agent holds.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) world: Arc<World>,
    pub(crate) holder: Holder,
}

pub(crate) fn broken() -> std::io::Error {
    std::io::Error::from(std::io::ErrorKind::StorageFull)
}

fn io_error(what: &str) -> RuntimeError {
    RuntimeError::Io {
        what: what.to_owned(),
        source: broken(),
    }
}

/// What so many containers use.
fn used(containers: u64) -> Stats {
    let memory = containers * (24 << 20);
    Stats {
        memory_working_set_bytes: memory,
        memory_usage_bytes: memory,
        pids: containers,
        ..Stats::default()
    }
}

fn not_found(what: &'static str, id: &str) -> RuntimeError {
    RuntimeError::NotFound {
        what,
        id: id.to_owned(),
    }
}

impl Ports {
    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// One step: time passes, the effect happens if it does not fail, and the caller hears of it if it still lives.
    pub(crate) async fn step<T>(
        &self,
        most_millis: u64,
        effect: impl FnOnce(&mut State) -> T,
    ) -> T {
        self.world.spend(most_millis).await;
        self.world.step(self.holder).await;
        let done = effect(&mut self.world.lock());
        self.world.step(self.holder).await;
        done
    }

    /// Whether the disk is full, or the verb fails by chance.
    pub(crate) fn fails(&self, state: &mut State, odds: impl Fn(&Odds) -> u32) -> bool {
        self.world.clock.passed() < state.full_until || state.fails(odds)
    }

    /// Executes a container's program.
    fn execute(
        &self,
        state: &mut State,
        id: &str,
        fails: bool,
    ) -> Result<ContainerStatus, RuntimeError> {
        let (passed, now) = (self.world.clock.passed(), self.now());
        let Some(made) = state.machine.containers.get(id).cloned() else {
            return Err(not_found("container", id));
        };
        let uid = &made.status.pod_uid;
        let run = state
            .checks
            .next_run(uid, &made.status.name, &state.scenario.runs);
        let found = state.checks.started(&made, &state.machine, passed, now);
        let line = format!(
            "start {} #{} of {}",
            made.status.name,
            made.status.attempt,
            state.checks.name(uid)
        );
        self.world.trace_in(state, line);
        self.world.found(state, found);
        let joins = joins_somebody(state, &made.config);
        let whose = (state.checks.name(uid), made.status.name.clone());
        let Some(made) = state.machine.containers.get_mut(id) else {
            return Err(not_found("container", id));
        };
        if fails || !run.starts || !joins {
            return Err(self.not_executed(state, id));
        }
        made.status.state = ContainerState::Running { started_at: now };
        made.run = Some(run);
        made.began = passed;
        made.end = run.lasts.map(|lasts| (passed + lasts, run.code));
        if state.scenario.fills.contains(&whose) {
            fill(&made.config);
            state.checks.fills(&made.status.pod_uid);
        }
        let status = made.status.clone();
        let told = RuntimeEvent::Container(Box::new(status.clone()));
        state.machine.tell(told);
        self.world.moved.notify_one();
        Ok(status)
    }

    fn not_executed(&self, state: &mut State, id: &str) -> RuntimeError {
        let (passed, now) = (self.world.clock.passed(), self.now());
        if let Some(made) = state.machine.containers.get_mut(id) {
            made.status.state = ContainerState::Exited {
                started_at: Timestamp::UNIX_EPOCH,
                finished_at: now,
                exit_code: 128,
                reason: "StartError".to_owned(),
                message: "no such file or directory".to_owned(),
            };
            let status = made.status.clone();
            let exit = crate::machine::Exit {
                uid: status.pod_uid.clone(),
                name: status.name.clone(),
                code: 128,
                at: passed,
            };
            state
                .machine
                .tell(RuntimeEvent::Container(Box::new(status)));
            self.world.ended_in(state, vec![exit]);
        }
        RuntimeError::Start {
            id: id.to_owned(),
            reason: "no such file or directory".to_owned(),
        }
    }

    /// Sends the stop signal; when the container must have ended, if it runs.
    fn signal(
        &self,
        state: &mut State,
        id: &str,
        grace: Duration,
    ) -> Result<Option<Duration>, RuntimeError> {
        let (passed, now) = (self.world.clock.passed(), self.now());
        if self.fails(state, |odds| odds.runtime) {
            return Err(io_error("ask pause"));
        }
        let Some(made) = state.machine.containers.get(id).cloned() else {
            return Err(not_found("container", id));
        };
        if !made.is_running() {
            return Ok(None);
        }
        let line = format!(
            "stop {} of {} within {} s",
            made.status.name,
            state.checks.name(&made.status.pod_uid),
            grace.as_secs()
        );
        self.world.trace_in(state, line);
        let found = state
            .checks
            .stopped(&made, &state.machine, grace, passed, now);
        self.world.found(state, found);
        if let Some(made) = state.machine.containers.get_mut(id) {
            made.signalled_by = self.holder.agent;
            heed(made, passed);
        }
        self.world.moved.notify_one();
        Ok(Some(passed + grace))
    }

    pub(crate) fn runs(&self, id: &str) -> bool {
        let state = self.world.lock();
        state
            .machine
            .containers
            .get(id)
            .is_some_and(Made::is_running)
    }

    async fn await_exit(&self, id: &str, kill: Duration) -> Result<(), RuntimeError> {
        let deadline = tokio::time::sleep_until(self.world.clock.instant(kill));
        tokio::pin!(deadline);
        loop {
            let exited = self.world.exited.notified();
            tokio::pin!(exited);
            exited.as_mut().enable();
            if !self.runs(id) {
                break;
            }
            tokio::select! {
                biased;
                () = exited => {}
                () = &mut deadline => {
                    self.world.step(self.holder).await;
                    let (passed, now) = (self.world.clock.passed(), self.now());
                    let mut state = self.world.lock();
                    let exits = state.machine.end(id, passed, now, 137).into_iter().collect();
                    self.world.ended_in(&mut state, exits);
                    break;
                }
            }
        }
        self.world.step(self.holder).await;
        Ok(())
    }
}

/// Writes more to its volume than it may.
fn fill(config: &ContainerConfig) {
    let path = std::path::Path::new("/scratch");
    let mount = config.mounts.iter().find(|m| m.container_path == path);
    if let Some(mount) = mount {
        drop(std::fs::create_dir_all(&mount.host_path));
        drop(std::fs::write(
            mount.host_path.join("data"),
            vec![1; 2 << 20],
        ));
    }
}

/// Whether the container whose processes this one wants to see runs, if it wants to see any.
fn joins_somebody(state: &State, config: &ContainerConfig) -> bool {
    let target = config.security.pid_target.as_ref();
    target.is_none_or(|id| {
        state
            .machine
            .containers
            .get(id)
            .is_some_and(Made::is_running)
    })
}

/// What a container does about its stop signal; a second one changes nothing.
fn heed(made: &mut Made, passed: Duration) {
    let Some(Run {
        on_stop: Some((after, code)),
        ..
    }) = made.run
    else {
        return;
    };
    let end = (passed + after, code);
    if made.end.is_none_or(|(at, _)| end.0 < at) {
        made.end = Some(end);
    }
}

#[async_trait]
impl ContainerRuntime for Ports {
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus, RuntimeError> {
        self.step(20, |state| {
            if self.fails(state, |odds| odds.runtime) {
                return Err(io_error("start pause"));
            }
            let on_host = config.namespaces.network == NamespaceMode::Node;
            let id = state.machine.id();
            let last = u8::try_from(state.dice.random_range(2..250)).unwrap_or(2);
            let status = SandboxStatus {
                id: id.clone(),
                metadata: config.metadata,
                state: SandboxState::Ready,
                created_at: self.now(),
                ips: if on_host {
                    Vec::new()
                } else {
                    vec![[10, 244, 0, last].into()]
                },
                namespaces: config.namespaces,
                resources: config.resources,
                labels: config.labels,
                annotations: config.annotations,
            };
            let found = state
                .checks
                .sandbox(&status, &state.machine, self.world.clock.passed());
            let line = format!(
                "sandbox #{} of {}",
                status.metadata.attempt, status.metadata.name
            );
            self.world.trace_in(state, line);
            self.world.found(state, found);
            state.machine.sandboxes.insert(id, status.clone());
            Ok(status)
        })
        .await
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.step(10, |state| {
            if self.fails(state, |odds| odds.runtime) {
                return Err(io_error("take the network down"));
            }
            let Some(sandbox) = state.machine.sandboxes.get(id) else {
                return Err(not_found("sandbox", id));
            };
            let found = state.checks.sandbox_stops(sandbox, &state.machine);
            self.world.found(state, found);
            let exits = state
                .machine
                .kill_sandbox(id, self.world.clock.passed(), self.now());
            self.world.ended_in(state, exits);
            Ok(())
        })
        .await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.step(5, |state| {
            let exits = state
                .machine
                .kill_sandbox(id, self.world.clock.passed(), self.now());
            self.world.ended_in(state, exits);
            let Some(_) = state.machine.sandboxes.remove(id) else {
                return Err(not_found("sandbox", id));
            };
            state
                .machine
                .containers
                .retain(|_, c| c.status.sandbox_id != id);
            Ok(())
        })
        .await
    }

    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Vec<SandboxStatus> {
        self.step(1, |state| {
            let all = state.machine.sandboxes.values();
            all.filter(|s| pod_uid.is_none_or(|uid| s.metadata.uid == uid))
                .cloned()
                .collect()
        })
        .await
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<Id, RuntimeError> {
        self.step(10, |state| {
            if self.fails(state, |odds| odds.runtime) {
                return Err(RuntimeError::Create("no space left on device".to_owned()));
            }
            let Some(sandbox) = state.machine.sandboxes.get(sandbox_id) else {
                return Err(not_found("sandbox", sandbox_id));
            };
            if sandbox.state == SandboxState::NotReady {
                let state = "not ready".to_owned();
                return Err(RuntimeError::State {
                    what: "sandbox",
                    id: sandbox_id.to_owned(),
                    state,
                });
            }
            let (pod_uid, sandbox_id) = (sandbox.metadata.uid.clone(), sandbox.id.clone());
            if !joins_somebody(state, &config) {
                return Err(RuntimeError::Create("its target does not run".to_owned()));
            }
            if !state.machine.images.contains(named(&config.image_id)) {
                let text = format!("{} is made from an image that is gone", config.name);
                self.world.found(state, Err(text));
            }
            let id = state.machine.id();
            let status = ContainerStatus {
                id: id.clone(),
                sandbox_id,
                pod_uid,
                name: config.name.clone(),
                attempt: config.attempt,
                state: ContainerState::Created,
                created_at: self.now(),
                image: config.image.clone(),
                image_ref: config.image_id.clone(),
                user: None,
                log_path: config.log_path.clone(),
                resources: config.resources.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
            };
            state.machine.containers.insert(
                id.clone(),
                Made {
                    status,
                    config,
                    run: None,
                    began: Duration::ZERO,
                    end: None,
                    signalled_by: None,
                    pre_stopped_by: None,
                },
            );
            Ok(id)
        })
        .await
    }

    async fn start_container(&self, id: &str) -> Result<ContainerStatus, RuntimeError> {
        self.step(5, |state| {
            let Some(made) = state.machine.containers.get(id) else {
                return Err(not_found("container", id));
            };
            let sandbox = state.machine.sandboxes.get(&made.status.sandbox_id);
            if sandbox.is_none_or(|s| s.state == SandboxState::NotReady) {
                let state = "without a sandbox".to_owned();
                return Err(RuntimeError::State {
                    what: "container",
                    id: id.to_owned(),
                    state,
                });
            }
            let fails = self.fails(state, |odds| odds.runtime);
            self.execute(state, id, fails)
        })
        .await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let kill = self.step(2, |state| self.signal(state, id, grace)).await?;
        match kill {
            Some(kill) => self.await_exit(id, kill).await,
            None => Ok(()),
        }
    }

    async fn remove_container(&self, id: &str, _keep_log: bool) -> Result<(), RuntimeError> {
        self.step(3, |state| {
            let Some(made) = state.machine.containers.get(id).cloned() else {
                return Err(not_found("container", id));
            };
            let (passed, now) = (self.world.clock.passed(), self.now());
            let found = state
                .checks
                .removed_record(&made, &state.machine, passed, now);
            let line = format!(
                "remove {} #{} of {}",
                made.status.name,
                made.status.attempt,
                state.checks.name(&made.status.pod_uid)
            );
            self.world.trace_in(state, line);
            self.world.found(state, found);
            if made.is_running() {
                let text = format!("{} is removed while it runs", made.status.name);
                self.world.found(state, Err(text));
            }
            state.machine.containers.remove(id);
            Ok(())
        })
        .await
    }

    async fn list_containers(&self, pod_uid: Option<&str>) -> Vec<ContainerStatus> {
        self.step(1, |state| {
            let all = state.machine.containers.values().map(|c| &c.status);
            all.filter(|c| pod_uid.is_none_or(|uid| c.pod_uid == uid))
                .cloned()
                .collect()
        })
        .await
    }

    async fn update_sandbox_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<SandboxStatus, RuntimeError> {
        self.step(2, |state| {
            if self.fails(state, |odds| odds.runtime) {
                return Err(io_error("change the Pod's limits"));
            }
            let Some(sandbox) = state.machine.sandboxes.get_mut(id) else {
                return Err(not_found("sandbox", id));
            };
            sandbox.resources = sandbox.resources.with(&resources);
            sandbox.annotations.extend(annotations);
            Ok(sandbox.clone())
        })
        .await
    }

    async fn update_container_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<ContainerStatus, RuntimeError> {
        self.step(2, |state| {
            if self.fails(state, |odds| odds.runtime) {
                return Err(io_error("change the container's limits"));
            }
            let Some(made) = state.machine.containers.get_mut(id) else {
                return Err(not_found("container", id));
            };
            made.status.resources = made.status.resources.with(&resources);
            made.status.annotations.extend(annotations);
            let status = made.status.clone();
            let sandbox = state.machine.sandboxes.get(&status.sandbox_id);
            let found = crate::check::fits(&status, sandbox);
            let line = format!(
                "resize {} of {} to {:?}",
                status.name,
                state.checks.name(&status.pod_uid),
                status.resources.memory_limit_bytes
            );
            self.world.trace_in(state, line);
            self.world.found(state, found);
            Ok(status)
        })
        .await
    }

    async fn container_stats(&self, id: &str) -> Result<Stats, RuntimeError> {
        Ok(used(u64::from(self.runs(id))))
    }

    async fn writable_layer(&self, id: &str) -> Result<PathBuf, RuntimeError> {
        Ok(PathBuf::from("/nowhere").join(id))
    }

    async fn sandbox_stats(&self, id: &str) -> Result<Stats, RuntimeError> {
        let state = self.world.lock();
        let all = state.machine.containers.values();
        let running = all.filter(|c| c.status.sandbox_id == id && c.is_running());
        Ok(used(u64::try_from(running.count()).unwrap_or_default()))
    }

    async fn node_stats(&self) -> Result<Stats, RuntimeError> {
        let passed = self.world.clock.passed();
        let state = self.world.lock();
        let left = state.short.filter(|(_, until)| passed < *until);
        let left = left.map_or(MEMORY, |(left, _)| left);
        Ok(Stats {
            memory_working_set_bytes: MEMORY.saturating_sub(left),
            ..Stats::default()
        })
    }

    async fn reopen_log(&self, _id: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Session, StreamError> {
        self.execute_in(id, request).await
    }

    async fn attach(&self, id: &str, _stdin: bool) -> Result<Session, StreamError> {
        Err(StreamError::NotRunning { id: id.into() })
    }

    async fn port_forward(&self, id: &str, _port: u16) -> Result<(Reader, Writer), StreamError> {
        Err(StreamError::NotRunning { id: id.into() })
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.world.lock().machine.events.subscribe()
    }
}
