//! Whose place a more important Pod takes where there is too little (upstream's plugin DefaultPreemption).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use api::selector::Selector;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::room::Room;

use crate::cluster::{Cluster, Placed, priority};
use crate::fit::{Obstacle, Tally, Trial};

/// Nothing that other Pods could leave would help.
pub(crate) const HOPELESS: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NEVER: &str = "not eligible due to preemptionPolicy=Never.";
/// Why a Pod that makes room is told to go, in its condition `DisruptionTarget`.
pub(crate) const REASON: &str = "PreemptionByScheduler";

/// How many Pods of some may be disrupted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Budget {
    selector: Selector,
    allowed: i32,
    /// Pods it has counted already, by name.
    disrupted: BTreeSet<String>,
}

impl Budget {
    pub(crate) fn of(budget: &PodDisruptionBudget) -> Self {
        let (spec, status) = (budget.spec.as_ref(), budget.status.as_ref());
        let selector = Selector::from_object(spec.and_then(|s| s.selector.as_ref()));
        let disrupted = status.and_then(|s| s.disrupted_pods.as_ref());
        Budget {
            selector: selector.unwrap_or_else(|_| Selector::nothing()),
            allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
            disrupted: disrupted
                .into_iter()
                .flat_map(|pods| pods.keys().cloned())
                .collect(),
        }
    }
}

/// Pods that make room on a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Victims {
    pub(crate) node: String,
    /// By UID, the most important first.
    pub(crate) pods: Vec<String>,
    /// How many of them no budget allows.
    violations: usize,
}

/// Whether a Pod leaves because it was told to make room.
pub(crate) fn is_preempted(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let found = conditions.find(|condition| condition.type_ == "DisruptionTarget");
    pod.metadata.deletion_timestamp.is_some()
        && found.is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some(REASON))
}

/// The node a Pod waits for, whose victims leave.
pub(crate) fn nomination(pod: &Pod) -> Option<&str> {
    let name = pod.status.as_ref()?.nominated_node_name.as_deref()?;
    Some(name).filter(|name| !name.is_empty())
}

/// Who makes room for a Pod that these obstacles keep off the nodes; nobody else while some leave already.
///
/// # Errors
/// Nobody, and why, in upstream's words.
pub(crate) fn victims(
    pod: &Pod,
    cluster: &Cluster,
    obstacles: &BTreeMap<&str, Obstacle>,
) -> Result<Option<Victims>, String> {
    let policy = pod
        .spec
        .as_ref()
        .and_then(|s| s.preemption_policy.as_deref());
    if policy == Some("Never") {
        return Err(NEVER.to_owned());
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if let Some(nominated) = cluster.nomination(uid) {
        let makes_room =
            |p: &Placed| p.node == nominated && p.is_preempted && p.priority < priority(pod);
        let is_hopeful = obstacles.get(nominated).is_none_or(|o| o.is_in_use);
        if is_hopeful && cluster.placed().any(|(_, placed)| makes_room(placed)) {
            return Ok(None);
        }
    }
    let (mut candidates, mut tally) = (Vec::new(), Tally::default());
    for (name, node, room) in cluster.nodes() {
        let is_in_use = obstacles.get(name).is_some_and(|o| o.is_in_use);
        if !is_in_use {
            tally.add(&[HOPELESS.to_owned()]);
            continue;
        }
        match on_node(pod, cluster, (name, node, room)) {
            Ok(victims) => candidates.push(victims),
            Err(reasons) => tally.add(&reasons),
        }
    }
    let best = candidates.into_iter().min_by_key(|c| cost(cluster, c));
    best.map(Some)
        .ok_or_else(|| unhelpful(obstacles.len(), &tally.to_string()))
}

/// That preemption helps on none of so many nodes, for these reasons.
pub(crate) fn unhelpful(nodes: usize, reasons: &str) -> String {
    format!("0/{nodes} nodes are available: {reasons}.")
}

/// The fewest Pods that have to leave a node so that this one fits.
///
/// # Errors
/// Why not even all that are less important would be enough.
fn on_node(
    pod: &Pod,
    cluster: &Cluster,
    (name, node, room): (&str, &Node, &Room),
) -> Result<Victims, Vec<String>> {
    let own = priority(pod);
    let lower = |(_, placed): &(&str, &Placed)| placed.node == name && placed.priority < own;
    let mut lower: Vec<(&str, &Placed)> = cluster.placed().filter(lower).collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS.to_owned()]);
    }
    let mut gone: BTreeSet<&str> = lower.iter().map(|(uid, _)| *uid).collect();
    if let Some(obstacle) = Trial::new(pod, cluster, gone.clone()).obstacle(node, room) {
        return Err(obstacle.reasons().to_vec());
    }
    lower.sort_by_key(|(_, placed)| importance(placed));
    // Those that no budget allows to go are the first that may stay.
    let (violating, others) = by_budget(cluster, &lower);
    let mut violations = 0;
    for (uid, breaks_budget) in violating
        .iter()
        .map(|uid| (*uid, true))
        .chain(others.iter().map(|uid| (*uid, false)))
    {
        gone.remove(uid);
        let trial = Trial::new(pod, cluster, gone.clone());
        if trial.obstacle(node, room).is_some() {
            gone.insert(uid);
            violations += usize::from(breaks_budget);
        }
    }
    let pods = lower.iter().filter(|(uid, _)| gone.contains(uid));
    Ok(Victims {
        node: name.to_owned(),
        pods: pods.map(|(uid, _)| (*uid).to_owned()).collect(),
        violations,
    })
}

/// The more important of two Pods comes first: by priority, then by how long it has run.
fn importance(placed: &Placed) -> (Reverse<i32>, bool, Option<&Time>) {
    let started = placed.started.as_ref();
    (Reverse(placed.priority), started.is_none(), started)
}

/// UIDs of those that no budget allows to go, and of the others.
fn by_budget<'a>(cluster: &Cluster, pods: &[(&'a str, &Placed)]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut left: BTreeMap<_, i32> = BTreeMap::new();
    pods.iter().map(|(uid, _)| *uid).partition(|uid| {
        let placed = pods.iter().find(|(other, _)| other == uid);
        let Some((_, placed)) = placed.filter(|(_, placed)| !placed.labels.is_empty()) else {
            return false;
        };
        let mut is_violated = false;
        for (key, budget) in &cluster.budgets {
            let is_about = key.0 == placed.namespace
                && !budget.selector.is_everything()
                && budget.selector.matches(&placed.labels)
                && !budget.disrupted.contains(&placed.name);
            if is_about {
                let left = left.entry(key).or_insert(budget.allowed);
                *left -= 1;
                is_violated |= *left < 0;
            }
        }
        is_violated
    })
}

/// What it costs to let them go: what costs least is done. Of nodes that cost the same the first is taken.
fn cost(cluster: &Cluster, victims: &Victims) -> (usize, i32, i64, usize, Reverse<Option<Time>>) {
    let placed = |uid: &String| cluster.placed().find(|(other, _)| other == uid);
    let all: Vec<&Placed> = victims
        .pods
        .iter()
        .filter_map(placed)
        .map(|(_, p)| p)
        .collect();
    let highest = all.iter().map(|p| p.priority).max().unwrap_or(i32::MIN);
    let above = |priority: i32| i64::from(priority) + i64::from(i32::MAX) + 1;
    let highest_ones = all.iter().filter(|p| p.priority == highest);
    (
        victims.violations,
        highest,
        all.iter().map(|p| above(p.priority)).sum(),
        all.len(),
        Reverse(highest_ones.filter_map(|p| p.started.clone()).min()),
    )
}
