//! ReplicaSets and ReplicationControllers, whatever happens to their Pods, however late that is heard and wherever the controller is cut
//! off: no more Pods are made than are missing, nobody else's are touched, and in the end there are as many as were asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use proptest::prelude::*;
use serde_json::json;
use workloads::replicaset::{self, Plan, Seen, Step};
use workloads::{owner, pod, replication};

/// What happens next.
#[derive(Debug, Clone)]
enum Happens {
    Scale(i32),
    /// The controller looks, and is cut off after so many writes: whether the last of them came about, it does not learn.
    Look(usize),
    /// It looks, and may make no Pods.
    Refused,
    /// It hears of something that has happened.
    Hears,
    Ready(usize, bool),
    Fails(usize),
    Ends(usize),
    /// Somebody deletes a Pod.
    Deleted(usize),
    /// A Pod is not selected any more, or loses its owner.
    Strays(usize),
    Orphaned(usize),
    /// Somebody makes a Pod that is selected: one of another controller, or nobody's.
    Made(bool),
    Seconds(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => (0..8).prop_map(Happens::Scale),
        8 => (0..20usize).prop_map(Happens::Look),
        1 => Just(Happens::Refused),
        16 => Just(Happens::Hears),
        8 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(i, r)| Happens::Ready(i, r)),
        1 => any::<usize>().prop_map(Happens::Fails),
        6 => any::<usize>().prop_map(Happens::Ends),
        1 => any::<usize>().prop_map(Happens::Deleted),
        1 => any::<usize>().prop_map(Happens::Strays),
        1 => any::<usize>().prop_map(Happens::Orphaned),
        1 => any::<bool>().prop_map(Happens::Made),
        1 => (1..30i64).prop_map(Happens::Seconds),
    ]
}

/// A Pod, or that one of the name is gone.
type News = (String, Option<Pod>);

struct Cluster {
    now: Timestamp,
    /// The set, or the one a ReplicationController is planned for as.
    set: ReplicaSet,
    reference: OwnerReference,
    pods: BTreeMap<String, Pod>,
    /// Pods as the controller knows them, and what it has not heard of yet.
    known: BTreeMap<String, Pod>,
    news: VecDeque<News>,
    /// Pods it has made without learning of it.
    unlearned: BTreeSet<String>,
    revision: u64,
}

impl Cluster {
    fn new(is_controller: bool) -> Self {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}});
        let meta = json!({"name": "web", "namespace": "ns", "uid": "web", "generation": 1});
        let (set, api_version, kind) = if is_controller {
            let spec = json!({"replicas": 3, "minReadySeconds": 5, "selector": {"app": "web"}, "template": template});
            let object = json!({"metadata": meta, "spec": spec});
            let controller: ReplicationController = serde_json::from_value(object).unwrap();
            (
                replication::as_set(&controller),
                "v1",
                "ReplicationController",
            )
        } else {
            let selector = json!({"matchLabels": {"app": "web"}});
            let spec = json!({"replicas": 3, "minReadySeconds": 5, "selector": selector, "template": template});
            let object = json!({"metadata": meta, "spec": spec});
            (
                serde_json::from_value(object).unwrap(),
                "apps/v1",
                "ReplicaSet",
            )
        };
        Cluster {
            now: Timestamp::new(1000, 0).unwrap(),
            reference: owner::reference(api_version, kind, &set.metadata),
            set,
            pods: BTreeMap::new(),
            known: BTreeMap::new(),
            news: VecDeque::new(),
            unlearned: BTreeSet::new(),
            revision: 0,
        }
    }

    fn happen(&mut self, what: Happens) {
        let now = Time(self.now);
        match what {
            Happens::Scale(replicas) => {
                self.set.spec.as_mut().unwrap().replicas = Some(replicas);
                self.set.metadata.generation = self.set.metadata.generation.map(|g| g + 1);
            }
            Happens::Look(writes) => drop(self.look(writes)),
            Happens::Refused => self.refused(),
            Happens::Hears => drop(self.hear()),
            Happens::Ready(index, is_ready) => {
                let now = self.now;
                self.change(index, |pod| make_ready(pod, is_ready, now));
            }
            Happens::Fails(index) => {
                self.change(index, |pod| {
                    pod.status.get_or_insert_default().phase = Some("Failed".into())
                });
            }
            Happens::Ends(index) => self.ends(index),
            Happens::Deleted(index) => {
                self.change(index, |pod| {
                    _ = pod.metadata.deletion_timestamp.get_or_insert(now);
                });
            }
            Happens::Strays(index) => self.change(index, |pod| pod.metadata.labels = None),
            Happens::Orphaned(index) => self.orphaned(index),
            Happens::Made(is_anothers) => {
                let other = OwnerReference {
                    uid: "other".into(),
                    ..self.reference.clone()
                };
                let owners = is_anothers.then(|| vec![other]);
                let meta = json!({"generateName": "made-", "labels": {"app": "web"}, "ownerReferences": owners});
                let pod = serde_json::from_value(json!({"metadata": meta})).unwrap();
                self.create(pod);
            }
            Happens::Seconds(seconds) => self.now += SignedDuration::from_secs(seconds),
        }
    }

    /// Writes a Pod: its name, and the Pod as it is then.
    fn put(&mut self, mut pod: Pod) -> Pod {
        self.revision += 1;
        pod.metadata.resource_version = Some(format!("{:09}", self.revision));
        let name = pod.metadata.name.clone().unwrap();
        self.news.push_back((name.clone(), Some(pod.clone())));
        self.pods.insert(name, pod.clone());
        pod
    }

    fn create(&mut self, mut pod: Pod) -> Pod {
        let prefix = pod.metadata.generate_name.take().unwrap();
        pod.metadata.name = Some(format!("{prefix}{}", self.revision));
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.uid = Some(format!("uid-{}", self.revision));
        pod.metadata.creation_timestamp = Some(Time(self.now));
        self.put(pod)
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Pod)) {
        let Some(index) = index.checked_rem(self.pods.len()) else {
            return;
        };
        let mut pod = self.pods.values().nth(index).unwrap().clone();
        change(&mut pod);
        self.put(pod);
    }

    fn ends(&mut self, index: usize) {
        let leaving = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.metadata.deletion_timestamp.is_some());
        let leaving: Vec<String> = leaving.map(|(name, _)| name.clone()).collect();
        if let Some(index) = index.checked_rem(leaving.len()) {
            self.pods.remove(&leaving[index]);
            self.news.push_back((leaving[index].clone(), None));
        }
    }

    /// What others own stays theirs.
    fn orphaned(&mut self, index: usize) {
        let is_own =
            |pod: &Pod| owner::controller_of(&pod.metadata).is_some_and(|o| o.uid == "web");
        self.change(index, |pod| {
            if is_own(pod) {
                pod.metadata.owner_references = None;
            }
        });
    }

    /// Takes in a Pod as it was written, unless it is known as it was later.
    fn learn(&mut self, name: String, pod: Option<Pod>) {
        self.unlearned.remove(&name);
        let Some(pod) = pod else {
            self.known.remove(&name);
            return;
        };
        let known = self
            .known
            .get(&name)
            .map(|known| &known.metadata.resource_version);
        if known.is_none_or(|known| *known < pod.metadata.resource_version) {
            self.known.insert(name, pod);
        }
    }

    /// Whether there was anything to hear.
    fn hear(&mut self) -> bool {
        let Some((name, pod)) = self.news.pop_front() else {
            return false;
        };
        self.learn(name, pod);
        true
    }

    fn plan(&self, failure: Option<&str>) -> Plan {
        let pods: Vec<&Pod> = self.known.values().collect();
        let seen = Seen {
            pods: &pods,
            siblings: &[&self.set],
            failure,
        };
        replicaset::plan(&self.set, &self.reference, seen, self.now)
    }

    /// Its Pods that have not ended and are not to.
    fn active(&self) -> usize {
        let own = self.pods.values().filter(|pod| self.is_own(pod));
        own.filter(|pod| pod::is_active(pod)).count()
    }

    fn is_own(&self, pod: &Pod) -> bool {
        owner::controller_of(&pod.metadata).is_some_and(|owner| owner.uid == self.reference.uid)
    }

    /// One look of the controller; whether it had anything to do.
    fn look(&mut self, mut writes: usize) -> bool {
        let plan = self.plan(None);
        let did_something = !plan.steps.is_empty() || plan.status.is_some();
        let mut before = self.active();
        self.check_deletions(&plan);
        let all = plan.steps.into_iter().flat_map(|step| match step {
            Step::Create { pod, count } => {
                vec![Step::Create { pod, count: 1 }; count]
            }
            step => vec![step],
        });
        for step in all {
            writes = writes.saturating_sub(1);
            let is_answered = writes > 0;
            let is_adoption = matches!(&step, Step::HandOver(handover) if handover.is_adoption);
            before += usize::from(is_adoption);
            self.take(step, is_answered);
            let wanted = usize::try_from(replicaset::replicas(&self.set)).unwrap();
            let most = before.max(wanted + self.unlearned.len());
            assert!(
                self.active() <= most,
                "{} Pods run, {most} may",
                self.active()
            );
            if !is_answered {
                return did_something;
            }
        }
        if let Some(status) = plan.status {
            self.set.status = Some(status);
        }
        did_something
    }

    /// Only what runs and is not being deleted is deleted, as far as is known.
    fn check_deletions(&self, plan: &Plan) {
        for step in &plan.steps {
            if let Step::Delete { pod, uid } = step {
                let known = &self.known[pod];
                assert_eq!(known.metadata.uid.as_ref(), Some(uid));
                assert!(pod::is_active(known), "once is enough");
            }
        }
    }

    fn take(&mut self, step: Step, is_answered: bool) {
        let written = match step {
            Step::Create { pod, .. } => {
                let pod = self.create(*pod);
                if !is_answered {
                    self.unlearned.extend(pod.metadata.name.clone());
                }
                pod
            }
            Step::Delete { pod, .. } => {
                let Some(mut pod) = self.pods.get(&pod).cloned() else {
                    return;
                };
                let owner = owner::controller_of(&pod.metadata);
                assert!(
                    owner.is_none_or(|o| o.uid == self.reference.uid),
                    "another's Pod is deleted"
                );
                pod.metadata
                    .deletion_timestamp
                    .get_or_insert(Time(self.now));
                self.put(pod)
            }
            Step::HandOver(handover) => {
                let Some(mut pod) = self.pods.get(&handover.object).cloned() else {
                    return;
                };
                let owner = owner::controller_of(&pod.metadata);
                assert!(
                    owner.is_none_or(|o| o.uid == self.reference.uid),
                    "another's Pod changes hands"
                );
                pod.metadata.owner_references =
                    handover.is_adoption.then(|| vec![self.reference.clone()]);
                self.put(pod)
            }
        };
        if is_answered {
            self.learn(written.metadata.name.clone().unwrap(), Some(written));
        }
    }

    /// It may make none: it says so once, and takes no more steps.
    fn refused(&mut self) {
        let is_creation = |step: &Step| matches!(step, Step::Create { .. });
        if !self.plan(None).steps.iter().any(is_creation) {
            return;
        }
        let plan = self.plan(Some("no more"));
        assert_eq!(plan.steps, []);
        if let Some(status) = plan.status {
            self.set.status = Some(status);
        }
        let status = self.set.status.as_ref().unwrap();
        let mut conditions = status.conditions.iter().flatten();
        let told = conditions.find(|c| c.type_ == "ReplicaFailure").unwrap();
        assert_eq!(
            (told.reason.as_deref(), told.status.as_str()),
            (Some("FailedCreate"), "True")
        );
    }

    /// Everything is heard, Pods become ready and those that are to end do, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..200 {
            while self.hear() {}
            let mut is_moving = self.look(usize::MAX);
            let leaving = self
                .pods
                .values()
                .filter(|pod| pod.metadata.deletion_timestamp.is_some());
            is_moving |= leaving.count() > 0;
            self.ends(0);
            for index in 0..self.pods.len() {
                let pod = self.pods.values().nth(index).unwrap();
                if pod::is_active(pod) && !pod::is_ready(pod) {
                    let now = self.now;
                    self.change(index, |pod| make_ready(pod, true, now));
                    is_moving = true;
                }
            }
            if is_moving {
                continue;
            }
            match self.plan(None).wake {
                Some(wake) => self.now = wake,
                None if self.news.is_empty() => return,
                None => {}
            }
        }
        panic!("it never settles");
    }

    fn check_settled(&self) {
        let wanted = replicaset::replicas(&self.set);
        assert_eq!(i32::try_from(self.active()), Ok(wanted));
        let status = self.set.status.as_ref().unwrap();
        assert_eq!(status.replicas, wanted);
        for number in [status.ready_replicas, status.available_replicas] {
            assert_eq!(number.unwrap_or(0), wanted);
        }
        assert_eq!(status.observed_generation, self.set.metadata.generation);
        let mut conditions = status.conditions.iter().flatten();
        assert!(conditions.all(|c| c.type_ != "ReplicaFailure"));
        for pod in self.pods.values().filter(|pod| pod::is_active(pod)) {
            let owner = owner::controller_of(&pod.metadata).map(|owner| &*owner.uid);
            let is_selected = pod.metadata.labels.is_some();
            assert_eq!(
                owner.is_some(),
                is_selected || owner == Some("other"),
                "{pod:?}"
            );
        }
    }
}

fn make_ready(pod: &mut Pod, is_ready: bool, now: Timestamp) {
    if !pod::is_active(pod) || pod::is_ready(pod) == is_ready {
        return;
    }
    let status = if is_ready { "True" } else { "False" };
    let condition =
        json!({"type": "Ready", "status": status, "lastTransitionTime": now.to_string()});
    pod.status =
        serde_json::from_value(json!({"phase": "Running", "conditions": [condition]})).unwrap();
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 19))]

    #[test]
    fn whatever_happens_there_are_as_many_in_the_end_as_were_asked_for(
        is_controller in any::<bool>(),
        all in prop::collection::vec(happens(), 0..120),
    ) {
        let mut cluster = Cluster::new(is_controller);
        for what in all {
            cluster.happen(what);
        }
        cluster.settle();
        cluster.check_settled();
        prop_assert!(!cluster.look(usize::MAX), "once more changes nothing");
    }
}
