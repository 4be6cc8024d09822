//! Which nodes can take a Pod (upstream's filter plugins NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts and
//! NodeResourcesFit, in this order), as pure functions. The words are upstream's: clients read them in `FailedScheduling` events.

use std::collections::BTreeMap;

use api::fit;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use lifecycle::room::Room;
use lifecycle::share::Share;

const UNSCHEDULABLE: &str = "node(s) were unschedulable";
const TAINT: &str = "node(s) had untolerated taint(s)";
/// Nothing that other Pods could leave would help.
const HOPELESS: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// Why a node cannot take a Pod.
struct Obstacle {
    reasons: Vec<String>,
    /// It could if other Pods were not there.
    is_in_use: bool,
}

/// The name of a node that can take the Pod. A node comes with what is held of it.
///
/// # Errors
/// Why none can, in the words of a `FailedScheduling` event.
pub fn choose<'a>(
    pod: &Pod,
    nodes: impl Iterator<Item = (&'a Node, &'a Room)>,
) -> Result<String, String> {
    let (mut reasons, mut preemption) = (BTreeMap::new(), BTreeMap::new());
    let mut count = 0;
    for (node, room) in nodes {
        count += 1;
        let Some(obstacle) = obstacle(pod, node, room) else {
            return Ok(node.metadata.name.clone().unwrap_or_default());
        };
        for reason in obstacle.reasons {
            *reasons.entry(reason).or_insert(0) += 1;
        }
        let victims = if obstacle.is_in_use {
            NO_VICTIMS
        } else {
            HOPELESS
        };
        *preemption.entry(victims.to_owned()).or_insert(0) += 1;
    }
    Err(refusal(count, &counted(&reasons), &counted(&preemption)))
}

/// Why no node can take a Pod, whichever it is.
pub(crate) fn on_none(nodes: usize, why: &str) -> String {
    refusal(nodes, why, &format!("{nodes} {HOPELESS}"))
}

fn refusal(nodes: usize, reasons: &str, preemption: &str) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    format!(
        "0/{nodes} nodes are available: {reasons}. no new claims to deallocate, preemption: 0/{nodes} nodes are available: {preemption}."
    )
}

fn counted(reasons: &BTreeMap<String, usize>) -> String {
    let mut texts: Vec<String> = reasons
        .iter()
        .map(|(reason, n)| format!("{n} {reason}"))
        .collect();
    texts.sort();
    texts.join(", ")
}

/// Whether anything that [`choose`] looks at differs between two states of a node.
pub fn differs(a: &Node, b: &Node) -> bool {
    a.spec != b.spec
        || a.metadata.labels != b.metadata.labels
        || is_ready(a) != is_ready(b)
        || allocatable(a) != allocatable(b)
}

/// What Pods can hold of a node together.
pub fn allocatable(node: &Node) -> Share {
    Share::listed(node.status.as_ref().and_then(|s| s.allocatable.as_ref()))
}

/// What the first filter that keeps the Pod off the node says.
fn obstacle(pod: &Pod, node: &Node, room: &Room) -> Option<Obstacle> {
    if let Some(reason) = mismatch(pod, node) {
        return Some(Obstacle {
            reasons: vec![reason.to_owned()],
            is_in_use: false,
        });
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let share = Share::of(pod);
    if room.is_port_taken(uid, &share) {
        return Some(Obstacle {
            reasons: vec![fit::PORTS_TAKEN.to_owned()],
            is_in_use: true,
        });
    }
    let short = room.shortages(uid, &share);
    (!short.is_empty()).then(|| Obstacle {
        is_in_use: !short.iter().any(|s| s.is_for_good()),
        reasons: short.iter().map(|s| s.summary()).collect(),
    })
}

/// What keeps the Pod off the node, whatever else is there.
fn mismatch(pod: &Pod, node: &Node) -> Option<&'static str> {
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|s| s.unschedulable).unwrap_or(false);
    let tolerates = |key| fit::tolerates(fit::tolerations(pod), &taint(key));
    if cordoned && !tolerates("node.kubernetes.io/unschedulable") {
        return Some(UNSCHEDULABLE);
    }
    if !fit::is_named(pod, node) {
        return Some(fit::OTHER_NAME);
    }
    let not_ready = !is_ready(node) && !tolerates("node.kubernetes.io/not-ready");
    if not_ready || !fit::tolerates_all(pod, node, &["NoSchedule", "NoExecute"]) {
        return Some(TAINT);
    }
    (!fit::is_affine(pod, node)).then_some(fit::NOT_AFFINE)
}

fn taint(key: &str) -> Taint {
    Taint {
        key: key.into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
