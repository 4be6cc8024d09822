//! An indexed view of one look: records by container, newest first, and the sandbox that counts.

use api::pod::is_final;
use std::cmp::Reverse;

use cri::{ContainerState, ContainerStatus, NamespaceMode, SandboxState, SandboxStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::kinds::{self, Member};
use crate::observed::{Observed, WorkerPhase};

/// What every rule reads.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) seen: &'a Observed,
    pub(crate) now: Timestamp,
}

impl<'a> Look<'a> {
    /// Records of a container, newest first: by their number, as the clock may have been set back between two of them. A run
    /// that is taken back is not among them before it has ended.
    pub(crate) fn records(&self, name: &str) -> Vec<&'a ContainerStatus> {
        let mut found: Vec<_> = self
            .seen
            .containers
            .iter()
            .filter(|c| c.name == name && !self.is_taken_back(c))
            .collect();
        found.sort_by_key(|c| Reverse((c.attempt, c.created_at)));
        found
    }

    /// The newest record of a container.
    pub(crate) fn newest(&self, name: &str) -> Option<&'a ContainerStatus> {
        self.records(name).first().copied()
    }

    /// The newest record of a container, if it belongs to this sandbox.
    pub(crate) fn newest_in(&self, name: &str, sandbox: &str) -> Option<&'a ContainerStatus> {
        self.newest(name).filter(|c| c.sandbox_id == sandbox)
    }

    /// End of the newest record that has ended.
    pub(crate) fn last_exit(&self, name: &str) -> Option<(&'a ContainerStatus, Timestamp)> {
        self.records(name).into_iter().find_map(|c| match c.state {
            ContainerState::Exited { finished_at, .. } => Some((c, finished_at)),
            _ => None,
        })
    }

    /// Whether the record may have a living process: it runs, or nobody knows and it was not stopped yet.
    pub(crate) fn alive(&self, record: &ContainerStatus) -> bool {
        match record.state {
            ContainerState::Running { .. } => true,
            ContainerState::Unknown => !self.seen.memory.stopping.contains_key(&record.id),
            ContainerState::Created | ContainerState::Exited { .. } => false,
        }
    }

    /// Records of a container that may have a living process, one that is taken back among them.
    pub(crate) fn living(&self, name: &str) -> impl Iterator<Item = &'a ContainerStatus> {
        let records = self.seen.containers.iter();
        records.filter(move |c| c.name == name && self.alive(c))
    }

    /// Whether the run lives although its `postStart` hook failed.
    pub(crate) fn is_taken_back(&self, record: &ContainerStatus) -> bool {
        self.seen.memory.failed_hooks.contains(&record.id) && self.alive(record)
    }

    /// Whether a run of this container lives although its `postStart` hook failed.
    pub(crate) fn takes_back(&self, name: &str) -> bool {
        self.living(name).any(|c| self.is_taken_back(c))
    }

    /// When it was asked that a container be tried again ([`api::asks::RETRY`]).
    pub(crate) fn retry(&self, name: &str) -> Option<Timestamp> {
        api::asks::retry_since(self.pod.metadata.annotations.as_ref(), name)
    }

    /// Whether a failure at this time is not to be waited for, because a later try was asked for.
    pub(crate) fn is_waived(&self, name: &str, failed_at: Timestamp) -> bool {
        let retry = self.retry(name).filter(|at| *at <= self.now);
        retry.is_some_and(|at| failed_at < at)
    }

    /// Whether the record of this id runs.
    pub(crate) fn runs(&self, id: &str) -> bool {
        let mut records = self.seen.containers.iter();
        records.any(|c| c.id == id && matches!(c.state, ContainerState::Running { .. }))
    }

    /// Sandboxes, the newest first (§1.5).
    pub(crate) fn sandboxes(&self) -> Vec<&'a SandboxStatus> {
        let mut found: Vec<_> = self.seen.sandboxes.iter().collect();
        found.sort_by(|a, b| {
            (b.metadata.attempt, b.created_at).cmp(&(a.metadata.attempt, a.created_at))
        });
        found
    }

    /// The sandbox that containers live in: the newest, when §1.5 keeps it.
    pub(crate) fn usable_sandbox(&self) -> Option<&'a SandboxStatus> {
        let all = self.sandboxes();
        let ready = all
            .iter()
            .filter(|s| s.state == SandboxState::Ready)
            .count();
        let newest = *all.first()?;
        let network_fits =
            self.host_network() == (newest.namespaces.network == NamespaceMode::Node);
        let has_address = self.host_network() || !newest.ips.is_empty();
        (newest.state == SandboxState::Ready && ready == 1 && network_fits && has_address)
            .then_some(newest)
    }

    /// `spec.hostNetwork`.
    pub(crate) fn host_network(&self) -> bool {
        self.pod
            .spec
            .as_ref()
            .and_then(|s| s.host_network)
            .unwrap_or(false)
    }

    /// Whether the Pod is to go: deleted, or gone already.
    pub(crate) fn deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some() || self.seen.gone
    }

    /// Whether it is from a manifest on the node. What becomes of it is not the API's affair.
    pub(crate) fn is_static(&self) -> bool {
        api::pod::is_static(self.pod)
    }

    /// The phase stored in the API.
    pub(crate) fn stored_phase(&self) -> Option<&'a str> {
        self.pod.status.as_ref()?.phase.as_deref()
    }

    /// Whether the phase stored in the API is `Succeeded` or `Failed`.
    pub(crate) fn stored_terminal(&self) -> bool {
        self.stored_phase().is_some_and(is_final)
    }

    /// Whether every container is known to have stopped for good (§3.1).
    pub(crate) fn all_stopped(&self) -> bool {
        self.seen.memory.phase >= WorkerPhase::Terminating
            && !self.seen.containers.iter().any(|c| self.alive(c))
    }

    /// Whether the record was made from another name or image than the spec has now (§1.7). A record without a hash is taken
    /// for unchanged.
    pub(crate) fn changed(&self, member: &Member<'_>, record: &ContainerStatus) -> bool {
        record
            .annotations
            .get(kinds::HASH_ANNOTATION)
            .is_some_and(|hash| *hash != kinds::container_hash(member.spec))
    }
}
