//! Carrying out the steps of a plan through ports, and taking in how they ended.

use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use lifecycle::resize::Pending;
use lifecycle::{ContainerKind, PreStop, Retry, Step, VolumesSeen, image, kinds};
use ports::network::PodName;
use ports::runtime::{
    ContainerStatus, Id, NamespaceMode, RuntimeError, SandboxState, SandboxStatus,
};

use super::Worker;
use super::resize::Resized;
use crate::blocking;
use crate::container::{self, Job, Outcome};
use crate::links;
use crate::mounting::{self, Before, SetUp};
use crate::network;
use crate::pull;
use crate::report;
use crate::sandbox;
use crate::users::Lease;

/// How a step ended.
pub(super) enum Done {
    Volumes(SetUp),
    Sandbox(Result<SandboxStatus, String>),
    SandboxStopped(Id, Result<(), RuntimeError>),
    SandboxRemoved(Id, Result<(), RuntimeError>),
    ContainerRemoved(Id, Result<(), RuntimeError>),
    Started(Box<Outcome>),
    Allocated(Box<Pending>, Result<SandboxStatus, RuntimeError>),
    Resized(Resized),
    TornDown(Result<(), String>),
    Deleted(Result<bool, kube::Error>),
    /// What the step needs has gone since the plan was made.
    Outdated,
}

impl Worker {
    /// Begins a step; some are over at once.
    pub(super) fn begin(&mut self, step: Step) {
        let runtime = self.agent.runtime.clone();
        self.current = match step {
            Step::Event(event) => {
                self.agent.recorder.record(&self.pod, event);
                None
            }
            Step::PreStop(PreStop(stop)) => {
                self.begin_hook(stop);
                None
            }
            Step::Stop(stop) => {
                self.begin_stop(stop);
                None
            }
            Step::SetUpVolumes => {
                self.drivers.mark_unchanged();
                let nothing = Before::default();
                Some(self.set_up_volumes(nothing).map(Done::Volumes).boxed())
            }
            Step::CreateSandbox { attempt } => Some(self.create_sandbox(attempt)),
            Step::StopSandbox { id } => Some(Box::pin(async move {
                let result = runtime.stop_sandbox(&id).await;
                Done::SandboxStopped(id, result)
            })),
            Step::RemoveSandbox { id } => {
                let unlink = self.unlink(|record| record.sandbox_id == id);
                Some(Box::pin(async move {
                    let result = runtime.remove_sandbox(&id).await;
                    unlink.await;
                    Done::SandboxRemoved(id, result)
                }))
            }
            Step::RemoveContainer { id, keep_log } => {
                let unlink = self.unlink(|record| record.id == id);
                Some(Box::pin(async move {
                    let result = runtime.remove_container(&id, keep_log).await;
                    unlink.await;
                    Done::ContainerRemoved(id, result)
                }))
            }
            Step::Start(start) => Some(self.begin_start(start)),
            Step::Allocate => Some(self.begin_allocation()),
            Step::Resize(resize) => Some(self.begin_resize(resize)),
            Step::TearDown => Some(self.tear_down()),
            // What stands for it is nothing the worker has made.
            Step::DeletePod if self.is_static() => {
                Some(futures::future::ready(Done::Deleted(Ok(true))).boxed())
            }
            Step::DeletePod => Some(self.delete_pod()),
        };
    }

    /// Does nothing more of the plan; the next look, which follows at once, makes another.
    pub(super) fn give_up_plan(&mut self) -> BoxFuture<'static, Done> {
        self.queue.clear();
        futures::future::ready(Done::Outdated).boxed()
    }

    /// Removes the links to the logs of some runs.
    fn unlink(&self, of: impl Fn(&ContainerStatus) -> bool) -> BoxFuture<'static, ()> {
        let records = self.records.containers.iter().filter(|record| of(record));
        let records: Vec<ContainerStatus> = records.cloned().collect();
        let agent = self.agent.clone();
        Box::pin(async move { links::remove(&agent, records.iter()).await })
    }

    fn create_sandbox(&self, attempt: u32) -> BoxFuture<'static, Done> {
        let (agent, pod) = (self.agent.clone(), self.pod.clone());
        Box::pin(async move {
            let made = async {
                let mut config =
                    sandbox::config(&pod, attempt, &agent.config, agent.log_directory(&pod))?;
                if config.namespaces.network != NamespaceMode::Node {
                    network::wait(&agent, &pod).await;
                }
                // Held until the sandbox is there to show whose the ids are.
                let lease = agent.users.lease(&pod, agent.runtime.as_ref()).await?;
                config.namespaces.users = lease.as_ref().map(Lease::ids);
                let run = agent.runtime.run_sandbox(config).await;
                run.map_err(|e| pull::chain(&e))
            };
            Done::Sandbox(made.await)
        })
    }

    fn begin_start(&mut self, start: lifecycle::Start) -> BoxFuture<'static, Done> {
        let ready = self
            .records
            .sandboxes
            .iter()
            .filter(|s| s.state == SandboxState::Ready);
        let Some((sandbox, passed)) = ready
            .max_by_key(|s| s.metadata.attempt)
            .map(|s| (s.id.clone(), self.pass_gate(s)))
        else {
            return self.give_up_plan();
        };
        self.seen.memory.begin(&start, self.agent.now());
        let pod = self.pod.clone();
        let found = kinds::find(&pod, &start.container);
        let member = found.as_ref().map(|found| found.member());
        let (memory, now) = (&self.seen.memory, self.agent.now());
        let wanted = member.map_or_else(Vec::new, |m| image::all(&pod, &m));
        let held = wanted.iter().filter_map(|wanted| {
            let entry = image::entry(&pod, wanted, memory, now)?;
            Some((wanted.image.to_owned(), entry.clone()))
        });
        let held = held.collect();
        let hooks = member.and_then(|m| m.spec.lifecycle.as_ref());
        self.starting = hooks
            .is_some_and(|hooks| hooks.post_start.is_some())
            .then(|| (start.container.clone(), start.restart_count));
        self.replaces = self.stopped_to_start(&start.container);
        let target = self.target(&start.container);
        let job = Job {
            agent: self.agent.clone(),
            pod: self.pod.clone(),
            start,
            sandbox,
            pod_ips: self.pod_ips(),
            volumes: self.mounted.paths.clone(),
            held,
            target,
        };
        let started = passed.then(|()| container::start(job));
        started
            .map(|outcome| Done::Started(Box::new(outcome)))
            .boxed()
    }

    /// Ends when what the Pod may receive and send is settled, at once for one on the node's network.
    fn pass_gate(&self, sandbox: &SandboxStatus) -> BoxFuture<'static, ()> {
        let is_own = sandbox.namespaces.network != NamespaceMode::Node;
        let has_own = is_own && !sandbox.ips.is_empty();
        let Some(gate) = self.agent.gate.clone().filter(|_| has_own) else {
            return futures::future::ready(()).boxed();
        };
        let addresses = sandbox.ips.clone();
        let pod = self.pod.clone();
        Box::pin(async move {
            let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
            let meta = &pod.metadata;
            let name = PodName {
                namespace: &text(&meta.namespace),
                name: &text(&meta.name),
                uid: &text(&meta.uid),
            };
            gate.pass(&name, &addresses).await;
        })
    }

    /// The newest run of the container whose processes this one is to see.
    fn target(&self, name: &str) -> Option<(String, Option<Id>)> {
        let target = kinds::target(&self.pod, name)?;
        let runs = self.records.containers.iter();
        let newest = runs.filter(|c| c.name == target).max_by_key(|c| c.attempt);
        Some((target.to_owned(), newest.map(|c| c.id.clone())))
    }

    fn tear_down(&mut self) -> BoxFuture<'static, Done> {
        self.refresh = None;
        self.volume_objects.clear();
        self.start_objects.clear();
        let (agent, uid) = (self.agent.clone(), self.uid.clone());
        Box::pin(async move { Done::TornDown(mounting::tear_down(&agent, &uid).await) })
    }

    fn delete_pod(&self) -> BoxFuture<'static, Done> {
        let meta = &self.pod.metadata;
        let api: Api<Pod> = Api::namespaced(
            self.agent.client.clone(),
            meta.namespace.as_deref().unwrap_or_default(),
        );
        let name = meta.name.clone().unwrap_or_default();
        let has_finalizers = meta.finalizers.as_ref().is_some_and(|f| !f.is_empty());
        let preconditions = Preconditions {
            uid: meta.uid.clone(),
            ..Preconditions::default()
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        }
        .grace_period(0);
        Box::pin(async move {
            Done::Deleted(match api.delete(&name, &params).await {
                Ok(_) => Ok(!has_finalizers),
                // Not there, or another Pod has the name.
                Err(error) if report::is_gone(&error) => Ok(true),
                Err(error) => Err(error),
            })
        })
    }

    pub(super) fn pod_ips(&self) -> Vec<std::net::IpAddr> {
        let newest = self
            .records
            .sandboxes
            .iter()
            .max_by_key(|s| s.metadata.attempt);
        newest.map_or_else(Vec::new, |s| sandbox::ips(s, &self.agent.config).to_vec())
    }

    /// Takes in how the running step ended.
    pub(super) async fn done(&mut self, done: Done) {
        match done {
            Done::Volumes(setup) => self.volumes_done(setup),
            Done::Sandbox(Ok(status)) => {
                self.records.sandbox(status);
                // Known before the first container runs, which may have ended before its start is told.
                self.ask_pod_dir().await;
            }
            Done::Sandbox(Err(error)) => {
                self.agent
                    .recorder
                    .record(&self.pod, lifecycle::events::sandbox_failed(&error));
                self.try_later();
                self.relist().await;
            }
            Done::Outdated => {}
            Done::SandboxStopped(id, result) => match result {
                Ok(()) => self.records.sandbox_stopped(&id),
                Err(RuntimeError::NotFound { .. }) => self.records.remove_sandbox(&id),
                Err(error) => {
                    self.agent.recorder.record(
                        &self.pod,
                        lifecycle::events::kill_failed(&pull::chain(&error)),
                    );
                    self.try_later();
                }
            },
            Done::SandboxRemoved(id, result) => match result {
                Ok(()) | Err(RuntimeError::NotFound { .. }) => self.records.remove_sandbox(&id),
                Err(error) => self.not_removed("removing a sandbox", &error),
            },
            Done::ContainerRemoved(id, result) => match result {
                Ok(()) | Err(RuntimeError::NotFound { .. }) => self.records.remove_container(&id),
                Err(error) => self.not_removed("removing a container", &error),
            },
            Done::Started(outcome) => {
                self.starting = None;
                self.replaces = false;
                self.started(*outcome).await;
            }
            Done::Allocated(granted, noted) => self.allocated(*granted, noted),
            Done::Resized(resized) => self.resized(resized),
            Done::TornDown(Ok(())) => {
                self.pod_dir = None;
                self.seen.volumes = VolumesSeen::Released;
            }
            Done::TornDown(Err(error)) => {
                tracing::warn!(pod = self.uid, error, "taking down a pod's directory");
                self.try_later();
            }
            Done::Deleted(Ok(gone)) => self.seen.gone |= gone,
            Done::Deleted(Err(error)) => self.failed("deleting the pod from the API", &error),
        }
    }

    fn failed(&mut self, what: &str, error: &dyn std::error::Error) {
        tracing::warn!(pod = self.uid, error = pull::chain(error), "{what}");
        self.try_later();
    }

    /// What is dead stays for now, and the node tells of it (spec `§14.2`).
    fn not_removed(&mut self, what: &'static str, error: &RuntimeError) {
        let event = lifecycle::node_events::container_gc_failed(&pull::chain(error));
        let node = &self.agent.config.node_name;
        self.agent.recorder.record_node(node, event);
        self.failed(what, error);
    }

    /// The rest of the plan waits.
    fn try_later(&mut self) {
        self.queue.clear();
        let at = later(self.agent.now(), self.agent.config.policy.retry_after);
        self.seen.memory.retry = Some(Retry {
            phase: self.seen.memory.phase,
            at,
        });
    }

    async fn started(&mut self, outcome: Outcome) {
        if self.pod_dir.is_none() {
            self.ask_pod_dir().await;
        }
        let name = outcome.start.container.clone();
        match outcome.result {
            Ok(run) => {
                let memory = &mut self.seen.memory;
                memory
                    .pulls
                    .retain(|image, _| !outcome.images.contains(image));
                if let Some(error) = run.hook_error {
                    memory.failed_hooks.insert(run.status.id.clone());
                    memory.start_errors.insert(name, error);
                } else {
                    self.pace.started(tokio::time::Instant::now());
                    memory.start_errors.remove(&name);
                }
                if let Some(id) = self.records.container(run.status) {
                    self.read_message(&id);
                }
            }
            Err(failure) => {
                self.seen.memory.pulls.extend(failure.back_offs);
                let made = matches!(
                    failure.error.reason.as_str(),
                    "RunContainerError" | "CreateContainerError"
                );
                self.seen.memory.start_errors.insert(name, failure.error);
                self.start_objects = self.subscribe(outcome.read);
                if made {
                    self.relist().await;
                }
                // Nothing starts after an init container that did not (spec 1.4 step 7); a sidecar is passed over.
                if outcome.start.kind == ContainerKind::Init {
                    self.queue.clear();
                }
            }
        }
    }
}

pub(super) fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// Removes a Pod's log directory; there may be none.
pub(super) async fn remove_logs(dir: PathBuf) {
    blocking::run(move || match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), %error, "removing logs")
        }
        _ => {}
    })
    .await;
}
