//! Which nodes can take a Pod (upstream's filter plugins NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts,
//! NodeResourcesFit, PodTopologySpread and InterPodAffinity, in this order), as pure functions. The words are upstream's: clients read them in `FailedScheduling` events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::fit;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use lifecycle::room::Room;
use lifecycle::share::Share;

use crate::affinity::Company;
use crate::cluster::{Cluster, priority};
use crate::preempt;
use crate::spread::Spread;

const UNSCHEDULABLE: &str = "node(s) were unschedulable";
const TAINT: &str = "node(s) had untolerated taint(s)";

/// Why a node cannot take a Pod.
pub(crate) struct Obstacle {
    reasons: Vec<String>,
    /// It could if other Pods were not there.
    pub(crate) is_in_use: bool,
}

impl Obstacle {
    /// Whatever other Pods do.
    pub(crate) fn for_good(reason: &str) -> Self {
        Obstacle {
            reasons: vec![reason.to_owned()],
            is_in_use: false,
        }
    }

    /// Because of other Pods.
    pub(crate) fn in_use(reason: &str) -> Self {
        Obstacle {
            is_in_use: true,
            ..Self::for_good(reason)
        }
    }

    pub(crate) fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

/// How many nodes have a reason.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<String, usize>);

impl Tally {
    pub(crate) fn add(&mut self, reasons: &[String]) {
        for reason in reasons {
            *self.0.entry(reason.clone()).or_insert(0) += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.0.iter().map(|(reason, n)| format!("{n} {reason}"));
        let mut texts: Vec<String> = texts.collect();
        texts.sort();
        f.write_str(&texts.join(", "))
    }
}

/// What a Pod is weighed with: what it asks for, and what others that stand somewhere mean for it.
pub(crate) struct Trial<'a> {
    pod: &'a Pod,
    uid: &'a str,
    share: Share,
    cluster: &'a Cluster,
    /// Pods that are taken for gone, by UID.
    gone: BTreeSet<&'a str>,
    spread: Spread<'a>,
    company: Company<'a>,
}

impl<'a> Trial<'a> {
    /// Of this Pod, if those of these UIDs were gone.
    pub(crate) fn new(pod: &'a Pod, cluster: &'a Cluster, gone: BTreeSet<&'a str>) -> Self {
        Trial {
            uid: pod.metadata.uid.as_deref().unwrap_or_default(),
            share: Share::of(pod),
            spread: Spread::of(pod, cluster, &gone),
            company: Company::of(pod, cluster, &gone),
            pod,
            cluster,
            gone,
        }
    }

    /// What the first filter that keeps the Pod off the node says.
    pub(crate) fn obstacle(&self, node: &Node, room: &Room) -> Option<Obstacle> {
        if let Some(reason) = mismatch(self.pod, node) {
            return Some(Obstacle::for_good(reason));
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let weighed = (self.uid, priority(self.pod));
        let other = self.cluster.room_without(name, &self.gone, weighed);
        let room = other.as_ref().unwrap_or(room);
        if room.is_port_taken(self.uid, &self.share) {
            return Some(Obstacle::in_use(fit::PORTS_TAKEN));
        }
        let short = room.shortages(self.uid, &self.share);
        if !short.is_empty() {
            return Some(Obstacle {
                is_in_use: !short.iter().any(|s| s.is_for_good()),
                reasons: short.iter().map(|s| s.summary()).collect(),
            });
        }
        let uneven = self.spread.obstacle(node);
        uneven.or_else(|| self.company.obstacle(node))
    }
}

/// The name of a node that can take the Pod.
///
/// # Errors
/// What keeps it off each node, by name.
pub(crate) fn choose<'a>(
    pod: &'a Pod,
    cluster: &'a Cluster,
) -> Result<String, BTreeMap<&'a str, Obstacle>> {
    let trial = Trial::new(pod, cluster, BTreeSet::new());
    let mut obstacles = BTreeMap::new();
    // Others were told to make room for it there.
    let nominated = cluster.nomination(trial.uid);
    let mut nodes: Vec<_> = cluster.nodes().collect();
    nodes.sort_by_key(|(name, ..)| Some(*name) != nominated);
    for (name, node, room) in nodes {
        match trial.obstacle(node, room) {
            None => return Ok(name.to_owned()),
            Some(obstacle) => drop(obstacles.insert(name, obstacle)),
        }
    }
    Err(obstacles)
}

/// Why no node can take a Pod, in the words of a `FailedScheduling` event; `preemption` says why nobody was told to make room.
pub(crate) fn refusal(nodes: usize, reasons: &str, preemption: Option<&str>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let nothing = preemption.map(|why| format!(" no new claims to deallocate, preemption: {why}"));
    let nothing = nothing.unwrap_or_default();
    format!("0/{nodes} nodes are available: {reasons}.{nothing}")
}

/// The same, whichever node it is.
pub(crate) fn on_none(nodes: usize, why: &str) -> String {
    let hopeless = preempt::unhelpful(nodes, &format!("{nodes} {}", preempt::HOPELESS));
    refusal(nodes, why, Some(&hopeless))
}

/// Whether anything that [`choose`] looks at differs between two states of a node.
pub(crate) fn differs(a: &Node, b: &Node) -> bool {
    a.spec != b.spec
        || a.metadata.labels != b.metadata.labels
        || is_ready(a) != is_ready(b)
        || allocatable(a) != allocatable(b)
}

/// What Pods can hold of a node together.
pub(crate) fn allocatable(node: &Node) -> Share {
    Share::listed(node.status.as_ref().and_then(|s| s.allocatable.as_ref()))
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
