//! What the node runs out of, and what is done about it (§1.2, §2.9): nobody is evicted or refused for nothing (24), no image goes that
//! somebody needs, and in the end it is over.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use ports::runtime::ContainerState;

use super::{Checks, Known, ensure};
use crate::machine::{Machine, Made};
use crate::scenario::LOADED;

/// What is left of the second of a hard eviction, and the most a soft one may take.
const HARD: Duration = Duration::from_secs(2);
pub(crate) const SOFT: Duration = Duration::from_secs(20);

/// What the machine can have too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lack {
    Memory,
    Disk,
}

impl Lack {
    /// The resource that an eviction is for.
    fn resource(self) -> &'static str {
        match self {
            Lack::Memory => "memory",
            Lack::Disk => "ephemeral-storage",
        }
    }

    /// The condition that a refusal is for.
    fn condition(self) -> &'static str {
        match self {
            Lack::Memory => "MemoryPressure",
            Lack::Disk => "DiskPressure",
        }
    }
}

/// Why a Pod was evicted: nobody is for nothing.
pub(super) fn check_evicted(known: &Known) -> Result<(), String> {
    let status = known.pod.status.clone().unwrap_or_default();
    if status.reason.as_deref() != Some("Evicted") {
        return Ok(());
    }
    let message = status.message.unwrap_or_default();
    // An eviction over the API, later, tells of itself instead.
    let mut targets = status.conditions.iter().flatten();
    let target = targets.find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    let by_node = target.is_some_and(|c| c.reason.as_deref() == Some("TerminationByKubelet"));
    let between = |before: &str, after: &str| {
        let (_, rest) = message.split_once(before)?;
        Some(rest.split_once(after)?.0.to_owned())
    };
    let is_right = if let Some(resource) = between("The node was low on resource: ", ". ") {
        let mut lacked = known.lacked.iter();
        lacked.any(|lack| lack.resource() == resource) && target.is_some()
    } else if let Some(conditions) = between("The node had condition: [", "]. ") {
        let lacked = |condition| known.lacked.iter().any(|l| l.condition() == condition);
        conditions.split(' ').all(lacked) && !by_node
    } else {
        let of_volume = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ";
        message == of_volume && known.has_filled && !by_node
    };
    let is_failed = status.phase.as_deref() == Some("Failed");
    ensure(is_right && is_failed, || {
        format!("24: evicted in phase {:?}: {message}", status.phase)
    })
}

impl Known {
    /// The most a container of the Pod may be given when the node ends it, if it may.
    pub(super) fn eviction(&self) -> Option<Duration> {
        match (self.lacked.is_empty(), self.has_filled) {
            (false, _) => Some(SOFT),
            (true, true) => Some(HARD),
            (true, false) => None,
        }
    }
}

impl Checks {
    /// The machine has too little of something; any Pod may have to go from now on.
    pub(crate) fn node_lacks(&mut self, what: Lack) {
        self.lacked.insert(what);
        for known in self.pods.values_mut() {
            known.lacked.insert(what);
        }
    }

    /// A container of this Pod fills its volume.
    pub(crate) fn fills(&mut self, uid: &str) {
        if let Some(known) = self.pods.get_mut(uid) {
            known.has_filled = true;
        }
    }

    /// An image is removed: the disk is or was full, nobody has a container of it, and it can be pulled again.
    pub(crate) fn image_goes(&self, image: &str, machine: &Machine) -> Result<(), String> {
        ensure(self.lacked.contains(&Lack::Disk), || {
            format!("image {image} is removed although there is room")
        })?;
        ensure(image != LOADED, || {
            format!("image {image} is removed, which no registry has")
        })?;
        let is_over = |made: &&Made| matches!(made.status.state, ContainerState::Exited { .. });
        let mut alive = machine.containers.values().filter(|made| !is_over(made));
        let user = alive.find(|made| made.config.image_id.ends_with(image));
        ensure(user.is_none(), || {
            let name = user.map(|made| made.status.name.clone());
            format!("image {image} is removed, of which {name:?} is made")
        })
    }

    /// The Node was stored.
    pub(crate) fn node_stored(&mut self, node: Node) {
        self.node = node;
    }

    /// When all is quiet, the node is under no pressure.
    pub(super) fn node_settled(&self) -> Result<(), String> {
        let status = self.node.status.as_ref();
        let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
        let pressed = conditions.find(|c| c.type_.ends_with("Pressure") && c.status == "True");
        ensure(pressed.is_none(), || {
            format!("the node is still under {pressed:?}")
        })?;
        let taints = self.node.spec.as_ref().and_then(|s| s.taints.clone());
        ensure(taints.is_none_or(|all| all.is_empty()), || {
            "the node is still tainted".to_owned()
        })
    }
}
