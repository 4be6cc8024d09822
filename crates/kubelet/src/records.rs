//! The worker's mirror of the runtime's records: fed by events and by the results of its own steps, which may cross each other.

use std::collections::HashSet;

use ports::runtime::{
    ContainerState, ContainerStatus, Id, RuntimeEvent, SandboxState, SandboxStatus,
};

/// Sandboxes and containers of one Pod.
#[derive(Debug, Default, Clone)]
pub(crate) struct Records {
    pub(crate) sandboxes: Vec<SandboxStatus>,
    pub(crate) containers: Vec<ContainerStatus>,
    /// What was removed: a late event must not bring it back.
    removed: HashSet<Id>,
}

impl Records {
    pub(crate) fn new(sandboxes: Vec<SandboxStatus>, containers: Vec<ContainerStatus>) -> Self {
        Records {
            sandboxes,
            containers,
            removed: HashSet::new(),
        }
    }

    /// Replaces everything by what the runtime listed.
    pub(crate) fn replace(
        &mut self,
        sandboxes: Vec<SandboxStatus>,
        containers: Vec<ContainerStatus>,
    ) {
        self.sandboxes = sandboxes;
        self.containers = containers;
    }

    /// Takes in an event; the id of a container that has ended just now.
    pub(crate) fn apply(&mut self, event: RuntimeEvent) -> Option<Id> {
        match event {
            RuntimeEvent::Container(status) => return self.container(*status),
            RuntimeEvent::ContainerRemoved { id, .. } => self.remove_container(&id),
            RuntimeEvent::Sandbox(status) => self.sandbox(*status),
            RuntimeEvent::LogGrown { .. } => {}
        }
        None
    }

    /// Takes in a container's status unless a later one is known; its id if it has ended just now.
    pub(crate) fn container(&mut self, status: ContainerStatus) -> Option<Id> {
        if self.removed.contains(&status.id) {
            return None;
        }
        let ended = matches!(status.state, ContainerState::Exited { .. });
        let id = status.id.clone();
        match self.containers.iter_mut().find(|c| c.id == status.id) {
            Some(known) if rank(&known.state) >= rank(&status.state) => return None,
            Some(known) => *known = status,
            None => self.containers.push(status),
        }
        ended.then_some(id)
    }

    /// Takes in a sandbox's status; one that was stopped never becomes ready again.
    pub(crate) fn sandbox(&mut self, status: SandboxStatus) {
        if self.removed.contains(&status.id) {
            return;
        }
        match self.sandboxes.iter_mut().find(|s| s.id == status.id) {
            Some(known) if known.state == SandboxState::NotReady => {}
            // Limits and notes only change by the worker's own steps; what is told of it may be older.
            Some(known) => {
                let SandboxStatus {
                    resources,
                    annotations,
                    ..
                } = std::mem::replace(known, status);
                known.resources = resources;
                known.annotations = annotations;
            }
            None => self.sandboxes.push(status),
        }
    }

    /// Takes in the limits of a sandbox that were changed.
    pub(crate) fn resized_sandbox(&mut self, status: SandboxStatus) {
        if let Some(known) = self.sandboxes.iter_mut().find(|s| s.id == status.id) {
            known.resources = status.resources;
            known.annotations = status.annotations;
        }
    }

    /// Takes in the limits of a container that were changed.
    pub(crate) fn resized_container(&mut self, status: ContainerStatus) {
        if let Some(known) = self.containers.iter_mut().find(|c| c.id == status.id) {
            known.resources = status.resources;
            known.annotations = status.annotations;
        }
    }

    pub(crate) fn sandbox_stopped(&mut self, id: &str) {
        if let Some(known) = self.sandboxes.iter_mut().find(|s| s.id == id) {
            known.state = SandboxState::NotReady;
        }
    }

    pub(crate) fn remove_container(&mut self, id: &str) {
        self.removed.insert(id.to_owned());
        self.containers.retain(|c| c.id != id);
    }

    pub(crate) fn remove_sandbox(&mut self, id: &str) {
        self.removed.insert(id.to_owned());
        self.sandboxes.retain(|s| s.id != id);
        let (gone, left) = std::mem::take(&mut self.containers)
            .into_iter()
            .partition(|c| c.sandbox_id == id);
        self.containers = left;
        self.removed
            .extend(Vec::<ContainerStatus>::into_iter(gone).map(|c| c.id));
    }
}

/// States only ever move on.
fn rank(state: &ContainerState) -> u8 {
    match state {
        ContainerState::Unknown => 0,
        ContainerState::Created => 1,
        ContainerState::Running { .. } => 2,
        ContainerState::Exited { .. } => 3,
    }
}
