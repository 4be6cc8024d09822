//! Which Pods want to stand beside which (upstream's filter plugin InterPodAffinity).

use std::collections::BTreeSet;

use api::selector::Selector;
use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm};

use crate::cluster::{Cluster, Labels};
use crate::fit::Obstacle;

const NOT_BESIDE: &str = "node(s) didn't match pod affinity rules";
const BESIDE: &str = "node(s) didn't match pod anti-affinity rules";
const REPELLED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// Pods that a Pod wants to be near to, or not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Term {
    topology_key: String,
    selector: Selector,
    namespaces: Vec<String>,
    namespace_selector: Selector,
}

impl Term {
    /// One of a Pod of that namespace. A selector that cannot be read selects nothing.
    fn of(term: &PodAffinityTerm, namespace: &str) -> Self {
        let read =
            |selector| Selector::from_object(selector).unwrap_or_else(|_| Selector::nothing());
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        Term {
            topology_key: term.topology_key.clone(),
            selector: read(term.label_selector.as_ref()),
            namespaces,
            namespace_selector: read(term.namespace_selector.as_ref()),
        }
    }

    fn covers(&self, cluster: &Cluster, namespace: &str, labels: &Labels) -> bool {
        let nothing = Labels::new();
        let of_namespace = || cluster.namespaces.get(namespace).unwrap_or(&nothing);
        (self.namespaces.iter().any(|name| name == namespace)
            || self.namespace_selector.matches(of_namespace()))
            && self.selector.matches(labels)
    }
}

/// Whom a Pod must not be near to.
pub(crate) fn repelled(pod: &Pod) -> Vec<Term> {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
    let terms = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    let terms = terms.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    read(pod, terms)
}

/// Whom it must be near to.
fn attracted(pod: &Pod) -> Vec<Term> {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
    let terms = affinity.and_then(|a| a.pod_affinity.as_ref());
    let terms = terms.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    read(pod, terms)
}

fn read(pod: &Pod, terms: Option<&Vec<PodAffinityTerm>>) -> Vec<Term> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let terms = terms.into_iter().flatten();
    terms.map(|term| Term::of(term, namespace)).collect()
}

/// Whether it matters to a Pod which others stand where.
pub(crate) fn is_minded(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref());
    affinity.is_some_and(|a| a.pod_affinity.is_some() || a.pod_anti_affinity.is_some())
}

/// A label of nodes and one of its values: nodes that have both are near each other.
type Place<'a> = (&'a str, &'a str);

/// What the Pods that stand somewhere mean for one that is to be placed.
pub(crate) struct Company<'a> {
    attracted: Vec<Term>,
    repelled: Vec<Term>,
    /// It is one of those it wants to be near to.
    wants_itself: bool,
    /// Where all whom it wants to be near to stand.
    wanted: BTreeSet<Place<'a>>,
    /// Where somebody stands whom it must not be near to.
    unwanted: BTreeSet<Place<'a>>,
    /// Where somebody stands who does not want it near.
    forbidden: BTreeSet<Place<'a>>,
}

impl<'a> Company<'a> {
    /// For this Pod, if those of these UIDs were gone.
    pub(crate) fn of(pod: &Pod, cluster: &'a Cluster, gone: &BTreeSet<&str>) -> Self {
        let (attracted, repelled) = (attracted(pod), repelled(pod));
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let nothing = Labels::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
        let is_wanted = |namespace: &str, labels: &Labels| {
            let mut terms = attracted.iter();
            !attracted.is_empty() && terms.all(|term| term.covers(cluster, namespace, labels))
        };
        let mut company = Company {
            wants_itself: is_wanted(namespace, labels),
            wanted: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            forbidden: BTreeSet::new(),
            attracted: Vec::new(),
            repelled: Vec::new(),
        };
        for (uid, other) in cluster.repelling() {
            let covering = |term: &&Term| term.covers(cluster, namespace, labels);
            if !gone.contains(uid) {
                let terms = other.repels.iter().filter(covering);
                company
                    .forbidden
                    .extend(places(cluster, &other.node, terms));
            }
        }
        if !attracted.is_empty() || !repelled.is_empty() {
            for (_, other) in cluster.placed().filter(|(uid, _)| !gone.contains(uid)) {
                if is_wanted(&other.namespace, &other.labels) {
                    let near = places(cluster, &other.node, attracted.iter());
                    company.wanted.extend(near);
                }
                let covering = |term: &&Term| term.covers(cluster, &other.namespace, &other.labels);
                let terms = repelled.iter().filter(covering);
                company.unwanted.extend(places(cluster, &other.node, terms));
            }
        }
        Company {
            attracted,
            repelled,
            ..company
        }
    }

    /// What keeps the Pod off a node.
    pub(crate) fn obstacle(&self, node: &Node) -> Option<Obstacle> {
        let labels = node.metadata.labels.as_ref();
        let place = |term: &Term| {
            let (key, value) = labels?.get_key_value(&term.topology_key)?;
            Some((key.as_str(), value.as_str()))
        };
        if !self.is_near(&place) {
            return Some(Obstacle::for_good(NOT_BESIDE));
        }
        let mut own = self.repelled.iter().filter_map(place);
        if own.any(|place| self.unwanted.contains(&place)) {
            return Some(Obstacle::in_use(BESIDE));
        }
        let mut all = labels.into_iter().flatten();
        let is_forbidden = all.any(|(key, value)| {
            let place = (key.as_str(), value.as_str());
            self.forbidden.contains(&place)
        });
        is_forbidden.then(|| Obstacle::in_use(REPELLED))
    }

    /// Whether all whom it wants are near. The first of those that want each other goes where it likes.
    fn is_near<'n>(&self, place: &impl Fn(&Term) -> Option<Place<'n>>) -> bool {
        let places: Option<Vec<Place<'_>>> = self.attracted.iter().map(place).collect();
        let Some(places) = places else {
            return false;
        };
        let is_first = self.wanted.is_empty() && self.wants_itself;
        is_first || places.iter().all(|place| self.wanted.contains(place))
    }
}

/// Where a node is, by the labels these terms are about.
fn places<'a, 't>(
    cluster: &'a Cluster,
    node: &str,
    terms: impl Iterator<Item = &'t Term>,
) -> Vec<Place<'a>> {
    let labels = cluster.node(node).and_then(|n| n.metadata.labels.as_ref());
    let places = terms.filter_map(|term| {
        let (key, value) = labels?.get_key_value(&term.topology_key)?;
        Some((key.as_str(), value.as_str()))
    });
    places.collect()
}
