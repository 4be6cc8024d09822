//! Taking steps on the node in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cri::{
    ContainerState, ContainerStatus, NamespaceMode, NamespaceOptions, Resources, SandboxMetadata,
    SandboxState, SandboxStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Lifecycle, LifecycleHandler};

use super::conduct::{Run, Starts};
use super::node::{Node, POD_IP};
use super::watch::Watch;
use crate::events;
use crate::image::{self, Decision, Presence, Wanted};
use crate::kinds::{self, Found, Member};
use crate::observed::{ContainerKind, PreStopping, StartError, Stopping, VolumesSeen};
use crate::plan::{Event, PreStop, Start, Step, Stop};
use crate::text;

impl<W: Watch> Node<W> {
    /// Takes a step as the agent does.
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Event(event) => self.tell(event),
            Step::SetUpVolumes => self.seen.volumes = VolumesSeen::Ready,
            Step::CreateSandbox { attempt } => self.create_sandbox(*attempt),
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
            // Nobody resizes what is only thought of.
            Step::Allocate | Step::Resize(_) => {}
            Step::Start(start) => {
                self.seen.memory.begin(start, self.now);
                if !self.start(start) && start.kind == ContainerKind::Init {
                    // Nothing starts after an init container that did not (§1.4 step 7).
                    self.queue.clear();
                }
            }
        }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        self.watch.told(event, self.now);
    }

    fn create_sandbox(&mut self, attempt: u32) {
        let spec = self.pod.spec.as_ref();
        let on_host = spec.and_then(|spec| spec.host_network).unwrap_or(false);
        let meta = &self.pod.metadata;
        self.seen.sandboxes.push(SandboxStatus {
            id: format!("sandbox-{attempt}"),
            metadata: SandboxMetadata {
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone().unwrap_or_default(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                attempt,
            },
            state: SandboxState::Ready,
            created_at: self.now,
            ips: if on_host { Vec::new() } else { vec![POD_IP] },
            namespaces: NamespaceOptions {
                network: if on_host {
                    NamespaceMode::Node
                } else {
                    NamespaceMode::Pod
                },
                pid: NamespaceMode::Container,
                ipc: NamespaceMode::Pod,
                users: None,
            },
            resources: Resources::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        });
    }

    fn begin_hook(&mut self, stop: &Stop) {
        self.tell_stop(stop);
        let grace = SignedDuration::from_secs(stop.grace_seconds);
        let takes = self.current_run(&stop.container).pre_stop;
        let takes = self.hook_time(&stop.container, |hooks| hooks.pre_stop.as_ref(), takes);
        self.hooks
            .insert(stop.id.clone(), text::after(self.now, takes.min(grace)));
        let hook = PreStopping {
            stop: self.stopping(stop),
            is_over: false,
        };
        self.seen.memory.pre_stops.insert(stop.id.clone(), hook);
    }

    /// How long a hook takes: what the spec says of a sleep, else what is supposed; nothing without a hook.
    fn hook_time(
        &self,
        name: &str,
        which: fn(&Lifecycle) -> Option<&LifecycleHandler>,
        supposed: SignedDuration,
    ) -> SignedDuration {
        let members = kinds::members(&self.pod);
        let member = members.iter().find(|m| m.name() == name);
        let hook = member
            .and_then(|m| m.spec.lifecycle.as_ref())
            .and_then(which);
        match hook.map(|hook| &hook.sleep) {
            Some(Some(sleep)) => SignedDuration::from_secs(sleep.seconds),
            Some(None) => supposed,
            None => SignedDuration::ZERO,
        }
    }

    fn stop(&mut self, stop: &Stop) {
        self.tell_stop(stop);
        let stopping = self.stopping(stop);
        self.seen.memory.stopping.insert(stop.id.clone(), stopping);
        let grace = SignedDuration::from_secs(stop.grace_seconds);
        let run = self.current_run(&stop.container);
        let answer = run.on_stop.filter(|(after, _)| *after < grace);
        let (after, code) = answer.unwrap_or((grace, 137));
        let end = (text::after(self.now, after), code);
        let entry = self.ends.entry(stop.id.clone()).or_insert(end);
        if end.0 < entry.0 {
            *entry = end;
        }
    }

    fn tell_stop(&mut self, stop: &Stop) {
        if let Some(message) = &stop.message {
            self.tell(&events::killing(stop.kind, &stop.container, message));
        }
    }

    fn stopping(&self, stop: &Stop) -> Stopping {
        Stopping {
            since: self.now,
            grace_seconds: stop.grace_seconds,
            then_restart: stop.then_restart,
        }
    }

    /// Whether the container was started.
    fn start(&mut self, start: &Start) -> bool {
        let found = kinds::find(&self.pod, &start.container).map(Found::into_owned);
        let Some(found) = found else {
            return false;
        };
        let member = found.member();
        *self.starts.entry(start.container.clone()).or_default() += 1;
        let run = self.current_run(&start.container).clone();
        if !self.get_images(&member, run.start) {
            return false;
        }
        if run.start == Starts::NoConfig {
            return self.failed(
                &member,
                "CreateContainerConfigError",
                "configmap \"c\" not found",
            );
        }
        let mut newest = self.seen.sandboxes.iter().collect::<Vec<_>>();
        newest.sort_by_key(|s| s.metadata.attempt);
        let Some(sandbox) = newest.last() else {
            return false;
        };
        let record = record(&member, start, sandbox, self.now);
        self.tell(&events::created(&member));
        if self.dies_after == Some(0) {
            self.seen.containers.push(record);
            self.agent_dies();
            return false;
        }
        self.begin(&member, start, record, &run)
    }

    fn begin(
        &mut self,
        member: &Member<'_>,
        start: &Start,
        mut record: ContainerStatus,
        run: &Run,
    ) -> bool {
        let now = self.now;
        self.watch.started(start);
        if run.start == Starts::NoProgram {
            record.state = ContainerState::Exited {
                started_at: Timestamp::UNIX_EPOCH,
                finished_at: now,
                exit_code: 128,
                reason: "StartError".to_owned(),
                message: "no such file or directory".to_owned(),
            };
            self.seen.containers.push(record);
            self.watch.ended(member.name(), now, 128, &self.seen.memory);
            return self.failed(member, "RunContainerError", "no such file or directory");
        }
        record.state = ContainerState::Running { started_at: now };
        if let Some(lasts) = run.lasts {
            self.ends
                .insert(record.id.clone(), (text::after(now, lasts), run.code));
        }
        self.tell(&events::started(member));
        let hook = self.hook_time(
            member.name(),
            |hooks| hooks.post_start.as_ref(),
            run.post_start,
        );
        let hooks = member.spec.lifecycle.as_ref();
        let fails = run.post_start_fails && hooks.is_some_and(|hooks| hooks.post_start.is_some());
        if hook.is_positive() || fails {
            self.starting = Some((record, text::after(now, hook)));
        } else {
            self.seen.containers.push(record);
            self.seen.memory.start_errors.remove(member.name());
        }
        true
    }

    /// Whether the images are here in the end: those of volumes always are. A pull takes no time.
    fn get_images(&mut self, member: &Member<'_>, starts: Starts) -> bool {
        let pod = self.pod.clone();
        let mut of_volumes = image::of_volumes(&pod, member).into_iter();
        of_volumes.all(|wanted| self.get_image(&wanted, Starts::Well))
            && self.get_image(&image::own(member), starts)
    }

    fn get_image(&mut self, wanted: &Wanted<'_>, starts: Starts) -> bool {
        let presence = match starts {
            Starts::NoImage => Presence::Absent,
            _ => Presence::Present,
        };
        let memory = &self.seen.memory;
        let entry = image::entry(&self.pod, wanted, memory, self.now).cloned();
        let failure = match image::decide(wanted, &presence, entry.as_ref(), self.now) {
            Decision::Use { event } => {
                self.tell(&event);
                return true;
            }
            Decision::Pull { event } => {
                self.tell(&event);
                if starts != Starts::NoImage {
                    return true;
                }
                self.watch.pull_failed(wanted.image, self.now);
                image::failed(
                    wanted,
                    "no such tag",
                    entry.as_ref(),
                    self.now,
                    &self.policy,
                )
            }
            Decision::Fail(failure) => failure,
        };
        failure.events.iter().for_each(|event| self.tell(event));
        let memory = &mut self.seen.memory;
        if let Some(entry) = failure.back_off {
            memory.pulls.insert(wanted.image.to_owned(), entry);
        }
        memory
            .start_errors
            .insert(wanted.member.name().to_owned(), failure.error);
        false
    }

    /// A `postStart` hook is over: the agent sees the run, and stops it if the hook failed.
    pub(super) fn hook_is_over(&mut self, record: ContainerStatus) {
        let name = record.name.clone();
        let fails = self.current_run(&name).post_start_fails;
        let memory = &mut self.seen.memory;
        memory.start_errors.remove(&name);
        if fails {
            memory.failed_hooks.insert(record.id.clone());
            let error = StartError {
                reason: "PostStartHookError".to_owned(),
                message: format!("the postStart hook of container {name} failed, as supposed"),
                at: self.now,
            };
            memory.start_errors.insert(name.clone(), error);
            let found = kinds::find(&self.pod, &name);
            let event = found.map(|found| events::hook_failed(&found.member(), "PostStart"));
            event.iter().for_each(|event| self.tell(event));
        }
        self.seen.containers.push(record);
    }

    /// Of these steps, takes those that stop runs whose `postStart` hook failed: they wait for no other.
    pub(super) fn take_back(&mut self, steps: &[Step]) {
        for step in steps {
            let (Step::PreStop(PreStop(stop)) | Step::Stop(stop)) = step else {
                continue;
            };
            if self.seen.memory.failed_hooks.contains(&stop.id) {
                self.watch.about_to(step, &self.pod, &self.seen, self.now);
                self.take(step);
                self.is_changed = true;
            }
        }
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
}

fn record(
    member: &Member<'_>,
    start: &Start,
    sandbox: &SandboxStatus,
    now: Timestamp,
) -> ContainerStatus {
    let hash = kinds::container_hash(member.spec);
    ContainerStatus {
        id: format!("{}-{}", start.container, start.restart_count),
        sandbox_id: sandbox.id.clone(),
        pod_uid: sandbox.metadata.uid.clone(),
        name: start.container.clone(),
        attempt: start.restart_count,
        state: ContainerState::Created,
        created_at: now,
        image: member.image().to_owned(),
        image_ref: String::new(),
        user: None,
        log_path: PathBuf::new(),
        resources: Resources::default(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([(kinds::HASH_ANNOTATION.to_owned(), hash)]),
    }
}
