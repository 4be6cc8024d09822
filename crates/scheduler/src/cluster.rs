//! What there is to place Pods on, and what stands there already.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::room::Room;
use lifecycle::share::Share;

use crate::affinity::Term;
use crate::fit;
use crate::preempt::Budget;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Nodes, and the Pods that have one.
#[derive(Default)]
pub(crate) struct Cluster {
    nodes: BTreeMap<String, Node>,
    /// What is held of each node, also of one that is not known yet.
    rooms: BTreeMap<String, Room>,
    /// By UID.
    placed: BTreeMap<String, Placed>,
    /// Those of them that keep others away.
    repelling: BTreeSet<String>,
    /// Places that Pods wait for whose victims are leaving, by UID.
    nominated: BTreeMap<String, Nominated>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) budgets: BTreeMap<(String, String), Budget>,
}

/// A Pod that has a node, or is about to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    pub(crate) node: String,
    share: Share,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    /// Whom it keeps away from where it is.
    pub(crate) repels: Vec<Term>,
    pub(crate) priority: i32,
    pub(crate) started: Option<Time>,
    pub(crate) is_leaving: bool,
    /// It leaves for another Pod's sake.
    pub(crate) is_preempted: bool,
}

/// A place that is about to be free.
struct Nominated {
    node: String,
    share: Share,
    priority: i32,
}

/// What a change means for Pods that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// Another Pod stands somewhere, or as another.
    Company,
    /// There is more room.
    Room,
}

impl Placed {
    /// A Pod on a node; it holds so much of it.
    pub(crate) fn of(pod: &Pod, node: &str, share: Share) -> Self {
        let meta = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let status = pod.status.as_ref();
        Placed {
            node: node.to_owned(),
            share,
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            labels: meta.labels.clone().unwrap_or_default(),
            repels: crate::affinity::repelled(pod),
            priority: priority(pod),
            started: status.and_then(|s| s.start_time.clone()),
            is_leaving: meta.deletion_timestamp.is_some(),
            is_preempted: crate::preempt::is_preempted(pod),
        }
    }
}

/// A Pod's priority; 0 before it has one.
pub(crate) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

impl Cluster {
    /// Nodes that are known, with what is held of each.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &Node, &Room)> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|(name, node)| Some((name.as_str(), node, self.rooms.get(name)?)))
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// A node is there, or differs; whether that matters to Pods that wait.
    pub(crate) fn set_node(&mut self, name: String, node: Node) -> bool {
        let room = self.rooms.entry(name.clone()).or_default();
        room.resize(fit::allocatable(&node));
        let old = self.nodes.insert(name, node.clone());
        old.is_none_or(|old| fit::differs(&old, &node))
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    pub(crate) fn forget_nodes(&mut self) {
        self.nodes.clear();
    }

    /// Pods that have a node, by UID.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (&str, &Placed)> {
        self.placed
            .iter()
            .map(|(uid, placed)| (uid.as_str(), placed))
    }

    /// Those of them that keep others away.
    pub(crate) fn repelling(&self) -> impl Iterator<Item = (&str, &Placed)> {
        let known = |uid: &String| self.placed.get_key_value(uid);
        let repelling = self.repelling.iter().filter_map(known);
        repelling.map(|(uid, placed)| (uid.as_str(), placed))
    }

    /// A Pod has its place.
    pub(crate) fn place(&mut self, uid: &str, placed: Placed) -> Change {
        self.nominated.remove(uid);
        if self.placed.get(uid) == Some(&placed) {
            return Change::Nothing;
        }
        let old = self.leave(uid);
        let room = self.rooms.entry(placed.node.clone()).or_default();
        room.hold(uid, placed.share.clone());
        if !placed.repels.is_empty() {
            self.repelling.insert(uid.to_owned());
        }
        let holds_the_same =
            old.is_none_or(|old| (&old.node, &old.share) == (&placed.node, &placed.share));
        self.placed.insert(uid.to_owned(), placed);
        if holds_the_same {
            Change::Company
        } else {
            Change::Room
        }
    }

    /// A Pod has no place any more; which it had.
    pub(crate) fn leave(&mut self, uid: &str) -> Option<Placed> {
        self.repelling.remove(uid);
        let placed = self.placed.remove(uid)?;
        if let Some(room) = self.rooms.get_mut(&placed.node) {
            room.leave(uid);
        }
        Some(placed)
    }

    pub(crate) fn forget_pods(&mut self) {
        let placed: Vec<String> = self.placed.keys().cloned().collect();
        for uid in placed {
            self.leave(&uid);
        }
        self.nominated.clear();
    }

    /// A Pod waits for Pods to leave this node.
    pub(crate) fn nominate(&mut self, pod: &Pod, node: &str) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let nominated = Nominated {
            node: node.to_owned(),
            share: Share::of(pod),
            priority: priority(pod),
        };
        self.nominated.insert(uid, nominated);
    }

    /// A Pod waits for no place any more; whether it did.
    pub(crate) fn withdraw(&mut self, uid: &str) -> bool {
        self.nominated.remove(uid).is_some()
    }

    /// The node a Pod waits for.
    pub(crate) fn nomination(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(|found| found.node.as_str())
    }

    /// What is held of a node if these Pods were gone, and places that are kept for Pods no less important were taken; nothing if that
    /// makes no difference.
    pub(crate) fn room_without(
        &self,
        node: &str,
        gone: &BTreeSet<&str>,
        (uid, priority): (&str, i32),
    ) -> Option<Room> {
        let kept: Vec<(&String, &Nominated)> = self
            .nominated
            .iter()
            .filter(|(other, place)| *other != uid && place.node == node)
            .filter(|(_, place)| place.priority >= priority)
            .collect();
        if gone.is_empty() && kept.is_empty() {
            return None;
        }
        let mut room = self.rooms.get(node).cloned().unwrap_or_default();
        for uid in gone {
            room.leave(uid);
        }
        for (uid, place) in kept {
            room.hold(uid, place.share.clone());
        }
        Some(room)
    }
}
