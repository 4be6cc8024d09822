//! A StatefulSet, its Pods, claims and revisions, whatever happens to them in whatever order: what comes first comes first at each step,
//! and in the end there is what was asked for.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use proptest::prelude::*;
use serde_json::{Value, json};
use workloads::history::{self, REVISION_LABEL};
use workloads::statefulset::{self, Failure, Plan, Seen, Step};
use workloads::{owner, pod};

/// What happens next.
#[derive(Debug, Clone)]
enum Happens {
    /// The user changes the template, to one of a few.
    Template(u8),
    Scale(i32),
    /// The first ordinal.
    Start(i32),
    /// Pods are updated from this one on.
    Partition(Option<i32>),
    OnDelete,
    MinReady(i32),
    /// Whether claims go with Pods, and with the set.
    Retention(bool, bool),
    /// Somebody else has the name of the next revision.
    Squat(u8),
    /// The controller looks.
    Look,
    /// A Pod becomes ready, or not ready any more.
    Ready(usize, bool),
    /// A Pod fails for good, or succeeds.
    Over(usize, bool),
    /// A Pod that is being deleted ends.
    Ends(usize),
    /// Somebody deletes a Pod.
    Deleted(usize),
    /// A Pod loses its owner.
    Orphaned(usize),
    /// A Pod is not selected any more.
    Strays(usize),
    /// What has lost its owners goes.
    Garbage,
    /// Time passes.
    Seconds(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => (0..4u8).prop_map(Happens::Template),
        2 => (0..6).prop_map(Happens::Scale),
        1 => (0..3).prop_map(Happens::Start),
        1 => prop::option::of(0..4).prop_map(Happens::Partition),
        1 => Just(Happens::OnDelete),
        1 => (0..2).prop_map(|n| Happens::MinReady(n * 10)),
        1 => any::<(bool, bool)>().prop_map(|(a, b)| Happens::Retention(a, b)),
        1 => (0..4u8).prop_map(Happens::Squat),
        24 => Just(Happens::Look),
        16 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(i, r)| Happens::Ready(i, r)),
        2 => any::<(usize, bool)>().prop_map(|(i, f)| Happens::Over(i, f)),
        8 => any::<usize>().prop_map(Happens::Ends),
        1 => any::<usize>().prop_map(Happens::Deleted),
        1 => any::<usize>().prop_map(Happens::Orphaned),
        1 => any::<usize>().prop_map(Happens::Strays),
        2 => Just(Happens::Garbage),
        2 => (1..20i64).prop_map(Happens::Seconds),
    ]
}

struct World {
    now: Timestamp,
    set: StatefulSet,
    pods: BTreeMap<String, Pod>,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    revisions: BTreeMap<String, ControllerRevision>,
    made: u32,
}

fn template(image: u8) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image.to_string()}]},
    })
}

fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The revision a Pod is of.
fn of(pod: &Pod) -> &str {
    &pod.metadata.labels.as_ref().unwrap()[REVISION_LABEL]
}

impl World {
    fn new(policy: &str, has_claims: bool) -> Self {
        let claims =
            json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
        let set = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "web", "generation": 1},
            "spec": {
                "replicas": 3, "serviceName": "svc", "podManagementPolicy": policy, "revisionHistoryLimit": 1,
                "selector": {"matchLabels": {"app": "web"}}, "template": template(0),
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "volumeClaimTemplates": if has_claims { claims } else { json!([]) },
            },
        });
        World {
            now: Timestamp::new(1000, 0).unwrap(),
            set: serde_json::from_value(set).unwrap(),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            revisions: BTreeMap::new(),
            made: 0,
        }
    }

    fn spec(&mut self, change: Value) {
        let mut value = serde_json::to_value(&self.set).unwrap();
        for (key, field) in change.as_object().unwrap() {
            value["spec"][key] = field.clone();
        }
        let changed: StatefulSet = serde_json::from_value(value).unwrap();
        if changed != self.set {
            self.set = changed;
            self.set.metadata.generation = self.set.metadata.generation.map(|g| g + 1);
        }
    }

    fn stamp(&mut self, meta: &mut ObjectMeta) -> String {
        self.made += 1;
        meta.namespace = Some("ns".into());
        meta.uid = Some(format!("uid-{}", self.made));
        meta.creation_timestamp = Some(Time(self.now));
        meta.name.clone().unwrap()
    }

    fn pod(&mut self, index: usize) -> Option<&mut Pod> {
        let index = index.checked_rem(self.pods.len())?;
        self.pods.values_mut().nth(index)
    }

    fn reference(&self) -> OwnerReference {
        owner::reference("apps/v1", "StatefulSet", &self.set.metadata)
    }

    fn is_own(&self, pod: &Pod) -> bool {
        owner::controller_of(&pod.metadata).is_some_and(|o| o.uid == "web")
    }

    /// Its Pods by their ordinals.
    fn own(&self) -> BTreeMap<i32, &Pod> {
        let own = self.pods.iter().filter(|(_, pod)| self.is_own(pod));
        let named =
            own.map(|(name, pod)| (name.strip_prefix("web-").unwrap().parse().unwrap(), pod));
        named.collect()
    }

    fn start(&self) -> i32 {
        let spec = self.set.spec.as_ref().unwrap();
        spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
    }

    fn range(&self) -> std::ops::Range<i32> {
        let start = self.start();
        start..start + statefulset::replicas(&self.set)
    }

    fn is_ordered(&self) -> bool {
        let spec = self.set.spec.as_ref().unwrap();
        spec.pod_management_policy.as_deref() == Some("OrderedReady")
    }

    /// From which ordinal on Pods are updated, if they are.
    fn updated_from(&self) -> Option<i32> {
        let strategy = self
            .set
            .spec
            .as_ref()
            .unwrap()
            .update_strategy
            .as_ref()
            .unwrap();
        let partition = strategy.rolling_update.as_ref().and_then(|r| r.partition);
        let is_rolling = strategy.type_.as_deref() == Some("RollingUpdate");
        is_rolling.then(|| self.start() + partition.unwrap_or(0))
    }

    fn is_well(&self, pod: &Pod) -> bool {
        let least = self
            .set
            .spec
            .as_ref()
            .unwrap()
            .min_ready_seconds
            .unwrap_or(0);
        pod::is_active(pod) && pod::is_available(pod, least, self.now)
    }

    fn happen(&mut self, what: Happens) {
        let now = Time(self.now);
        match what {
            Happens::Template(image) => self.spec(json!({"template": template(image)})),
            Happens::Scale(replicas) => self.spec(json!({"replicas": replicas})),
            Happens::Start(start) => self.spec(json!({"ordinals": {"start": start}})),
            Happens::Partition(partition) => {
                let rolling = partition.map(|p| json!({"partition": p}));
                self.spec(
                    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}),
                );
            }
            Happens::OnDelete => self.spec(json!({"updateStrategy": {"type": "OnDelete"}})),
            Happens::MinReady(seconds) => self.spec(json!({"minReadySeconds": seconds})),
            Happens::Retention(scaled, deleted) => {
                let when = |goes| if goes { "Delete" } else { "Retain" };
                let policy = json!({"whenScaled": when(scaled), "whenDeleted": when(deleted)});
                self.spec(json!({"persistentVolumeClaimRetentionPolicy": policy}));
            }
            Happens::Squat(image) => self.squat(image),
            Happens::Look => {
                self.look();
            }
            Happens::Ready(index, is_ready) => {
                let now = self.now;
                if let Some(pod) = self.pod(index) {
                    make_ready(pod, is_ready, now);
                }
            }
            Happens::Over(index, has_failed) => {
                if let Some(pod) = self.pod(index) {
                    let phase = if has_failed { "Failed" } else { "Succeeded" };
                    let status = json!({"phase": phase});
                    pod.status = serde_json::from_value(status).unwrap();
                }
            }
            Happens::Ends(index) => {
                if let Some(pod) = self.pod(index).filter(|pod| is_leaving(pod)) {
                    let name = pod.metadata.name.clone().unwrap();
                    self.pods.remove(&name);
                }
            }
            Happens::Deleted(index) => {
                if let Some(pod) = self.pod(index) {
                    pod.metadata.deletion_timestamp.get_or_insert(now);
                }
            }
            Happens::Orphaned(index) => {
                if let Some(pod) = self.pod(index) {
                    pod.metadata.owner_references = None;
                }
            }
            Happens::Strays(index) => {
                if let Some(pod) = self.pod(index) {
                    pod.metadata.labels.as_mut().unwrap().remove("app");
                }
            }
            Happens::Garbage => {
                self.collect();
            }
            Happens::Seconds(seconds) => self.now += SignedDuration::from_secs(seconds),
        }
    }

    fn squat(&mut self, image: u8) {
        let status = self.set.status.as_ref();
        let other = ObjectMeta {
            uid: Some("other".into()),
            ..self.set.metadata.clone()
        };
        let recipe = history::Recipe {
            controller: &other,
            reference: &owner::reference("apps/v1", "StatefulSet", &other),
            template: &serde_json::from_value(template(image)).unwrap(),
            label: history::HASH_LABEL,
            collisions: Some(status.and_then(|s| s.collision_count).unwrap_or(0)),
            number: 1,
        };
        let mut revision = recipe.revision();
        let name = self.stamp(&mut revision.metadata);
        self.revisions.entry(name).or_insert(revision);
    }

    /// Claims whose owners are gone go; whether there were any.
    fn collect(&mut self) -> bool {
        let before = self.claims.len();
        let is_there = |o: &OwnerReference| {
            let mut pods = self.pods.values();
            o.uid == "web" || pods.any(|pod| pod.metadata.uid.as_ref() == Some(&o.uid))
        };
        self.claims
            .retain(|_, claim| match &claim.metadata.owner_references {
                Some(owners) => owners.iter().any(is_there),
                None => true,
            });
        self.claims.len() != before
    }

    fn plan(&self, failure: Option<Failure>) -> Plan {
        let pods: Vec<_> = self.pods.values().collect();
        let revisions: Vec<_> = self.revisions.values().collect();
        let claims: Vec<_> = self.claims.values().collect();
        let seen = Seen {
            pods: &pods,
            revisions: &revisions,
            claims: &claims,
            failure,
        };
        statefulset::plan(&self.set, &self.reference(), seen, self.now)
    }

    /// One look of the controller; whether it had anything to do, and when it is to look again.
    fn look(&mut self) -> (bool, Option<Timestamp>) {
        let mut plan = self.plan(None);
        let did_something = !plan.steps.is_empty() || plan.status.is_some();
        self.check(&plan);
        for step in std::mem::take(&mut plan.steps) {
            if let Some(failure) = self.take(step) {
                plan = self.plan(Some(failure));
                assert_eq!(plan.steps, [], "a failure is held");
                break;
            }
        }
        if let Some(status) = plan.status {
            assert_ne!(
                self.set.status.as_ref(),
                Some(&*status),
                "nothing new is written"
            );
            self.set.status = Some(*status);
        }
        (did_something, plan.wake)
    }

    fn take(&mut self, step: Step) -> Option<Failure> {
        match step {
            Step::HandOverPod(handover) => {
                let reference = self.reference();
                let pod = self.pods.get_mut(&handover.object).unwrap();
                pod.metadata.owner_references = handover.is_adoption.then(|| vec![reference]);
            }
            Step::CreateRevision(mut revision) => {
                let name = revision.metadata.name.clone().unwrap();
                if let Some(found) = self.revisions.get(&name) {
                    assert!(!history::is_same(found, &revision), "it was seen");
                    let status = self.set.status.as_ref();
                    let before = status.and_then(|s| s.collision_count);
                    return Some(Failure::Collision(before.unwrap_or(0)));
                }
                self.stamp(&mut revision.metadata);
                self.revisions.insert(name, *revision);
            }
            Step::UpdateRevision(revision) => {
                let name = revision.metadata.name.clone().unwrap();
                self.revisions.insert(name, *revision).unwrap();
            }
            Step::DeleteRevision { revision, uid } => {
                let gone = self.revisions.remove(&revision).unwrap();
                assert_eq!(gone.metadata.uid, Some(uid));
            }
            Step::CreateClaim { mut claim, .. } => {
                let name = self.stamp(&mut claim.metadata);
                assert!(
                    self.claims.insert(name, *claim).is_none(),
                    "a claim is there"
                );
            }
            Step::UpdateClaim { claim, .. } => {
                let name = claim.metadata.name.clone().unwrap();
                let before = self.claims.insert(name, (*claim).clone());
                assert_ne!(before.unwrap(), *claim, "no change");
            }
            Step::CreatePod(mut pod) => {
                let name = pod.metadata.name.clone().unwrap();
                if let Some(other) = self.pods.get(&name) {
                    assert!(!self.is_own(other), "{name} is made twice");
                    return Some(Failure::Step);
                }
                self.stamp(&mut pod.metadata);
                self.pods.insert(name, *pod);
            }
            Step::DeletePod { pod, uid } => {
                let now = Time(self.now);
                let pod = self.pods.get_mut(&pod).unwrap();
                assert_eq!(pod.metadata.uid, Some(uid));
                assert!(!is_leaving(pod), "once is enough");
                pod.metadata.deletion_timestamp = Some(now);
            }
            step => panic!("there is no reason for that: {step:?}"),
        }
        None
    }

    /// What must be so whenever there is anything to do.
    fn check(&self, plan: &Plan) {
        let newest = self
            .revisions
            .values()
            .map(|r| r.revision)
            .max()
            .unwrap_or(0);
        for step in &plan.steps {
            match step {
                Step::CreatePod(pod) => self.check_new(pod, plan),
                Step::DeletePod { pod, .. } => self.check_doomed(&self.pods[pod]),
                Step::CreateRevision(revision) => {
                    assert_eq!(plan.steps.len(), 1);
                    assert!(revision.revision > 0);
                }
                Step::UpdateRevision(revision) => assert_eq!(revision.revision, newest + 1),
                Step::DeleteRevision { revision, .. } => {
                    let own = self.own();
                    assert!(
                        own.values().all(|pod| of(pod) != revision),
                        "Pods are of it"
                    );
                }
                _ => {}
            }
        }
        let is_count = |step: &&Step| matches!(step, Step::CreatePod(_) | Step::DeletePod { .. });
        if self.is_ordered() {
            assert!(
                plan.steps.iter().filter(is_count).count() <= 1,
                "one at a time"
            );
        }
    }

    fn check_new(&self, pod: &Pod, plan: &Plan) {
        let own = self.own();
        let name = pod.metadata.name.as_deref().unwrap();
        let ordinal: i32 = name.strip_prefix("web-").unwrap().parse().unwrap();
        assert!(self.range().contains(&ordinal) && !own.contains_key(&ordinal));
        if self.is_ordered() {
            for earlier in self.start()..ordinal {
                let is_well = own.get(&earlier).is_some_and(|pod| self.is_well(pod));
                assert!(
                    is_well,
                    "web-{ordinal} is made before web-{earlier} is well"
                );
            }
        }
        let spec = self.set.spec.as_ref().unwrap();
        for template in spec.volume_claim_templates.iter().flatten() {
            let claim = format!("{}-{name}", template.metadata.name.as_ref().unwrap());
            let is_made = |step: &Step| match step {
                Step::CreateClaim { claim: made, .. } => {
                    made.metadata.name.as_ref() == Some(&claim)
                }
                _ => false,
            };
            assert!(self.claims.contains_key(&claim) || plan.steps.iter().any(is_made));
        }
        let revision = &self.revisions[of(pod)];
        let kept = history::template(revision).unwrap();
        assert_eq!(
            kept.spec.unwrap().containers,
            pod.spec.as_ref().unwrap().containers
        );
        let is_newest = history::has_template(revision, &spec.template);
        let status = self.set.status.as_ref();
        let current = status.and_then(|s| s.current_revision.as_ref());
        let has_partition = spec
            .update_strategy
            .as_ref()
            .unwrap()
            .rolling_update
            .is_some();
        match self.updated_from() {
            Some(first) if has_partition && ordinal < first => {
                let is_current =
                    current.is_none_or(|c| *c == of(pod) || !self.revisions.contains_key(c));
                assert!(
                    is_current,
                    "{name} is made of another revision than the current one"
                );
            }
            Some(_) if !has_partition => {}
            _ => assert!(is_newest, "{name} is made of an old revision"),
        }
    }

    fn check_doomed(&self, doomed: &Pod) {
        let own = self.own();
        let (ordinal, _) = own
            .iter()
            .find(|(_, pod)| std::ptr::eq(**pod, doomed))
            .unwrap();
        let there_should_be = self.range();
        let after: Vec<_> = own.range(ordinal + 1..).collect();
        if !there_should_be.contains(ordinal) {
            if self.is_ordered() {
                let mut wanted = there_should_be.clone();
                let mut is_well = |o: i32| own.get(&o).is_some_and(|pod| self.is_well(pod));
                assert!(wanted.all(&mut is_well), "Pods go before others are well");
                let last = after.iter().all(|(o, _)| there_should_be.contains(o));
                assert!(last, "web-{ordinal} goes before the last");
            }
            return;
        }
        if pod::is_over(doomed) {
            return;
        }
        let spec = self.set.spec.as_ref().unwrap();
        let is_new = |pod: &Pod| {
            let revision = self.revisions.get(of(pod));
            revision.is_some_and(|r| history::has_template(r, &spec.template))
        };
        assert!(!is_new(doomed), "web-{ordinal} is new already");
        let first = self.updated_from().expect("nothing is updated");
        assert!(*ordinal >= first, "web-{ordinal} is before the partition");
        for later in ordinal + 1..there_should_be.end {
            let pod = own.get(&later);
            assert!(
                pod.is_some_and(|pod| is_new(pod) && self.is_well(pod)),
                "web-{later} is next"
            );
        }
    }

    /// Everybody does what there is to do, every Pod becomes ready and every one that leaves ends, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..400 {
            let (mut is_moving, wake) = self.look();
            let before = self.pods.len();
            let strays: Vec<String> = self.strays();
            self.pods
                .retain(|name, pod| !is_leaving(pod) && !strays.contains(name));
            is_moving |= self.pods.len() != before;
            for pod in self.pods.values_mut() {
                is_moving |= make_ready(pod, true, self.now);
            }
            is_moving |= self.collect();
            if is_moving {
                continue;
            }
            match wake {
                Some(wake) => {
                    assert!(wake > self.now);
                    self.now = wake;
                }
                None => return,
            }
        }
        panic!("it never settles");
    }

    fn strays(&self) -> Vec<String> {
        let is_stray = |pod: &Pod| !pod.metadata.labels.as_ref().unwrap().contains_key("app");
        let strays = self.pods.iter().filter(|(_, pod)| is_stray(pod));
        strays.map(|(name, _)| name.clone()).collect()
    }

    fn check_settled(&self) {
        let own = self.own();
        assert!(
            own.keys().copied().eq(self.range()),
            "{:?}",
            self.pods.keys()
        );
        let spec = self.set.spec.as_ref().unwrap();
        let is_new = |pod: &Pod| history::has_template(&self.revisions[of(pod)], &spec.template);
        if let Some(first) = self.updated_from() {
            let mut due = own.range(first..);
            assert!(
                due.all(|(_, pod)| is_new(pod)),
                "Pods of old templates are left"
            );
        }
        let status = self.set.status.as_ref().unwrap();
        assert_eq!(status.observed_generation, self.set.metadata.generation);
        let wanted = statefulset::replicas(&self.set);
        let new = own.values().filter(|pod| is_new(pod)).count();
        assert_eq!(status.replicas, wanted);
        assert_eq!(status.ready_replicas.unwrap_or(0), wanted);
        assert_eq!(status.available_replicas, Some(wanted));
        assert_eq!(
            usize::try_from(status.updated_replicas.unwrap_or(0)),
            Ok(new)
        );
        let newest = &self.revisions[status.update_revision.as_ref().unwrap()];
        assert!(history::has_template(newest, &spec.template));
        let mut owned: Vec<_> = self.revisions.values().collect();
        owned.retain(|r| owner::controller_of(&r.metadata).is_some_and(|o| o.uid == "web"));
        assert!(owned.iter().all(|r| r.revision <= newest.revision));
        if self.updated_from().is_some() && new == own.len() {
            assert_eq!(status.current_revision, status.update_revision);
            assert_eq!(status.current_replicas, status.updated_replicas);
        }
        let current = status.current_revision.as_deref();
        let is_live = |r: &&&ControllerRevision| {
            let name = r.metadata.name.as_deref().unwrap();
            own.values().any(|pod| of(pod) == name)
                || current == Some(name)
                || std::ptr::eq(**r, newest)
        };
        let past = owned.len() - owned.iter().filter(is_live).count();
        assert!(past <= 1, "the history is too long");
        self.check_claims(&own);
    }

    fn check_claims(&self, own: &BTreeMap<i32, &Pod>) {
        let spec = self.set.spec.as_ref().unwrap();
        let policy = spec.persistent_volume_claim_retention_policy.as_ref();
        let goes_with_set = policy.is_some_and(|p| p.when_deleted.as_deref() == Some("Delete"));
        let reference = goes_with_set.then(|| self.reference());
        for template in spec.volume_claim_templates.iter().flatten() {
            for ordinal in own.keys() {
                let volume = template.metadata.name.as_ref().unwrap();
                let claim = &self.claims[&format!("{volume}-web-{ordinal}")];
                let owners = claim.metadata.owner_references.iter().flatten();
                assert!(
                    owners.eq(&reference),
                    "{:?}",
                    claim.metadata.owner_references
                );
            }
        }
    }
}

/// Whether that changes it.
fn make_ready(pod: &mut Pod, is_ready: bool, now: Timestamp) -> bool {
    if !pod::is_active(pod) || pod::is_ready(pod) == is_ready {
        return false;
    }
    let ready = if is_ready { "True" } else { "False" };
    let condition =
        json!({"type": "Ready", "status": ready, "lastTransitionTime": now.to_string()});
    let status = json!({"phase": "Running", "conditions": [condition]});
    pod.status = serde_json::from_value(status).unwrap();
    true
}

proptest! {
    #![proptest_config(testkit::cases(500, 11))]

    #[test]
    fn whatever_happens_there_is_in_the_end_what_was_asked_for(
        is_ordered: bool, has_claims: bool, all in prop::collection::vec(happens(), 0..120),
    ) {
        let policy = if is_ordered { "OrderedReady" } else { "Parallel" };
        let mut world = World::new(policy, has_claims);
        for what in all {
            world.happen(what);
        }
        world.settle();
        world.check_settled();
        prop_assert!(!world.look().0, "once more changes nothing");
    }
}
