//! A DaemonSet's Pods by their nodes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Place, bounds, min_ready, place, revision};
use crate::object::{by_age, name, number, scaled};
use crate::pod;

pub(super) struct Fleet<'a> {
    pub(super) set: &'a DaemonSet,
    /// What Pods of the present template are labelled with.
    pub(super) hash: &'a str,
    pub(super) now: Timestamp,
    /// What every node is to the DaemonSet.
    pub(super) places: BTreeMap<&'a str, Place>,
    /// Its Pods by the node they are on or for, also where there is no such node: bound ones first, then as they were made. Those that
    /// are over and being deleted are not among them.
    pub(super) pods: BTreeMap<&'a str, Vec<&'a Pod>>,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        owned: &[&'a Pod],
        nodes: &[&'a Node],
        hash: &'a str,
        now: Timestamp,
    ) -> Self {
        let probe = place::probe(set);
        let places = nodes.iter().map(|n| (name(&n.metadata), probe.on(n)));
        let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in owned {
            if pod::is_over(pod) && is_leaving(pod) {
                continue;
            }
            if let Some(node) = place::target(pod) {
                pods.entry(node).or_default().push(pod);
            }
        }
        for on_node in pods.values_mut() {
            on_node.sort_by(|a, b| {
                let by_binding = is_bound(b).cmp(&is_bound(a));
                by_binding.then_with(|| by_age(&a.metadata, &b.metadata))
            });
        }
        Fleet {
            set,
            hash,
            now,
            places: places.collect(),
            pods,
        }
    }

    /// The Pods on a node or for it.
    pub(super) fn on(&self, node: &str) -> &[&'a Pod] {
        self.pods.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// The nodes that are to have a Pod.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &'a str> {
        let runs = self.places.iter().filter(|(_, p)| **p == Place::Runs);
        runs.map(|(node, _)| *node)
    }

    /// Whether a Pod is made from the present template.
    pub(super) fn is_new(&self, pod: &Pod) -> bool {
        revision::label(&pod.metadata) == Some(self.hash)
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        pod::is_available(pod, min_ready(self.set), self.now)
    }

    /// Whether a node may have a new Pod beside the old one.
    pub(super) fn may_surge(&self) -> bool {
        let surge = bounds(self.set).and_then(|b| b.max_surge.as_ref());
        scaled(surge, 1, true) > 0
    }

    /// On how many nodes there may be a new Pod beside an available old one, and on how many none that is available. Validation sees to
    /// it that not both are nothing; where they are, one node may be without.
    pub(super) fn bounds(&self) -> (usize, usize) {
        let wanted = number(self.wanted());
        let of = |bound| usize::try_from(scaled(bound, wanted, true)).unwrap_or(0);
        let bounds = bounds(self.set);
        let surge = of(bounds.and_then(|b| b.max_surge.as_ref()));
        let unavailable = of(bounds.and_then(|b| b.max_unavailable.as_ref()));
        let least = usize::from(surge == 0 && wanted > 0);
        (surge, unavailable.max(least))
    }

    /// When the next of the Pods that are ready becomes available.
    pub(super) fn next_available(&self) -> Option<Timestamp> {
        let least = min_ready(self.set);
        if least <= 0 {
            return None;
        }
        let active = self.pods.values().flatten().filter(|p| pod::is_active(p));
        let times = active.filter_map(|pod| pod::available_at(pod, least));
        times.filter(|at| *at > self.now).min()
    }
}

/// Whether its deletion was asked for.
pub(super) fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(super) fn is_bound(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    node.is_some_and(|name| !name.is_empty())
}
