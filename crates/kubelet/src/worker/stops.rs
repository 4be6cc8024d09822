//! Stopping containers: hooks and stops run beside everything else a worker does.

use std::time::Duration;

use lifecycle::kinds;
use lifecycle::termination::LEAST_STOP_SECONDS;
use lifecycle::{PreStop, PreStopping, Step, Stop, Stopping};
use ports::runtime::RuntimeError;
use tokio::time::Instant;

use super::Worker;
use crate::hooks::Hook;
use crate::pull;

/// Least time between the stop signal and SIGKILL, also when a stop that failed is tried again.
const LEAST: Duration = Duration::from_secs(LEAST_STOP_SECONDS.unsigned_abs());

/// What has not ended so long after SIGKILL may wait for a file server that is gone.
const STUCK_AFTER: Duration = Duration::from_secs(10);

impl Worker {
    /// Of these steps, takes those that stop runs whose `postStart` hook failed.
    pub(super) fn take_back(&mut self, steps: Vec<Step>) {
        for step in steps {
            let failed = &self.seen.memory.failed_hooks;
            match step {
                Step::PreStop(PreStop(stop)) if failed.contains(&stop.id) => self.begin_hook(stop),
                Step::Stop(stop) if failed.contains(&stop.id) => self.begin_stop(stop),
                _ => {}
            }
        }
    }

    fn tell_stop(&self, stop: &Stop) {
        if let Some(message) = &stop.message {
            self.agent.recorder.record(
                &self.pod,
                lifecycle::events::killing(stop.kind, &stop.container, message),
            );
        }
    }

    fn stopping(&self, stop: &Stop) -> Stopping {
        Stopping {
            since: self.agent.now(),
            grace_seconds: stop.grace_seconds,
            then_restart: stop.then_restart,
        }
    }

    /// Begins the `preStop` hook of a container. It has the whole grace; what outlives that ends with the container.
    pub(super) fn begin_hook(&mut self, stop: Stop) {
        self.tell_stop(&stop);
        let hook = PreStopping {
            stop: self.stopping(&stop),
            is_over: false,
        };
        let pre_stops = &mut self.seen.memory.pre_stops;
        pre_stops.insert(stop.id.clone(), hook);
        let (agent, pod, pod_ips) = (self.agent.clone(), self.pod.clone(), self.pod_ips());
        let grace = Duration::from_secs(stop.grace_seconds.max(0).unsigned_abs());
        self.hooks.push(Box::pin(async move {
            let members = kinds::members(&pod);
            let member = members.iter().find(|m| m.name() == stop.container);
            if let Some(member) = member {
                let hook = Hook {
                    agent: &agent,
                    pod: &pod,
                    member,
                    id: &stop.id,
                    pod_ips: &pod_ips,
                };
                hook.pre_stop(grace).await;
            }
            stop.id
        }));
    }

    /// A `preStop` hook is over.
    pub(super) fn hooked(&mut self, id: &str) {
        if let Some(hook) = self.seen.memory.pre_stops.get_mut(id) {
            hook.is_over = true;
        }
    }

    pub(super) fn begin_stop(&mut self, stop: Stop) {
        self.tell_stop(&stop);
        let stopping = self.stopping(&stop);
        let asked = &mut self.seen.memory.stopping;
        asked.insert(stop.id.clone(), stopping);
        let agent = self.agent.clone();
        let grace = Duration::from_secs(stop.grace_seconds.max(0).unsigned_abs());
        let pod = self.pod.clone();
        let began = Instant::now();
        let waits = self.give_up(began + grace + STUCK_AFTER);
        self.stops.push(Box::pin(async move {
            let left = || grace.saturating_sub(began.elapsed()).max(LEAST);
            let stopped = async {
                while let Err(error) = agent.runtime.stop_container(&stop.id, left()).await {
                    if matches!(error, RuntimeError::NotFound { .. }) {
                        break;
                    }
                    agent
                        .recorder
                        .record(&pod, lifecycle::events::kill_failed(&pull::chain(&error)));
                    tokio::time::sleep(super::AGAIN).await;
                }
            };
            tokio::select! {
                () = stopped => {}
                () = waits => {}
            }
            stop.id
        }));
    }

    /// From `at` on, once the Pod is to end: has processes fail that wait for a file server that is gone. They cannot be killed, and the
    /// kernel tells nobody that they wait. It never ends by itself.
    fn give_up(&self, at: Instant) -> impl Future<Output = ()> + Send + use<> {
        let (agent, uid, ending) = (self.agent.clone(), self.uid.clone(), self.ending.clone());
        async move {
            tokio::time::sleep_until(at).await;
            ending.cancelled().await;
            loop {
                if let Err(error) = agent.volumes.give_up(&uid).await {
                    tracing::warn!(pod = uid, %error, "giving up a file server");
                }
                tokio::time::sleep(super::AGAIN).await;
            }
        }
    }

    /// A container was stopped, or was not there to be stopped.
    pub(super) async fn stopped(&mut self, id: &str) {
        let alive = |c: &ports::runtime::ContainerStatus| {
            !matches!(c.state, ports::runtime::ContainerState::Exited { .. })
        };
        if self
            .records
            .containers
            .iter()
            .any(|c| c.id == id && alive(c))
        {
            // Its exit event is on its way, or was missed.
            self.relist().await;
        }
    }
}
