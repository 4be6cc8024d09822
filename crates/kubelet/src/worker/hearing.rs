//! Taking in what the worker is told: the Pod's changes, the runtime's records, and the last words of containers.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use lifecycle::resize::Allocation;
use ports::runtime::{ContainerState, ContainerStatus, Id, RuntimeEvent};

use super::{Message, Worker};
use crate::logs;
use crate::messages;
use crate::probe::{self, Found};
use crate::pull;
use crate::report;

impl Worker {
    pub(super) fn told(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => self.pod_changed(*pod),
            Message::Mirror(mirror) => self.mirrored(mirror.map(|pod| *pod)),
            Message::End => self.end(),
            Message::Gone => {
                self.seen.gone = true;
                self.writing = None;
                self.leave_allocations();
            }
            Message::Evict(eviction) => {
                self.seen.memory.eviction.get_or_insert(*eviction);
            }
            Message::Runtime(RuntimeEvent::LogGrown { id, .. }) => self.rotate_log(&id),
            Message::Runtime(event) => {
                if let Some(id) = self.records.apply(event) {
                    self.read_message(&id);
                }
            }
            Message::Records(sandboxes, containers) => {
                self.records.replace(sandboxes, containers);
                self.read_missing_messages();
            }
        }
    }

    /// Takes in what a probe established.
    pub(super) fn probed(&mut self, found: Found) {
        let healths = self.seen.probes.entry(found.id).or_default();
        healths.insert(found.kind, found.health);
    }

    /// Runs the probes that can say something now.
    pub(super) fn follow_probes(&mut self) {
        if !self.has_probes {
            return;
        }
        self.observe();
        let records = &self.records.containers;
        probe::forget(&mut self.seen.probes, |id| {
            records.iter().any(|c| c.id == *id)
        });
        let wanted = lifecycle::probe::wanted(&self.pod, &self.seen);
        let ips = self.pod_ips();
        let adopted = &self.adopted;
        self.probes
            .follow(wanted, &self.agent, &self.pod, &ips, |id| {
                adopted.contains(id)
            });
    }

    pub(super) fn pod_changed(&mut self, mut pod: Pod) {
        let (wanted, allocated) = (Allocation::of(&pod), Allocation::of(&self.pod));
        if !wanted.is_same(&allocated) {
            allocated.apply(&mut pod);
        }
        if pod.spec != self.pod.spec {
            self.seen.memory.changed_at = Some(self.agent.now());
        }
        let foreign = pod.status.take();
        let reported = self.pod.status.clone().unwrap_or_default();
        pod.status = Some(report::adopt(foreign.as_ref(), &reported));
        self.stored = Arc::new(report::adopt(foreign.as_ref(), &self.stored));
        let meta_changed = pod.metadata.labels != self.pod.metadata.labels
            || pod.metadata.annotations != self.pod.metadata.annotations;
        self.pod = Arc::new(pod);
        self.want(wanted);
        if meta_changed {
            self.start_refresh();
        }
    }

    /// The pod directory, if it is known without asking again.
    pub(super) fn read_message(&mut self, id: &str) {
        let Some(record) = self.records.containers.iter().find(|c| c.id == id) else {
            return;
        };
        if let Some(dir) = &self.pod_dir {
            let text = messages::read(dir, record);
            self.seen.termination_messages.insert(id.to_owned(), text);
        }
    }

    /// Puts the log of a running container aside if it is large, beside everything else.
    fn rotate_log(&self, id: &str) {
        let is_it =
            |c: &&ContainerStatus| c.id == id && matches!(c.state, ContainerState::Running { .. });
        if let Some(record) = self.records.containers.iter().find(is_it) {
            let (runtime, now) = (self.agent.runtime.clone(), self.agent.now());
            tokio::spawn(logs::rotate(runtime, record.clone(), now));
        }
    }

    /// Does what was not done while there was no agent.
    pub(super) fn rotate_logs(&self) {
        let ids = self.records.containers.iter().map(|c| &c.id);
        ids.for_each(|id| self.rotate_log(id));
    }

    pub(super) fn read_missing_messages(&mut self) {
        let dead = self
            .records
            .containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Exited { .. }));
        let missing: Vec<Id> = dead
            .map(|c| c.id.clone())
            .filter(|id| !self.seen.termination_messages.contains_key(id))
            .collect();
        missing.iter().for_each(|id| self.read_message(id));
    }

    pub(super) async fn read_messages_of_the_dead(&mut self) {
        if self.records.containers.is_empty() {
            return;
        }
        self.ask_pod_dir().await;
    }

    pub(super) async fn ask_pod_dir(&mut self) {
        match self.agent.volumes.pod_dir(&self.uid).await {
            Ok(dir) => {
                self.pod_dir = Some(dir);
                self.read_missing_messages();
            }
            Err(error) => {
                let error = pull::chain(&error);
                tracing::warn!(pod = self.uid, error, "making the pod's directory");
                let event = lifecycle::events::directories_failed(&error);
                self.agent.recorder.record(&self.pod, event);
            }
        }
    }

    /// Reads the runtime's records again, after a step whose outcome is not known.
    pub(super) async fn relist(&mut self) {
        let runtime = &self.agent.runtime;
        let (sandboxes, containers) = tokio::join!(
            runtime.list_sandboxes(Some(&self.uid)),
            runtime.list_containers(Some(&self.uid))
        );
        self.records.replace(sandboxes, containers);
        self.read_missing_messages();
    }
}
