//! What the node runs out of, and who has to go then (§2.9, upstream's eviction manager): thresholds, conditions that last for a
//! while, and ranks of Pods. Who uses more than it asked for goes first, then who is less important, then who uses most.

mod rank;
mod threshold;
mod watch;

use std::collections::BTreeSet;

use api::fit;
use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::admit::Rejection;
use crate::plan::Event;
use crate::preempt;
use crate::resources::{self, Qos};

pub use rank::{Usage, evict};
pub use threshold::{BadSetting, BadThreshold, Level, Policy, Settings, Signal, Threshold};
pub use watch::{Found, Met, Watch};

/// A condition of a node under pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pressure {
    /// The condition's type.
    pub condition: &'static str,
    /// Its reason and message while it is true.
    pub pressed: [&'static str; 2],
    /// Its reason and message while it is not.
    pub relieved: [&'static str; 2],
    /// Key of the taint that keeps new Pods away.
    pub taint: &'static str,
    /// Reasons of the Events that tell of its beginning and of its end.
    events: [&'static str; 2],
}

impl Pressure {
    /// What is told of the node when it comes under this pressure, or out of it (§2.9).
    pub fn event(&self, node: &str, is_pressed: bool) -> Event {
        let [begins, ends] = self.events;
        let reason = if is_pressed { begins } else { ends };
        let message = format!("Node {node} status is now: {reason}");
        Event::normal(reason, message)
    }
}

/// Memory runs out.
pub const MEMORY: Pressure = Pressure {
    condition: "MemoryPressure",
    pressed: [
        "KubeletHasInsufficientMemory",
        "kubelet has insufficient memory available",
    ],
    relieved: [
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ],
    taint: "node.kubernetes.io/memory-pressure",
    events: ["NodeHasInsufficientMemory", "NodeHasSufficientMemory"],
};
/// Room on the disk runs out.
pub const DISK: Pressure = Pressure {
    condition: "DiskPressure",
    pressed: ["KubeletHasDiskPressure", "kubelet has disk pressure"],
    relieved: ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
    taint: "node.kubernetes.io/disk-pressure",
    events: ["NodeHasDiskPressure", "NodeHasNoDiskPressure"],
};
/// Process ids run out.
pub const PIDS: Pressure = Pressure {
    condition: "PIDPressure",
    pressed: [
        "KubeletHasInsufficientPID",
        "kubelet has insufficient PID available",
    ],
    relieved: [
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ],
    taint: "node.kubernetes.io/pid-pressure",
    events: ["NodeHasInsufficientPID", "NodeHasSufficientPID"],
};
/// All of them, in the order of a node's conditions.
pub const PRESSURES: [Pressure; 3] = [MEMORY, DISK, PIDS];

/// Why a node under these pressures refuses a Pod, if it does (§1.2): critical Pods are let in, and where memory alone runs out, who
/// asks for something or tolerates it.
pub fn refuse(pod: &Pod, pressures: &BTreeSet<Pressure>) -> Option<Rejection> {
    if pressures.is_empty() || preempt::is_critical(pod) {
        return None;
    }
    if pressures.iter().eq([&MEMORY]) {
        let taint = Taint {
            key: MEMORY.taint.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let asks = resources::qos(pod) != Qos::BestEffort;
        if asks || fit::tolerates(fit::tolerations(pod), &taint) {
            return None;
        }
    }
    let names: Vec<&str> = pressures.iter().map(|p| p.condition).collect();
    Some(Rejection {
        reason: "Evicted".to_owned(),
        message: format!("The node had condition: [{}]. ", names.join(" ")),
    })
}

#[cfg(test)]
mod tests;
