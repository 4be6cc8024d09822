//! The controllers of workloads: what [`workloads`] plans is carried out here.
//!
//! One task follows all kinds, since their Pods are the same. An object is planned for when it or something of it has changed, and never
//! twice at a time; others go on meanwhile. What a plan has made, changed and deleted is known here before the watch tells of it, so that
//! no plan is made from what has been outdated by the one before. Pods are watched only while there is a workload, or a Pod
//! that has not been counted, revisions and nodes only while there is a StatefulSet or a DaemonSet, claims only while a StatefulSet's
//! Pods have some.

mod cronjobs;
mod daemons;
mod deployments;
mod jobs;
mod kinds;
mod known;
mod outcome;
#[cfg(test)]
mod properties;
mod replicas;
mod revisions;
mod stateful;
mod steps;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use events::Recorder;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, select, select_all};
use informer::{Wanted, Watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, ReplicationController};
use kube::runtime::watcher::Event;
use kube::{Client, Resource};
use ports::clock::Clock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use kinds::{Kept, Kind};
use known::Known;
use outcome::{Failed, Outcome, Trouble};
use steps::Hands;
use world::{Id, World};

/// The first rest after something that failed; each is twice as long as the one before.
const FIRST_REST: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What is to be done for an object.
struct Work {
    /// Does it.
    doing: BoxFuture<'static, Outcome>,
    /// When to look again if nothing happens.
    wake: Option<Timestamp>,
}

/// Something that failed and is to be left alone for a while.
struct Hold {
    until: Instant,
    rest: Duration,
    /// The state of the object that failed: another is tried at once.
    generation: Option<i64>,
    trouble: Trouble,
}

/// Has the world take in what a watch tells, and says what to look at because of it.
type Telling = Box<dyn FnOnce(&mut World) -> Vec<Id> + Send>;

/// What happens to the objects of a kind.
fn follow<K: Kept>(client: &Client) -> BoxStream<'static, Telling> {
    told(watch_all::<K>(client), World::hear)
}

fn told<K>(
    watch: Watch<K>,
    hear: fn(&mut World, Event<K>) -> Vec<Id>,
) -> BoxStream<'static, Telling>
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    let events = watch.map(move |event| {
        let telling: Telling = match event {
            Ok(event) => Box::new(move |world| hear(world, event)),
            Err(error) => {
                tracing::warn!(%error, kind = %K::kind(&()), "watching workloads");
                Box::new(|_| Vec::new())
            }
        };
        telling
    });
    events.boxed()
}

/// What happens to what StatefulSets and DaemonSets are planned from beside Pods.
fn follow_revisions(client: &Client) -> BoxStream<'static, Telling> {
    let nodes = told(watch_all::<Node>(client), World::hear_of_node);
    select(follow::<ControllerRevision>(client), nodes).boxed()
}

/// Looks after workloads until `shutdown`.
pub(crate) async fn run(
    client: Client,
    recorder: &Recorder,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let mut workloads = select_all([
        follow::<Deployment>(&client),
        follow::<ReplicaSet>(&client),
        follow::<ReplicationController>(&client),
        follow::<StatefulSet>(&client),
        follow::<DaemonSet>(&client),
        follow::<Job>(&client),
        follow::<CronJob>(&client),
    ]);
    let mut pods = Wanted::default();
    let mut revisions = Wanted::default();
    let mut claims = Wanted::default();
    let mut keeper = Keeper {
        hands: Hands::new(client.clone(), clock, recorder.clone()),
        world: World::default(),
        due: BTreeMap::new(),
        busy: BTreeSet::new(),
        held: BTreeMap::new(),
        running: FuturesUnordered::new(),
    };
    loop {
        let next = keeper.next();
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(telling) = workloads.next() => keeper.look_at(telling),
            Some(telling) = pods.next() => keeper.look_at(telling),
            Some(telling) = revisions.next() => keeper.look_at(telling),
            Some(telling) = claims.next() => keeper.look_at(telling),
            Some((id, outcome)) = keeper.running.next() => keeper.done(id, outcome),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
        keeper.check_unseen().await;
        let world = &mut keeper.world;
        if pods.follow_if(world.needs_pods(), || follow::<Pod>(&client)) {
            world.pods = Known::default();
        }
        if revisions.follow_if(world.needs_revisions(), || follow_revisions(&client)) {
            world.revisions = Known::default();
            world.nodes = Known::default();
        }
        let follow_claims = || follow::<PersistentVolumeClaim>(&client);
        if claims.follow_if(world.needs_claims(), follow_claims) {
            world.claims = Known::default();
        }
        keeper.begin();
    }
}

struct Keeper {
    hands: Hands,
    world: World,
    /// When objects have to be looked at.
    due: BTreeMap<Id, Instant>,
    /// Objects that are being worked on.
    busy: BTreeSet<Id>,
    held: BTreeMap<Id, Hold>,
    running: FuturesUnordered<BoxFuture<'static, (Id, Outcome)>>,
}

impl Keeper {
    fn look_at(&mut self, hear: impl FnOnce(&mut World) -> Vec<Id>) {
        let now = Instant::now();
        for id in hear(&mut self.world) {
            self.due.insert(id, now);
        }
        self.rest();
    }

    /// While no work is under way nothing can tell of what has gone.
    fn rest(&mut self) {
        if self.busy.is_empty() {
            self.world.forget_gone();
        }
    }

    /// Whether an object can be planned for: it is not being worked on, and what there is has been listed.
    fn is_free(&self, id: &Id) -> bool {
        !self.busy.contains(id) && self.world.is_synced(id.0)
    }

    /// When the next object has to be looked at.
    fn next(&self) -> Option<Instant> {
        let idle = self.due.iter().filter(|(id, _)| self.is_free(id));
        idle.map(|(_, due)| *due).min()
    }

    /// Asks for objects that were made here and that a list did not show.
    async fn check_unseen(&mut self) {
        self.check::<Pod>().await;
        self.check::<Deployment>().await;
        self.check::<ReplicaSet>().await;
        self.check::<ReplicationController>().await;
        self.check::<StatefulSet>().await;
        self.check::<DaemonSet>().await;
        self.check::<ControllerRevision>().await;
        self.check::<PersistentVolumeClaim>().await;
        self.check::<Job>().await;
        self.check::<CronJob>().await;
    }

    async fn check<K: Kept>(&mut self) {
        for key in K::known_mut(&mut self.world).take_unseen() {
            match self.hands.find::<K>(&key).await {
                Ok(Some(_)) => {}
                Ok(None) => self.look_at(|world| world.is_gone::<K>(&key)),
                Err(error) => {
                    tracing::warn!(%error, name = key.1, "looking for what was made");
                    K::known_mut(&mut self.world).doubt(key);
                }
            }
        }
    }

    /// Begins with every object whose time has come.
    fn begin(&mut self) {
        let now = Instant::now();
        let ready = self.due.iter();
        let ready = ready.filter(|(id, due)| **due <= now && self.is_free(id));
        for id in ready.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.due.remove(&id);
            let Some(generation) = self.world.generation(&id) else {
                self.held.remove(&id);
                self.world.forget(&id);
                continue;
            };
            let held = self.held.get(&id);
            let held = held.filter(|hold| hold.until > now && hold.generation == generation);
            if let Some(hold) = held {
                self.due.insert(id.clone(), hold.until);
            }
            let asked = self.hands.now();
            let Some(work) = self.plan(&id, held.map(|hold| &hold.trouble)) else {
                continue;
            };
            // What was over when it was asked for is not waited for; what has come since is looked at once more.
            if let Some(wake) = work.wake.filter(|wake| *wake > asked) {
                let wake = Instant::now() + self.hands.until(wake);
                let due = self.due.entry(id.clone()).or_insert(wake);
                *due = (*due).min(wake);
            }
            self.busy.insert(id.clone());
            let doing = work.doing;
            self.running
                .push(Box::pin(async move { (id, doing.await) }));
        }
    }

    fn plan(&self, id: &Id, held: Option<&Trouble>) -> Option<Work> {
        let (kind, key) = id;
        match kind {
            Kind::Deployment => deployments::plan(&self.hands, &self.world, key, held),
            Kind::ReplicaSet => replicas::plan_set(&self.hands, &self.world, key, held),
            Kind::ReplicationController => {
                replicas::plan_controller(&self.hands, &self.world, key, held)
            }
            Kind::StatefulSet => stateful::plan(&self.hands, &self.world, key, held),
            Kind::DaemonSet => daemons::plan(&self.hands, &self.world, key, held),
            Kind::Job => jobs::plan(&self.hands, &self.world, key, held),
            Kind::CronJob => cronjobs::plan(&self.hands, &self.world, key, held),
            Kind::Tracked => jobs::plan_tracked(&self.hands, &self.world, key, held),
        }
    }

    /// Takes in what has become of work.
    fn done(&mut self, id: Id, outcome: Outcome) {
        self.busy.remove(&id);
        let did_something = !outcome.written.is_empty();
        for written in outcome.written {
            written(&mut self.world);
        }
        self.rest();
        for news in outcome.news {
            self.hands.tell(news);
        }
        let now = Instant::now();
        match outcome.failed {
            // What comes of it may ask for more.
            None if did_something => {
                if self.held.get(&id).is_none_or(|hold| hold.until <= now) {
                    self.held.remove(&id);
                }
                self.due.insert(id, now);
            }
            None => {}
            // Somebody was faster, of which a watch tells.
            Some(Failed::Moot) => {}
            Some(Failed::Held(trouble)) => {
                let before = self.held.get(&id).map(|hold| hold.rest * 2);
                let rest = before.map_or(FIRST_REST, |rest| rest.min(LONGEST_REST));
                let hold = Hold {
                    until: now + rest,
                    rest,
                    generation: self.world.generation(&id).flatten(),
                    trouble,
                };
                self.held.insert(id.clone(), hold);
                self.due.insert(id, now);
            }
        }
    }
}
