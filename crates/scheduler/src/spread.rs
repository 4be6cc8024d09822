//! How evenly Pods stand (upstream's filter plugin PodTopologySpread).

use std::collections::{BTreeMap, BTreeSet};

use api::fit;
use api::selector::Selector;
use k8s_openapi::api::core::v1::{Node, Pod, TopologySpreadConstraint};

use crate::cluster::{Cluster, Labels};
use crate::fit::Obstacle;

const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const NOWHERE: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

/// How evenly a Pod's like stands, constraint by constraint.
pub(crate) struct Spread<'a>(Vec<Counted<'a>>);

struct Counted<'a> {
    key: &'a str,
    max_skew: usize,
    /// The Pod is one of those that are counted.
    counts_itself: bool,
    /// How many stand in each place.
    found: BTreeMap<&'a str, usize>,
    least: usize,
}

/// Whether it matters to a Pod which others stand where.
pub(crate) fn is_minded(pod: &Pod) -> bool {
    constraints(pod).next().is_some()
}

fn constraints(pod: &Pod) -> impl Iterator<Item = &TopologySpreadConstraint> {
    let all = pod
        .spec
        .as_ref()
        .and_then(|s| s.topology_spread_constraints.as_ref());
    let all = all.into_iter().flatten();
    all.filter(|constraint| constraint.when_unsatisfiable == "DoNotSchedule")
}

impl<'a> Spread<'a> {
    /// For this Pod, if those of these UIDs were gone.
    pub(crate) fn of(pod: &'a Pod, cluster: &'a Cluster, gone: &BTreeSet<&str>) -> Self {
        let all: Vec<_> = constraints(pod).collect();
        let counted = all.iter().map(|constraint| {
            // Nodes are compared that have a place in the sense of every constraint.
            let is_placed = |node: &Node| {
                let labels = node.metadata.labels.as_ref();
                let has = |key: &String| labels.is_some_and(|labels| labels.contains_key(key));
                all.iter().all(|constraint| has(&constraint.topology_key))
            };
            count(pod, constraint, cluster, is_placed, gone)
        });
        Spread(counted.collect())
    }

    /// What keeps the Pod off a node.
    pub(crate) fn obstacle(&self, node: &Node) -> Option<Obstacle> {
        let labels = node.metadata.labels.as_ref();
        self.0.iter().find_map(|counted| {
            let Some(place) = labels.and_then(|labels| labels.get(counted.key)) else {
                return Some(Obstacle::for_good(NOWHERE));
            };
            let found = counted.found.get(place.as_str()).copied().unwrap_or(0);
            let would_be = found + usize::from(counted.counts_itself);
            let is_uneven = would_be > counted.least + counted.max_skew;
            is_uneven.then(|| Obstacle::in_use(UNEVEN))
        })
    }
}

fn count<'a>(
    pod: &Pod,
    constraint: &'a TopologySpreadConstraint,
    cluster: &'a Cluster,
    is_placed: impl Fn(&Node) -> bool,
    gone: &BTreeSet<&str>,
) -> Counted<'a> {
    let selector = Selector::from_object(constraint.label_selector.as_ref());
    let selector = selector.unwrap_or_else(|_| Selector::nothing());
    let nothing = Labels::new();
    let key = constraint.topology_key.as_str();
    let mut found = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (name, node, _) in cluster.nodes() {
        let place = node
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key));
        if let Some(place) = place.filter(|_| is_placed(node) && is_counted(pod, constraint, node))
        {
            found.insert(place.as_str(), 0);
            places.insert(name, place.as_str());
        }
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    // An empty selector counts nobody, as upstream has it.
    for (uid, other) in cluster.placed().filter(|_| !selector.is_everything()) {
        let is_one = other.namespace == namespace
            && !other.is_leaving
            && !gone.contains(uid)
            && selector.matches(&other.labels);
        if let Some(place) = places.get(other.node.as_str()).filter(|_| is_one) {
            *found.entry(*place).or_insert(0) += 1;
        }
    }
    let domains = usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1);
    let least = found
        .values()
        .min()
        .copied()
        .filter(|_| found.len() >= domains);
    Counted {
        key,
        max_skew: usize::try_from(constraint.max_skew).unwrap_or(0),
        counts_itself: selector.matches(pod.metadata.labels.as_ref().unwrap_or(&nothing)),
        least: least.unwrap_or(0),
        found,
    }
}

/// Whether a node is one of those that are compared.
fn is_counted(pod: &Pod, constraint: &TopologySpreadConstraint, node: &Node) -> bool {
    let honours =
        |policy: &Option<String>, default| policy.as_deref().unwrap_or(default) == "Honor";
    let (affinity, taints) = (
        &constraint.node_affinity_policy,
        &constraint.node_taints_policy,
    );
    (!honours(affinity, "Honor") || fit::is_affine(pod, node))
        && (!honours(taints, "Ignore")
            || fit::tolerates_all(pod, node, &["NoSchedule", "NoExecute"]))
}
