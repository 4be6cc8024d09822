//! What is known of workloads, and whom news concern.

use std::collections::{BTreeMap, BTreeSet};

use informer::{Heard, Key, key_of};
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::runtime::watcher::Event;
use workloads::daemonset::{self, Memory};
use workloads::{job, owner, statefulset};

use super::kinds::{KINDS, Kept, Kind};
use super::known::{Holding, Known};

/// An object that is looked after.
pub(super) type Id = (Kind, Key);

#[derive(Default)]
pub(super) struct World {
    pub(super) deployments: Known<Deployment>,
    pub(super) sets: Known<ReplicaSet>,
    pub(super) controllers: Known<ReplicationController>,
    pub(super) stateful_sets: Known<StatefulSet>,
    pub(super) daemon_sets: Known<DaemonSet>,
    pub(super) revisions: Known<ControllerRevision>,
    pub(super) nodes: Known<Node>,
    pub(super) claims: Known<PersistentVolumeClaim>,
    /// What plans of DaemonSets remember.
    pub(super) memories: BTreeMap<Key, Memory>,
    pub(super) jobs: Known<Job>,
    pub(super) cronjobs: Known<CronJob>,
    pub(super) pods: Known<Pod>,
    /// UIDs of what has gone while work was under way, which may still tell of having made it.
    gone: BTreeSet<String>,
    /// A list has been read while work was under way: what that made may have gone before.
    has_listed: bool,
    /// Pods have been listed while Jobs were known.
    has_looked: bool,
}

impl World {
    fn of(&self, kind: Kind) -> &dyn Holding {
        match kind {
            Kind::Deployment => &self.deployments,
            Kind::ReplicaSet => &self.sets,
            Kind::ReplicationController => &self.controllers,
            Kind::StatefulSet => &self.stateful_sets,
            Kind::DaemonSet => &self.daemon_sets,
            Kind::Job => &self.jobs,
            Kind::CronJob => &self.cronjobs,
            Kind::Tracked => &self.pods,
        }
    }

    /// Whether Pods have to be known: there are workloads, or Pods that wait for being counted, or nobody has looked yet.
    pub(super) fn needs_pods(&mut self) -> bool {
        self.has_looked |= self.of(Kind::Job).is_synced() && self.of(Kind::Tracked).is_synced();
        let mut kinds = KINDS.into_iter().filter(|kind| kind.has_pods());
        kinds.any(|kind| !self.of(kind).is_empty())
            || !self.has_looked
            || self.tracked().next().is_some()
    }

    /// Whether revisions and nodes have to be known: there are workloads that have them, or are made from them.
    pub(super) fn needs_revisions(&self) -> bool {
        let mut kinds = KINDS.into_iter().filter(|kind| kind.has_revisions());
        kinds.any(|kind| !self.of(kind).is_empty())
    }

    /// Whether claims have to be known: Pods of a StatefulSet have some.
    pub(super) fn needs_claims(&self) -> bool {
        let mut sets = self.stateful_sets.iter();
        sets.any(|(_, set)| statefulset::has_claims(set))
    }

    /// Whether all that a kind is planned from has been listed.
    pub(super) fn is_synced(&self, kind: Kind) -> bool {
        if kind == Kind::StatefulSet && self.needs_claims() && !self.claims.is_synced() {
            return false;
        }
        if kind.has_revisions() && !(self.revisions.is_synced() && self.nodes.is_synced()) {
            return false;
        }
        let more = match kind {
            Kind::Deployment => Some(Kind::ReplicaSet),
            Kind::CronJob | Kind::Tracked => Some(Kind::Job),
            _ => None,
        };
        // Pods are none of a CronJob's business.
        let pods = (kind != Kind::CronJob).then_some(Kind::Tracked);
        let mut all = [kind].into_iter().chain(more).chain(pods);
        all.all(|kind| self.of(kind).is_synced())
    }

    /// The generation of an object, if it is there.
    pub(super) fn generation(&self, (kind, key): &Id) -> Option<Option<i64>> {
        Some(self.of(*kind).meta(key)?.generation)
    }

    /// Everything.
    fn all(&self) -> Vec<Id> {
        let untracked = KINDS.into_iter().filter(|kind| *kind != Kind::Tracked);
        let all = untracked.flat_map(|kind| self.of(kind).keys().map(move |key| (kind, key)));
        let tracked = self.tracked().map(|key| (Kind::Tracked, key));
        all.chain(tracked)
            .map(|(kind, key)| (kind, key.clone()))
            .collect()
    }

    /// Pods that wait for being counted.
    pub(super) fn tracked(&self) -> impl Iterator<Item = &Key> {
        let tracked = self.pods.iter().filter(|(_, pod)| job::is_tracked(pod));
        tracked.map(|(key, _)| key)
    }

    /// Takes in an event of a watch: what has to be looked at because of it.
    pub(super) fn hear<K: Kept>(&mut self, event: Event<K>) -> Vec<Id> {
        if let Event::Delete(object) = &event {
            self.gone.extend(object.meta().uid.clone());
        }
        let (key, old) = match K::known_mut(self).hear(event) {
            Heard::Nothing => return Vec::new(),
            Heard::All { .. } => {
                self.has_listed = true;
                return self.all();
            }
            Heard::One { key, old, .. } => (key, old),
        };
        let now = K::known(self).get(&key);
        let either = old.iter().chain(now);
        let mut ids: Vec<Id> = if K::is_news(old.as_deref(), now.map(|now| &**now)) {
            either.flat_map(|object| object.concerns(self)).collect()
        } else {
            Vec::new()
        };
        ids.extend(K::KIND.map(|kind| (kind, key)));
        ids
    }

    /// Takes in an event of a node, which may be for DaemonSets now, or not any more.
    pub(super) fn hear_of_node(&mut self, event: Event<Node>) -> Vec<Id> {
        let (key, old) = match self.nodes.hear(event) {
            Heard::Nothing => return Vec::new(),
            Heard::All { .. } => return self.all(),
            Heard::One { key, old, .. } => (key, old),
        };
        let is_other = match (&old, self.nodes.get(&key)) {
            (Some(old), Some(now)) => daemonset::differs(old, now),
            (old, now) => old.is_some() != now.is_some(),
        };
        let sets = self.daemon_sets.keys().filter(|_| is_other);
        sets.map(|key| (Kind::DaemonSet, key.clone())).collect()
    }

    /// Forgets what plans for an object that is gone remembered.
    pub(super) fn forget(&mut self, (kind, key): &Id) {
        if *kind == Kind::DaemonSet {
            self.memories.remove(key);
        }
    }

    /// Takes it that an object that was made here is gone.
    pub(super) fn is_gone<K: Kept>(&mut self, key: &Key) -> Vec<Id> {
        let object = K::known_mut(self).forget(key);
        object.map(|o| o.concerns(self)).unwrap_or_default()
    }

    /// Takes in what was written here: not what is gone by now, nor what is older than what is known.
    pub(super) fn wrote<K: Kept>(&mut self, object: K) {
        let uid = object.meta().uid.as_ref();
        if uid.is_some_and(|uid| self.gone.contains(uid)) {
            return;
        }
        let key = key_of(&object);
        let doubtful = self.has_listed;
        let known = K::known_mut(self);
        known.wrote(object);
        if doubtful {
            known.doubt(key);
        }
    }

    /// Forgets what has gone: no work is under way.
    pub(super) fn forget_gone(&mut self) {
        self.gone.clear();
        self.has_listed = false;
    }

    /// The controller of an object, if it is there.
    pub(super) fn controllers_of(&self, object: &ObjectMeta) -> Vec<Id> {
        self.controllers_or(object, |_, _| Vec::new())
    }

    /// The controller of an object, if it is there; of one that has none, those others.
    pub(super) fn controllers_or(
        &self,
        object: &ObjectMeta,
        others: impl FnOnce(&World, &ObjectMeta) -> Vec<Id>,
    ) -> Vec<Id> {
        match owner::controller_of(object) {
            Some(owner) => self.owner(object, owner).into_iter().collect(),
            None => others(self, object),
        }
    }

    /// The objects of a kind that select this one.
    pub(super) fn selecting<K: Kept>(&self, object: &ObjectMeta) -> Vec<Id> {
        let Some(kind) = K::KIND else {
            return Vec::new();
        };
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let all = K::known(self).of_namespace(namespace);
        let selecting = all.filter(|o| o.selector().is_some_and(|s| s.matches(&object.labels)));
        selecting.map(|o| (kind, key_of(o))).collect()
    }

    /// The Job of a Pod, if it is there.
    pub(super) fn job_of(&self, pod: &Pod) -> Option<&Job> {
        let owner = owner::controller_of(&pod.metadata)?;
        match self.owner(&pod.metadata, owner)? {
            (Kind::Job, key) => self.jobs.get(&key).map(|job| &**job),
            _ => None,
        }
    }

    /// The controller an object names, if it is there and the one that is meant.
    fn owner(&self, object: &ObjectMeta, owner: &OwnerReference) -> Option<Id> {
        let kind = Kind::named(&owner.api_version, &owner.kind)?;
        let namespace = object.namespace.clone().unwrap_or_default();
        let key = (namespace, owner.name.clone());
        let meta = self.of(kind).meta(&key)?;
        (meta.uid.as_ref() == Some(&owner.uid)).then_some((kind, key))
    }
}
