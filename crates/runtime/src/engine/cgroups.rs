//! Which cgroup is whose: `<root>/<QoS class>/pod<uid>` the Pod's, below it one for each pause and container, named by its id.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use ports::runtime::{Id, Resources, RuntimeError, SeccompProfile, SecurityContext, Stats};

use super::record::{ContainerRecord, SandboxRecord};
use super::{Inner, lock};
use crate::cgroup::{CgroupError, Devices, Group, Layout, Role, Tree, detect};
use crate::launch::{CgroupEntry, SeccompProgram, capabilities};
use crate::seccomp;

/// What was killed has left its group by then, or hangs in the kernel.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// The group of the Pods that ask for something of the node, each for what it asks.
const BURSTABLE: &str = "burstable";
/// The least a group can have.
const LEAST_SHARES: u64 = 2;

/// The engine's tree of cgroups.
pub(crate) struct Cgroups {
    tree: Tree,
    /// CPU shares of the sandboxes in the group of all Burstable Pods, which has as many together (spec/pod-lifecycle 12.3).
    burstable: Mutex<BTreeMap<Id, u64>>,
}

impl Cgroups {
    pub(super) fn new(root: &str) -> Result<Self, CgroupError> {
        let tree = Tree::new(detect()?, root);
        tree.prepare()?;
        Ok(Self {
            tree,
            burstable: Mutex::default(),
        })
    }

    /// Where cgroups are.
    pub(super) fn layout(&self) -> &Layout {
        self.tree.layout()
    }

    /// Removes every group, empty ones as they must be.
    pub(super) fn remove_all(&self) -> Result<(), CgroupError> {
        self.tree.group("").remove()
    }

    /// The Pod's own group.
    pub(super) fn pod(&self, sandbox: &SandboxRecord) -> Group {
        self.tree.group(&sandbox.config.cgroup_parent)
    }

    /// Pause's own group in its Pod's.
    pub(super) fn pause(&self, sandbox: &SandboxRecord) -> Group {
        self.pod(sandbox).leaf(&sandbox.id)
    }

    /// What pause enters. Its containers are born where it is and go on to their own groups.
    pub(super) fn pause_entry(&self, sandbox: &SandboxRecord) -> CgroupEntry {
        let mut entry = self.tree.group("").entry();
        for group in [self.pod(sandbox), self.pause(sandbox)] {
            let CgroupEntry { v2, v1 } = group.entry();
            entry.v2 = v2;
            entry.v1.extend(v1);
        }
        entry
    }

    pub(super) fn container(&self, sandbox: &SandboxRecord, id: &str) -> Group {
        self.pod(sandbox).child(id)
    }

    /// The Pod's group with its limits, and pause's in it.
    pub(super) fn make_sandbox(&self, sandbox: &SandboxRecord) -> Result<(), CgroupError> {
        let pod = self.pod(sandbox);
        pod.create(&sandbox.config.resources, Role::Parent, Devices::All)?;
        self.pause(sandbox).make()?;
        self.weigh(sandbox)
    }

    /// Counts what a sandbox that is there is allocated towards what all Burstable Pods have together.
    pub(super) fn weigh(&self, sandbox: &SandboxRecord) -> Result<(), CgroupError> {
        let parent = &sandbox.config.cgroup_parent;
        if !parent.starts_with(&format!("{BURSTABLE}/")) {
            return Ok(());
        }
        let shares = sandbox.config.resources.cpu_shares.unwrap_or(LEAST_SHARES);
        self.change_burstable(|all| all.insert(sandbox.id.clone(), shares))
    }

    /// A sandbox is not there any more.
    pub(super) fn forget(&self, sandbox: &str) -> Result<(), CgroupError> {
        self.change_burstable(|all| all.remove(sandbox))
    }

    fn change_burstable(
        &self,
        change: impl FnOnce(&mut BTreeMap<Id, u64>) -> Option<u64>,
    ) -> Result<(), CgroupError> {
        let sum = |all: &BTreeMap<Id, u64>| all.values().sum::<u64>().max(LEAST_SHARES);
        let mut all = lock(&self.burstable);
        let before = sum(&all);
        change(&mut all);
        if sum(&all) == before {
            return Ok(());
        }
        let together = Resources {
            cpu_shares: Some(sum(&all)),
            ..Resources::default()
        };
        self.tree.group(BURSTABLE).update(&together)
    }

    /// A container's group with its limits.
    pub(super) fn make_container(
        &self,
        sandbox: &SandboxRecord,
        container: &ContainerRecord,
    ) -> Result<Group, CgroupError> {
        let group = self.container(sandbox, &container.id);
        let devices = if container.config.security.privileged {
            Devices::All
        } else {
            Devices::Default
        };
        group.create(&container.resources, Role::Container, devices)?;
        Ok(group)
    }

    /// Kills what runs in pause's group; its containers are killed one by one.
    pub(super) fn kill_sandbox(&self, sandbox: &SandboxRecord) {
        self.kill(&self.pause(sandbox));
    }

    /// Kills what is left of a container.
    pub(super) fn kill_container(&self, sandbox: &SandboxRecord, id: &str) {
        self.kill(&self.container(sandbox, id));
    }

    fn kill(&self, group: &Group) {
        // Fails when the group is gone, and then nothing is in it. Removing it tells if something could not be killed.
        if let Err(error) = group.kill() {
            tracing::debug!(group = %group.path().display(), %error, "cgroup not killed");
        }
    }

    /// Removes a group once it is empty. Blocks until then.
    pub(super) fn remove(&self, group: &Group) -> Result<(), CgroupError> {
        // An absent group has no state to wait for.
        match group.wait_empty(EMPTY_WITHIN) {
            Err(error @ CgroupError::Busy { .. }) => Err(error),
            _ => group.remove(),
        }
    }

    /// Removes the Pod's group, unless another sandbox of the Pod is in it.
    pub(super) fn remove_pod(&self, sandbox: &SandboxRecord) -> Result<(), CgroupError> {
        let pod = self.pod(sandbox);
        match pod.populated() {
            Ok(false) => pod.remove(),
            _ => Ok(()),
        }
    }

    /// The kernel's figures for a Pod.
    pub(super) fn sandbox_stats(&self, sandbox: &SandboxRecord) -> Result<Stats, CgroupError> {
        self.pod(sandbox).stats()
    }
}

impl Inner {
    /// The filter a container's profile stands for.
    pub(super) fn seccomp_program(
        &self,
        security: &SecurityContext,
    ) -> Result<Option<SeccompProgram>, RuntimeError> {
        if security.privileged {
            return Ok(None);
        }
        let refused = |error: String| RuntimeError::Create(error);
        let capabilities = capabilities::resolve(
            false,
            &security.add_capabilities,
            &security.drop_capabilities,
        );
        let bounding = capabilities
            .map_err(|error| refused(error.to_string()))?
            .bounding;
        match &security.seccomp {
            SeccompProfile::Unconfined => Ok(None),
            SeccompProfile::RuntimeDefault => {
                let mut cache = lock(&self.seccomp);
                Ok(Some(
                    cache
                        .entry(bounding)
                        .or_insert_with(|| seccomp::runtime_default(bounding))
                        .clone(),
                ))
            }
            // Read anew each time: the node's administrator may have changed it.
            SeccompProfile::Localhost(path) => {
                let told = |error: &dyn std::fmt::Display| {
                    refused(format!(
                        "cannot load seccomp profile {:?}: {error}",
                        path.display().to_string()
                    ))
                };
                let json = std::fs::read_to_string(path).map_err(|error| told(&error))?;
                seccomp::compile_profile(&json, bounding)
                    .map(Some)
                    .map_err(|error| told(&error))
            }
        }
    }
}
