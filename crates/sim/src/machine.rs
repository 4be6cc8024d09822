//! The machine as it is: sandboxes, containers, images and the directories of Pods. It outlives every engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use ports::runtime::{
    ContainerConfig, ContainerState, ContainerStatus, Id, RuntimeEvent, SandboxState, SandboxStatus,
};
use tokio::sync::broadcast;

use crate::scenario::Run;

/// Events a receiver may leave unread: few, so that some are missed.
const EVENTS: usize = 16;

/// Bytes of the disk, and of each image.
pub(crate) const DISK: u64 = 4 << 30;
pub(crate) const IMAGE: u64 = 40 << 20;

/// A container and what will become of it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) status: ContainerStatus,
    pub(crate) config: ContainerConfig,
    /// What its run does, once it was started.
    pub(crate) run: Option<Run>,
    /// When it began, and when it ends by itself, and how.
    pub(crate) began: Duration,
    pub(crate) end: Option<(Duration, i32)>,
    /// The agent that sent its stop signal last, and the one that ran its `preStop` hook.
    pub(crate) signalled_by: Option<u64>,
    pub(crate) pre_stopped_by: Option<u64>,
}

impl Made {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.status.state, ContainerState::Running { .. })
    }
}

/// A run that ended.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) code: i32,
    pub(crate) at: Duration,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct Machine {
    ids: u64,
    pub(crate) sandboxes: BTreeMap<Id, SandboxStatus>,
    pub(crate) containers: BTreeMap<Id, Made>,
    /// By name, which is also the id behind its prefix.
    pub(crate) images: BTreeSet<String>,
    /// Bytes of the disk that neither images nor Pods take.
    pub(crate) clutter: u64,
    /// Volumes in place, by Pod UID; a Pod with a directory has an entry.
    pub(crate) volumes: BTreeMap<String, BTreeSet<String>>,
    pub(crate) events: broadcast::Sender<RuntimeEvent>,
}

impl Default for Machine {
    fn default() -> Self {
        Machine {
            ids: 0,
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            clutter: 0,
            volumes: BTreeMap::new(),
            events: broadcast::channel(EVENTS).0,
        }
    }
}

impl Machine {
    /// A new id, as long as the real ones.
    pub(crate) fn id(&mut self) -> Id {
        self.ids += 1;
        format!("{:064x}", self.ids)
    }

    /// Tells whoever listens; when no agent runs, nobody does.
    pub(crate) fn tell(&self, event: RuntimeEvent) {
        drop(self.events.send(event));
    }

    /// When something ends by itself next.
    pub(crate) fn next_end(&self) -> Option<Duration> {
        let running = self.containers.values().filter(|c| c.is_running());
        running.filter_map(|c| c.end.map(|(at, _)| at)).min()
    }

    /// The containers that have ended by `passed`, first ones first.
    pub(crate) fn due(&self, passed: Duration) -> Vec<(Id, Duration, i32)> {
        let running = self.containers.iter().filter(|(_, c)| c.is_running());
        let ends = running.filter_map(|(id, c)| c.end.map(|(at, code)| (id.clone(), at, code)));
        let mut due: Vec<_> = ends.filter(|(_, at, _)| *at <= passed).collect();
        due.sort_by_key(|(_, at, _)| *at);
        due
    }

    /// Ends a running container.
    pub(crate) fn end(
        &mut self,
        id: &str,
        at: Duration,
        now: Timestamp,
        code: i32,
    ) -> Option<Exit> {
        let made = self.containers.get_mut(id)?;
        let ContainerState::Running { started_at } = made.status.state else {
            return None;
        };
        let reason = if code == 0 { "Completed" } else { "Error" };
        made.status.state = ContainerState::Exited {
            started_at,
            finished_at: now,
            exit_code: code,
            reason: reason.to_owned(),
            message: String::new(),
        };
        let status = made.status.clone();
        leave_message(&made.config, code);
        self.tell(RuntimeEvent::Container(Box::new(status.clone())));
        Some(Exit {
            uid: status.pod_uid,
            name: status.name,
            code,
            at,
        })
    }

    /// Bytes that are left of the disk.
    pub(crate) fn disk_left(&self) -> u64 {
        let images = u64::try_from(self.images.len()).unwrap_or(u64::MAX);
        DISK.saturating_sub(self.clutter.saturating_add(images * IMAGE))
    }

    /// Fills the disk until so many bytes are left of it, if there are more.
    pub(crate) fn clutter_to(&mut self, left: u64) {
        self.clutter += self.disk_left().saturating_sub(left);
    }

    /// Kills a sandbox's containers and takes it down.
    pub(crate) fn kill_sandbox(&mut self, id: &str, at: Duration, now: Timestamp) -> Vec<Exit> {
        let inside = self.containers.iter();
        let inside: Vec<Id> = inside
            .filter(|(_, c)| c.status.sandbox_id == id && c.is_running())
            .map(|(id, _)| id.clone())
            .collect();
        let exits = inside
            .iter()
            .filter_map(|id| self.end(id, at, now, 137))
            .collect();
        if let Some(sandbox) = self.sandboxes.get_mut(id) {
            sandbox.state = SandboxState::NotReady;
            let status = sandbox.clone();
            self.tell(RuntimeEvent::Sandbox(Box::new(status)));
        }
        exits
    }

    /// Containers of a Pod that run.
    pub(crate) fn running(&self, uid: &str) -> impl Iterator<Item = &Made> {
        let of_pod = self
            .containers
            .values()
            .filter(move |c| c.status.pod_uid == uid);
        of_pod.filter(|c| c.is_running())
    }
}

/// A container that fails says so in its termination message. The file may be gone with the Pod.
fn leave_message(config: &ContainerConfig, code: i32) {
    let path = std::path::Path::new("/dev/termination-log");
    let file = config.mounts.iter().find(|m| m.container_path == path);
    if let Some(file) = file.filter(|_| code != 0) {
        drop(std::fs::write(
            &file.host_path,
            format!("ended with {code}"),
        ));
    }
}
