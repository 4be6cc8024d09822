//! The kinds that are looked after, and those they are made of.

use api::selector::Selector;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use workloads::{job, owner, pod, replicaset, replication, statefulset};

use super::known::Known;
use super::steps::Stored;
use super::world::{Id, World};

/// The kinds that are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Deployment,
    ReplicaSet,
    ReplicationController,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    /// A Pod that waits for being counted by a Job, which may not be there any more.
    Tracked,
}

/// All of them.
pub(super) const KINDS: [Kind; 8] = [
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::ReplicationController,
    Kind::StatefulSet,
    Kind::DaemonSet,
    Kind::Job,
    Kind::CronJob,
    Kind::Tracked,
];

impl Kind {
    /// The kind an owner reference names, if it is looked after.
    pub(super) fn named(api_version: &str, kind: &str) -> Option<Kind> {
        Some(match (api_version, kind) {
            ("apps/v1", "Deployment") => Kind::Deployment,
            ("apps/v1", "ReplicaSet") => Kind::ReplicaSet,
            ("v1", "ReplicationController") => Kind::ReplicationController,
            ("apps/v1", "StatefulSet") => Kind::StatefulSet,
            ("apps/v1", "DaemonSet") => Kind::DaemonSet,
            ("batch/v1", "Job") => Kind::Job,
            ("batch/v1", "CronJob") => Kind::CronJob,
            _ => return None,
        })
    }

    /// Whether it has Pods of its own.
    pub(super) fn has_pods(self) -> bool {
        !matches!(self, Kind::CronJob | Kind::Tracked)
    }

    /// Whether it has ControllerRevisions.
    pub(super) fn has_revisions(self) -> bool {
        matches!(self, Kind::StatefulSet | Kind::DaemonSet)
    }
}

/// A kind whose objects are known.
pub(super) trait Kept: Stored {
    /// What its objects are looked after as.
    const KIND: Option<Kind>;

    fn known(world: &World) -> &Known<Self>;
    fn known_mut(world: &mut World) -> &mut Known<Self>;

    /// What it selects.
    fn selector(&self) -> Option<Selector> {
        None
    }

    /// Whether what has become of an object may concern others.
    fn is_news(_old: Option<&Self>, _now: Option<&Self>) -> bool {
        true
    }

    /// Whom an object of it concerns beside itself: its controller; where it has none, those that select it.
    fn concerns(&self, world: &World) -> Vec<Id> {
        world.controllers_of(self.meta())
    }
}

fn read(selector: Option<&LabelSelector>) -> Option<Selector> {
    Selector::from_object(selector).ok()
}

impl Kept for Deployment {
    const KIND: Option<Kind> = Some(Kind::Deployment);

    fn known(world: &World) -> &Known<Self> {
        &world.deployments
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.deployments
    }

    fn selector(&self) -> Option<Selector> {
        read(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

impl Kept for ReplicaSet {
    const KIND: Option<Kind> = Some(Kind::ReplicaSet);

    fn known(world: &World) -> &Known<Self> {
        &world.sets
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.sets
    }

    fn selector(&self) -> Option<Selector> {
        replicaset::selector(self)
    }

    fn concerns(&self, world: &World) -> Vec<Id> {
        world.controllers_or(&self.metadata, |world, meta| {
            world.selecting::<Deployment>(meta)
        })
    }
}

impl Kept for ReplicationController {
    const KIND: Option<Kind> = Some(Kind::ReplicationController);

    fn known(world: &World) -> &Known<Self> {
        &world.controllers
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.controllers
    }

    fn selector(&self) -> Option<Selector> {
        replicaset::selector(&replication::as_set(self))
    }
}

impl Kept for StatefulSet {
    const KIND: Option<Kind> = Some(Kind::StatefulSet);

    fn known(world: &World) -> &Known<Self> {
        &world.stateful_sets
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.stateful_sets
    }

    fn selector(&self) -> Option<Selector> {
        statefulset::selector(self)
    }
}

impl Kept for DaemonSet {
    const KIND: Option<Kind> = Some(Kind::DaemonSet);

    fn known(world: &World) -> &Known<Self> {
        &world.daemon_sets
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.daemon_sets
    }

    fn selector(&self) -> Option<Selector> {
        read(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

impl Kept for ControllerRevision {
    const KIND: Option<Kind> = None;

    fn known(world: &World) -> &Known<Self> {
        &world.revisions
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.revisions
    }

    /// As upstream, a set looks at a revision of its own when it goes or is orphaned, not when somebody makes or changes it.
    fn is_news(old: Option<&Self>, now: Option<&Self>) -> bool {
        let controller = |revision: &Self| owner::controller_of(&revision.metadata).cloned();
        let (old, now) = (old.map(controller), now.map(controller));
        now.is_none() || now == Some(None) || (old.is_some() && old != now)
    }

    fn concerns(&self, world: &World) -> Vec<Id> {
        world.controllers_or(&self.metadata, |world, meta| {
            let mut ids = world.selecting::<StatefulSet>(meta);
            ids.extend(world.selecting::<DaemonSet>(meta));
            ids
        })
    }
}

impl Kept for PersistentVolumeClaim {
    const KIND: Option<Kind> = None;

    fn known(world: &World) -> &Known<Self> {
        &world.claims
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.claims
    }

    /// Whose it is and whether it stays; what it is bound to is its Pod's concern.
    fn is_news(old: Option<&Self>, now: Option<&Self>) -> bool {
        let marks = |claim: &Self| {
            let meta = &claim.metadata;
            (
                meta.uid.clone(),
                meta.owner_references.clone(),
                meta.deletion_timestamp.is_some(),
            )
        };
        old.map(marks) != now.map(marks)
    }

    /// The sets of whose Pods it is by its name, whoever owns it.
    fn concerns(&self, world: &World) -> Vec<Id> {
        let (namespace, name) = informer::key_of(self);
        let sets = world.stateful_sets.of_namespace(&namespace);
        let sets = sets.filter(|set| statefulset::is_claim_of(set, &name));
        sets.map(|set| (Kind::StatefulSet, informer::key_of(set)))
            .collect()
    }
}

impl Kept for Job {
    const KIND: Option<Kind> = Some(Kind::Job);

    fn known(world: &World) -> &Known<Self> {
        &world.jobs
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.jobs
    }

    fn selector(&self) -> Option<Selector> {
        read(self.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    }

    /// Its Pods may have been left behind, too.
    fn concerns(&self, world: &World) -> Vec<Id> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let tracked = world.pods.of_namespace(namespace);
        let tracked = tracked.filter(|pod| job::is_tracked(pod));
        let tracked = tracked.map(|pod| (Kind::Tracked, informer::key_of(pod)));
        let mut ids = world.controllers_of(&self.metadata);
        ids.extend(tracked);
        ids
    }
}

impl Kept for CronJob {
    const KIND: Option<Kind> = Some(Kind::CronJob);

    fn known(world: &World) -> &Known<Self> {
        &world.cronjobs
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.cronjobs
    }
}

impl Kept for Pod {
    const KIND: Option<Kind> = None;

    fn known(world: &World) -> &Known<Self> {
        &world.pods
    }

    fn known_mut(world: &mut World) -> &mut Known<Self> {
        &mut world.pods
    }

    /// The Deployment of its controller, too, which may wait for it to end, and itself while it waits for being counted.
    fn concerns(&self, world: &World) -> Vec<Id> {
        let mut ids = world.controllers_or(&self.metadata, |world, meta| {
            let mut ids = world.selecting::<ReplicaSet>(meta);
            ids.extend(world.selecting::<ReplicationController>(meta));
            ids.extend(world.selecting::<StatefulSet>(meta));
            ids.extend(world.selecting::<DaemonSet>(meta));
            ids.extend(world.selecting::<Job>(meta));
            ids
        });
        if let Some((Kind::ReplicaSet, key)) = ids.first()
            && !pod::is_active(self)
            && let Some(set) = world.sets.get(key)
        {
            ids.extend(set.concerns(world));
        }
        if job::is_tracked(self) {
            ids.push((Kind::Tracked, informer::key_of(self)));
        }
        ids
    }
}
