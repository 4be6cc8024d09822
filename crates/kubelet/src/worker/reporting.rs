//! Computing, publishing and writing the status.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use lifecycle::{Step, WorkerPhase};
use tokio::time::Instant;

use super::Worker;
use super::mirror::Face;
use crate::agent::View;
use crate::report::{self, Written};

impl Worker {
    /// Whether the API holds what is to be reported, or has nobody of whom to report.
    pub(super) fn is_stored(&self) -> bool {
        let is_held = |status| report::is_held(&self.stored, status);
        let is_nobody = self.seen.gone || self.face_uid().is_none();
        is_nobody || (self.writing.is_none() && self.pod.status.as_ref().is_some_and(is_held))
    }

    /// Whether the API has refused what is to be reported. Nothing waits for that to be stored.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some() && self.refused.as_deref() == self.pod.status.as_ref()
    }

    /// Computes the status and publishes it.
    pub(super) fn refresh_status(&mut self) {
        if self.seen.gone {
            return;
        }
        self.observe();
        let status = lifecycle::status(&self.pod, &self.seen, self.agent.now());
        if self.pod.status.as_ref() != Some(&status) {
            Arc::make_mut(&mut self.pod).status = Some(status.clone());
        }
        self.agent.views.publish(
            &self.uid,
            View {
                pod: self.pod.clone(),
                status,
                containers: self.records.containers.clone(),
                mirror: self
                    .face_uid()
                    .filter(|_| self.is_static())
                    .map(str::to_owned),
            },
        );
    }

    /// Writes the status if it is new, no write is under way, and it is time.
    pub(super) fn report(&mut self) {
        self.refresh_status();
        self.report_at = None;
        // What has been told already is taken in first: a container that was started and has ended is not reported as running.
        let is_behind = !self.inbox.is_empty();
        // Readers are to see stopping and starting again as one.
        if is_behind
            || self.replaces
            || self.will_replace()
            || self.is_stored()
            || self.writing.is_some()
            || self.is_being_deleted()
        {
            return;
        }
        let now = Instant::now();
        let due = self.pace.due(self.current.is_none() && self.is_held_up());
        self.report_at = due.filter(|at| *at > now);
        if self.report_at.is_none() {
            self.pace.written(now);
            self.writing = Some(report::write(
                &self.agent.client,
                &self.pod,
                self.face_uid(),
                &self.stored,
                Arc::new(self.pod.status.clone().unwrap_or_default()),
            ));
        }
    }

    /// Whether a later step starts what was stopped for that: limits are changed in between. A start that is held up waits for this
    /// report.
    fn will_replace(&self) -> bool {
        let replaces = |step: &Step| match step {
            Step::Start(start) => self.stopped_to_start(&start.container),
            _ => false,
        };
        !self.is_held_up() && self.queue.iter().any(replaces)
    }

    /// Whether the stored status says that a run has ended.
    pub(super) fn has_told_end(&self, run: &str) -> bool {
        let states = containers(&self.stored).flat_map(|c| [&c.state, &c.last_state]);
        let mut ends = states.filter_map(|state| state.as_ref()?.terminated.as_ref());
        ends.any(|end| {
            let id = end.container_id.as_deref().unwrap_or_default();
            id.rsplit_once("://").is_some_and(|(_, id)| id == run)
        })
    }

    /// Whether a deleted Pod still has something to stop. Upstream's agent is busy stopping until then, and reports what came of
    /// all of it: a watch goes from `Terminating` to the end. Only its probes go on telling (spec `§5.2`).
    pub(super) fn is_being_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
            && self.seen.memory.phase == WorkerPhase::Terminating
            && !self.readiness_moved()
    }

    /// Whether a container that runs on is ready now and was not, or the other way round.
    fn readiness_moved(&self) -> bool {
        let running =
            |status: &ContainerStatus| status.state.as_ref().is_some_and(|s| s.running.is_some());
        let status = self.pod.status.iter().flat_map(containers);
        status.filter(|new| running(new)).any(|new| {
            let mut stored = containers(&self.stored);
            stored.any(|old| {
                (&old.name, &old.container_id) == (&new.name, &new.container_id)
                    && running(old)
                    && old.ready != new.ready
            })
        })
    }

    pub(super) fn written(&mut self, written: Written) {
        self.writing = None;
        match written {
            Written::Stored(status) => self.stored = report::stored(&self.stored, &status).into(),
            Written::Refused(status, error) => {
                tracing::warn!(pod = self.uid, %error, "a status was refused");
                self.refused = Some(status);
                self.pace.failed(Instant::now());
            }
            // Another one will be told of.
            Written::Gone if self.is_static() => self.face = Face::Mirror(None),
            Written::Gone => self.seen.gone = true,
            Written::Failed(error) => {
                tracing::warn!(pod = self.uid, %error, "writing a status");
                self.pace.failed(Instant::now());
            }
        }
    }
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten()
}
