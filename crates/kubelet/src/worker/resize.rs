//! In-place resize (spec `§12.7`): what the spec wants is asked for, noted once it is granted, and carried out. The worker's Pod is
//! the Pod as it was allocated.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::WorkerPhase;
use lifecycle::resize::{self, Allocation, Pending, Progress, Resize, ResizeError, Target};
use lifecycle::room::{Answer, Ask};
use ports::runtime::{
    ContainerRuntime, ContainerStatus, Resources, RuntimeError, SandboxState, SandboxStatus,
};

use super::Worker;
use super::perform::{Done, later};
use crate::pull;

/// What was changed, as it is now.
pub(super) enum Changed {
    Sandbox(SandboxStatus),
    Container(ContainerStatus),
}

/// How a resize went: what was changed, and why not all of it was.
pub(super) struct Resized {
    changed: Vec<Changed>,
    error: Option<String>,
}

impl Worker {
    /// Begins with what was allocated before; the spec may want something else by now.
    pub(crate) fn begin_allocated(&mut self) {
        let noted = Allocation::noted(&self.records.sandboxes);
        let wanted = Allocation::of(&self.pod);
        if let Some(noted) = noted.filter(|noted| !noted.is_same(&wanted)) {
            noted.apply(Arc::make_mut(&mut self.pod));
        }
        if api::pod::is_over(&self.pod) {
            self.has_left = true;
        } else {
            self.agent.allocations.hold(&self.pod);
            self.want(wanted);
        }
    }

    /// Takes in what the spec of the Pod wants to be allocated. One that is over is allocated nothing any more.
    pub(super) fn want(&mut self, wanted: Allocation) {
        if self.has_left {
            return;
        }
        let asked = self.seen.memory.resizing.pending.as_ref();
        if asked.is_some_and(|pending| pending.wanted.is_same(&wanted)) {
            return;
        }
        self.withdraw();
        if wanted.is_same(&Allocation::of(&self.pod)) {
            return;
        }
        let pending = Pending {
            wanted,
            generation: self.pod.metadata.generation.unwrap_or(0),
            answer: None,
        };
        let since = self.waits_since();
        let ask = Ask::of(&self.wished(&pending), since);
        self.seen.memory.resizing.pending = Some(pending);
        self.has_asked = true;
        self.agent.allocations.ask(&self.uid, Some(ask));
        self.answered();
    }

    /// Wants nothing but what it has, or is about to be given.
    fn withdraw(&mut self) {
        let resizing = &mut self.seen.memory.resizing;
        resizing.pending = None;
        if std::mem::take(&mut self.has_asked) {
            self.agent.allocations.ask(&self.uid, None);
            if resizing.progress.is_none() {
                self.agent.allocations.hold(&self.pod);
            }
        }
    }

    /// The Pod as its spec wants it.
    fn wished(&self, pending: &Pending) -> Pod {
        let mut pod = (*self.pod).clone();
        pending.wanted.apply(&mut pod);
        pod
    }

    /// Since when a resize has been pending, also before this worker began.
    fn waits_since(&self) -> jiff::Timestamp {
        let status = self.pod.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref());
        let pending = conditions
            .unwrap_or_default()
            .iter()
            .find(|c| c.type_ == "PodResizePending");
        let since = pending.and_then(|c| c.last_transition_time.as_ref());
        since.map_or_else(|| self.agent.now(), |time| time.0)
    }

    /// Takes in what becomes of what is wanted.
    pub(super) fn answered(&mut self) {
        let answer = self.agent.allocations.answer(&self.uid);
        let resizing = &mut self.seen.memory.resizing;
        let Some(mut pending) = resizing.pending.take() else {
            return;
        };
        let was = std::mem::replace(&mut pending.answer, answer);
        if let (Some(Answer::Deferred(why)), None) = (&pending.answer, was)
            && !self.is_told_deferred(pending.generation)
        {
            let event = resize::deferred(&self.wished(&pending), pending.generation, why);
            self.agent.recorder.record(&self.pod, event);
        }
        self.seen.memory.resizing.pending = Some(pending);
    }

    /// Whether an earlier worker has told that this wish has to wait.
    fn is_told_deferred(&self, generation: i64) -> bool {
        let status = self.pod.status.as_ref();
        let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.any(|c| {
            c.type_ == "PodResizePending"
                && c.reason.as_deref() == Some("Deferred")
                && c.observed_generation == Some(generation)
        })
    }

    /// Notes what was granted where a later engine finds it.
    pub(super) fn begin_allocation(&mut self) -> BoxFuture<'static, Done> {
        let sandboxes = self.records.sandboxes.iter();
        let newest = sandboxes
            .filter(|s| s.state == SandboxState::Ready)
            .max_by_key(|s| s.metadata.attempt);
        let granted = self.seen.memory.resizing.pending.clone();
        let (Some(newest), Some(granted)) = (newest, granted) else {
            return self.give_up_plan();
        };
        let sandbox = newest.id.clone();
        let runtime = self.agent.runtime.clone();
        Box::pin(async move {
            let note = [granted.wanted.note()].into();
            let noted = runtime
                .update_sandbox_resources(&sandbox, Resources::default(), note)
                .await;
            Done::Allocated(Box::new(granted), noted)
        })
    }

    /// What was granted is noted, and from now on it is the Pod's.
    pub(super) fn allocated(
        &mut self,
        granted: Pending,
        noted: Result<SandboxStatus, RuntimeError>,
    ) {
        let now = self.agent.now();
        let resizing = &mut self.seen.memory.resizing;
        match noted {
            Ok(sandbox) => self.records.resized_sandbox(sandbox),
            Err(error) => {
                tracing::warn!(
                    pod = self.uid,
                    error = pull::chain(&error),
                    "noting a resize"
                );
                resizing.retry_at = Some(later(now, self.agent.config.policy.retry_after));
                return;
            }
        }
        granted.wanted.apply(Arc::make_mut(&mut self.pod));
        resizing.retry_at = None;
        resizing.progress = Some(Progress {
            generation: granted.generation,
            error: None,
        });
        self.seen.memory.changed_at = Some(now);
        let event = resize::started(&self.pod, granted.generation);
        self.agent.recorder.record(&self.pod, event);
        // The spec may have changed since it was asked for.
        let pending = self.seen.memory.resizing.pending.take();
        self.want(pending.map_or(granted.wanted, |pending| pending.wanted));
    }

    pub(super) fn begin_resize(&self, resize: Resize) -> BoxFuture<'static, Done> {
        let runtime = self.agent.runtime.clone();
        Box::pin(async move { Done::Resized(carry_out(&*runtime, resize).await) })
    }

    /// Takes in what was changed, and tells what could not be.
    pub(super) fn resized(&mut self, resized: Resized) {
        for changed in resized.changed {
            match changed {
                Changed::Sandbox(status) => self.records.resized_sandbox(status),
                Changed::Container(status) => self.records.resized_container(status),
            }
        }
        let generation = self.pod.metadata.generation.unwrap_or(0);
        let progress = &mut self.seen.memory.resizing.progress;
        let progress = progress.get_or_insert(Progress {
            generation,
            error: None,
        });
        let told = progress.error.take();
        let Some(message) = resized.error else {
            return;
        };
        if told.is_none_or(|told| told.message != message) {
            let event = resize::failed(&self.pod, progress.generation, &message);
            self.agent.recorder.record(&self.pod, event);
        }
        let at = self.agent.now();
        progress.error = Some(ResizeError { message, at });
    }

    /// Takes over from a plan whether a resize is in progress; one that is over leaves room to others.
    pub(super) fn adopt_progress(&mut self, phase: WorkerPhase, progress: Option<Progress>) {
        let resizing = &mut self.seen.memory.resizing;
        if phase == WorkerPhase::Syncing {
            let is_over = progress.is_none() && resizing.progress.is_some();
            resizing.progress = progress;
            if is_over {
                self.agent.allocations.hold(&self.pod);
            }
        } else if phase >= WorkerPhase::Terminated {
            self.leave_allocations();
        }
    }

    /// The Pod needs nothing of the node any more.
    pub(super) fn leave_allocations(&mut self) {
        if !std::mem::replace(&mut self.has_left, true) {
            self.seen.memory.resizing = resize::Resizing::default();
            self.agent.allocations.leave(&self.uid);
        }
    }
}

async fn carry_out(runtime: &dyn ContainerRuntime, resize: Resize) -> Resized {
    let mut changed = Vec::new();
    let error = match check(runtime, &resize).await {
        Err(error) => Some(pull::chain(&error)),
        Ok(Some(refused)) => Some(refused),
        Ok(None) => change(runtime, resize, &mut changed)
            .await
            .err()
            .map(|error| pull::chain(&error)),
    };
    Resized { changed, error }
}

/// Why memory limits cannot shrink now, if they cannot.
async fn check(
    runtime: &dyn ContainerRuntime,
    resize: &Resize,
) -> Result<Option<String>, RuntimeError> {
    let mut usages = Vec::new();
    for shrink in &resize.shrinks {
        let stats = match &shrink.target {
            Target::Pod { sandbox } => runtime.sandbox_stats(sandbox).await?,
            Target::Container { id, .. } => runtime.container_stats(id).await?,
        };
        usages.push((shrink.clone(), stats.memory_usage_bytes));
    }
    Ok(resize::refused(&usages))
}

async fn change(
    runtime: &dyn ContainerRuntime,
    resize: Resize,
    changed: &mut Vec<Changed>,
) -> Result<(), RuntimeError> {
    for change in resize.changes {
        let (resources, annotations) = (change.resources, change.annotations);
        changed.push(match change.target {
            Target::Pod { sandbox } => Changed::Sandbox(
                runtime
                    .update_sandbox_resources(&sandbox, resources, annotations)
                    .await?,
            ),
            Target::Container { id, .. } => Changed::Container(
                runtime
                    .update_container_resources(&id, resources, annotations)
                    .await?,
            ),
        });
    }
    Ok(())
}
