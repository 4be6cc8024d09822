//! What is known of workloads, and whom news concern.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::selector::Selector;
use informer::{Heard, Key, Mirror, key_of};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::runtime::watcher::Event;
use workloads::{job, owner, pod, replicaset, replication};

use super::outcome::Written;
use super::pods::Pods;
use super::{Id, Kind};

#[derive(Default)]
pub(super) struct World {
    pub(super) deployments: Mirror<Arc<Deployment>>,
    pub(super) sets: Mirror<Arc<ReplicaSet>>,
    pub(super) controllers: Mirror<Arc<ReplicationController>>,
    pub(super) jobs: Mirror<Arc<Job>>,
    pub(super) cronjobs: Mirror<Arc<CronJob>>,
    pub(super) pods: Pods,
    /// UIDs of what has gone while work was under way, which may still tell of having made it.
    gone: BTreeSet<String>,
    /// Pods have been listed while Jobs were known.
    has_looked: bool,
}

impl World {
    /// Whether Pods have to be known: there are workloads, or Pods that wait for being counted, or nobody has looked yet.
    pub(super) fn needs_pods(&mut self) -> bool {
        self.has_looked |= self.jobs.is_synced() && self.pods.is_synced();
        let has_none = self.deployments.is_empty()
            && self.sets.is_empty()
            && self.controllers.is_empty()
            && self.jobs.is_empty();
        !has_none || !self.has_looked || self.pods.has_tracked()
    }

    /// Whether all that a kind is planned from has been listed.
    pub(super) fn is_synced(&self, kind: Kind) -> bool {
        let own = match kind {
            Kind::Deployment => self.deployments.is_synced() && self.sets.is_synced(),
            Kind::ReplicaSet => self.sets.is_synced(),
            Kind::ReplicationController => self.controllers.is_synced(),
            Kind::Job | Kind::Tracked => self.jobs.is_synced(),
            // Pods are none of its business.
            Kind::CronJob => return self.cronjobs.is_synced() && self.jobs.is_synced(),
        };
        own && self.pods.is_synced()
    }

    /// The generation of an object, if it is there.
    pub(super) fn generation(&self, (kind, key): &Id) -> Option<Option<i64>> {
        Some(self.meta(*kind, key)?.generation)
    }

    fn meta(&self, kind: Kind, key: &Key) -> Option<&ObjectMeta> {
        match kind {
            Kind::Deployment => self.deployments.get(key).map(|o| &o.metadata),
            Kind::ReplicaSet => self.sets.get(key).map(|o| &o.metadata),
            Kind::ReplicationController => self.controllers.get(key).map(|o| &o.metadata),
            Kind::Job => self.jobs.get(key).map(|o| &o.metadata),
            Kind::CronJob => self.cronjobs.get(key).map(|o| &o.metadata),
            Kind::Tracked => self.pods.get(key).map(|o| &o.metadata),
        }
    }

    /// Everything.
    fn all(&self) -> Vec<Id> {
        let of = |kind| move |key: &Key| (kind, key.clone());
        let deployments = self.deployments.iter().map(|(key, _)| key);
        let sets = self.sets.iter().map(|(key, _)| key);
        let controllers = self.controllers.iter().map(|(key, _)| key);
        let cronjobs = self.cronjobs.iter().map(|(key, _)| key);
        deployments
            .map(of(Kind::Deployment))
            .chain(sets.map(of(Kind::ReplicaSet)))
            .chain(controllers.map(of(Kind::ReplicationController)))
            .chain(self.jobs.iter().map(|(key, _)| key).map(of(Kind::Job)))
            .chain(cronjobs.map(of(Kind::CronJob)))
            .chain(self.pods.tracked().map(of(Kind::Tracked)))
            .collect()
    }

    /// Forgets what has gone: no work is under way.
    pub(super) fn forget_gone(&mut self) {
        self.gone.clear();
    }

    fn note_gone<K: Resource>(&mut self, event: &Event<K>) {
        if let Event::Delete(object) = event {
            self.gone.extend(object.meta().uid.clone());
        }
    }

    pub(super) fn deployment(&mut self, event: Event<Deployment>) -> Vec<Id> {
        self.note_gone(&event);
        match self.deployments.hear(event, Arc::new) {
            Heard::Nothing => Vec::new(),
            Heard::One { key, .. } => vec![(Kind::Deployment, key)],
            Heard::All { .. } => self.all(),
        }
    }

    pub(super) fn controller(&mut self, event: Event<ReplicationController>) -> Vec<Id> {
        self.note_gone(&event);
        match self.controllers.hear(event, Arc::new) {
            Heard::Nothing => Vec::new(),
            Heard::One { key, .. } => vec![(Kind::ReplicationController, key)],
            Heard::All { .. } => self.all(),
        }
    }

    pub(super) fn job(&mut self, event: Event<Job>) -> Vec<Id> {
        self.note_gone(&event);
        match self.jobs.hear(event, Arc::new) {
            Heard::Nothing => Vec::new(),
            Heard::One { key, old, .. } => {
                // Its Pods may have been left behind.
                let of = self
                    .pods
                    .tracked()
                    .filter(|(namespace, _)| *namespace == key.0);
                let mut ids: Vec<Id> = of.map(|key| (Kind::Tracked, key.clone())).collect();
                let either = old.iter().chain(self.jobs.get(&key));
                ids.extend(either.filter_map(|job| {
                    let owner = owner::controller_of(&job.metadata)?;
                    self.owner(&job.metadata, owner)
                }));
                ids.push((Kind::Job, key));
                ids
            }
            Heard::All { .. } => self.all(),
        }
    }

    pub(super) fn cronjob(&mut self, event: Event<CronJob>) -> Vec<Id> {
        self.note_gone(&event);
        match self.cronjobs.hear(event, Arc::new) {
            Heard::Nothing => Vec::new(),
            Heard::One { key, .. } => vec![(Kind::CronJob, key)],
            Heard::All { .. } => self.all(),
        }
    }

    pub(super) fn set(&mut self, event: Event<ReplicaSet>) -> Vec<Id> {
        self.note_gone(&event);
        match self.sets.hear(event, Arc::new) {
            Heard::Nothing => Vec::new(),
            Heard::One { key, old, .. } => {
                let either = old.iter().chain(self.sets.get(&key));
                let owners = either.flat_map(|set| self.of_set(&set.metadata));
                let mut ids: Vec<Id> = owners.collect();
                ids.push((Kind::ReplicaSet, key));
                ids
            }
            Heard::All { .. } => self.all(),
        }
    }

    pub(super) fn pod(&mut self, event: Event<Pod>) -> Vec<Id> {
        self.note_gone(&event);
        match self.pods.hear(event) {
            Heard::Nothing => Vec::new(),
            Heard::One { key, old, .. } => {
                let now = self.pods.get(&key);
                let is_tracked = now.is_some_and(|pod| job::is_tracked(pod));
                let either = old.iter().chain(now);
                let mut ids: Vec<Id> = either.flat_map(|pod| self.of_pod(pod)).collect();
                ids.extend(is_tracked.then_some((Kind::Tracked, key)));
                ids
            }
            Heard::All { .. } => self.all(),
        }
    }

    /// Takes it that a Pod that was made here is gone.
    pub(super) fn pod_is_gone(&mut self, key: &Key) -> Vec<Id> {
        let pod = self.pods.forget(key);
        pod.map(|pod| self.of_pod(&pod)).unwrap_or_default()
    }

    /// Takes in what was written here: not what is gone by now, nor what is older than what is known.
    pub(super) fn wrote(&mut self, written: Written) {
        let gone = &self.gone;
        let is_there = |meta: &ObjectMeta| meta.uid.as_ref().is_none_or(|uid| !gone.contains(uid));
        match written {
            Written::Doomed(key, uid) => self.pods.doom(key, uid),
            Written::Pod(pod) if is_there(&pod.metadata) => self.pods.wrote(*pod),
            Written::Set(set) if is_there(&set.metadata) => wrote(&mut self.sets, *set),
            Written::Controller(c) if is_there(&c.metadata) => wrote(&mut self.controllers, *c),
            Written::Job(job) if is_there(&job.metadata) => wrote(&mut self.jobs, *job),
            Written::CronJob(c) if is_there(&c.metadata) => wrote(&mut self.cronjobs, *c),
            Written::DoomedJob(key, uid) => self.doom_job(key, &uid),
            Written::Deployment(d) if is_there(&d.metadata) => wrote(&mut self.deployments, *d),
            _ => {}
        }
    }

    /// Takes in that a Job was deleted here: it goes, or waits for its finalizers.
    fn doom_job(&mut self, key: Key, uid: &str) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        if job.metadata.uid.as_deref() == Some(uid) && job.metadata.deletion_timestamp.is_none() {
            let mut job = Job::clone(job);
            job.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
            self.jobs.wrote(key, Arc::new(job));
        }
    }

    /// Whom a ReplicaSet concerns: its Deployment; where it has none, those that select it.
    fn of_set(&self, set: &ObjectMeta) -> Vec<Id> {
        if let Some(owner) = owner::controller_of(set) {
            return self.owner(set, owner).into_iter().collect();
        }
        let namespace = set.namespace.as_deref().unwrap_or_default();
        let selecting = self.deployments.of_namespace(namespace);
        let selecting = selecting.filter(|(_, deployment)| {
            let spec = deployment.spec.as_ref();
            let selector = spec.and_then(|s| Selector::from_object(Some(&s.selector)).ok());
            selector.is_some_and(|s| s.matches(&set.labels))
        });
        let ids = selecting.map(|(key, _)| (Kind::Deployment, key.clone()));
        ids.collect()
    }

    /// Whom a Pod concerns: who controls it, and the Deployment of that while it waits for Pods to end; where nobody does, those that
    /// select it.
    fn of_pod(&self, pod: &Pod) -> Vec<Id> {
        let meta = &pod.metadata;
        if let Some(owner) = owner::controller_of(meta) {
            let mut ids: Vec<Id> = self.owner(meta, owner).into_iter().collect();
            if let Some((Kind::ReplicaSet, key)) = ids.first()
                && !pod::is_active(pod)
                && let Some(set) = self.sets.get(key)
            {
                ids.extend(self.of_set(&set.metadata));
            }
            return ids;
        }
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let selects =
            |set: &ReplicaSet| replicaset::selector(set).is_some_and(|s| s.matches(&meta.labels));
        let sets = self.sets.of_namespace(namespace);
        let sets = sets.filter(|(_, set)| selects(set));
        let controllers = self.controllers.of_namespace(namespace);
        let controllers = controllers.filter(|(_, c)| selects(&replication::as_set(c)));
        let sets = sets.map(|(key, _)| (Kind::ReplicaSet, key.clone()));
        let controllers = controllers.map(|(key, _)| (Kind::ReplicationController, key.clone()));
        let jobs = self.jobs.of_namespace(namespace).filter(|(_, job)| {
            let selector = job.spec.as_ref().and_then(|s| s.selector.as_ref());
            let selector = Selector::from_object(selector).ok();
            selector.is_some_and(|s| s.matches(&meta.labels))
        });
        let jobs = jobs.map(|(key, _)| (Kind::Job, key.clone()));
        sets.chain(controllers).chain(jobs).collect()
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
        let kind = match (&*owner.api_version, &*owner.kind) {
            ("apps/v1", "Deployment") => Kind::Deployment,
            ("apps/v1", "ReplicaSet") => Kind::ReplicaSet,
            ("v1", "ReplicationController") => Kind::ReplicationController,
            ("batch/v1", "Job") => Kind::Job,
            ("batch/v1", "CronJob") => Kind::CronJob,
            _ => return None,
        };
        let key = (
            object.namespace.clone().unwrap_or_default(),
            owner.name.clone(),
        );
        let meta = self.meta(kind, &key)?;
        (meta.uid.as_ref() == Some(&owner.uid)).then_some((kind, key))
    }
}

fn wrote<K: Resource>(mirror: &mut Mirror<Arc<K>>, object: K) {
    let key = key_of(&object);
    let known = mirror.get(&key).map(|old| informer::revision_of(&**old));
    if known.is_none_or(|known| known <= informer::revision_of(&object)) {
        mirror.wrote(key, Arc::new(object));
    }
}
