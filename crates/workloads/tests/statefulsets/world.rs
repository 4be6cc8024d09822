//! A small model of the API, of nodes and of the controller that carries plans out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde_json::{Value, json};
use workloads::history::{self, REVISION_LABEL};
use workloads::statefulset::{self, Failure, Plan, Seen, Step};
use workloads::{owner, pod};

use crate::happens::Happens;

pub(crate) struct World {
    now: Timestamp,
    pub(crate) set: StatefulSet,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) claims: BTreeMap<String, PersistentVolumeClaim>,
    pub(crate) revisions: BTreeMap<String, ControllerRevision>,
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
pub(crate) fn of(pod: &Pod) -> &str {
    &pod.metadata.labels.as_ref().unwrap()[REVISION_LABEL]
}

impl World {
    pub(crate) fn new(policy: &str, has_claims: bool) -> Self {
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

    pub(crate) fn reference(&self) -> OwnerReference {
        owner::reference("apps/v1", "StatefulSet", &self.set.metadata)
    }

    fn is_own(&self, pod: &Pod) -> bool {
        owner::controller_of(&pod.metadata).is_some_and(|o| o.uid == "web")
    }

    /// Its Pods by their ordinals.
    pub(crate) fn own(&self) -> BTreeMap<i32, &Pod> {
        let own = self.pods.iter().filter(|(_, pod)| self.is_own(pod));
        let named =
            own.map(|(name, pod)| (name.strip_prefix("web-").unwrap().parse().unwrap(), pod));
        named.collect()
    }

    pub(crate) fn start(&self) -> i32 {
        let spec = self.set.spec.as_ref().unwrap();
        spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
    }

    pub(crate) fn range(&self) -> std::ops::Range<i32> {
        let start = self.start();
        start..start + statefulset::replicas(&self.set)
    }

    pub(crate) fn is_ordered(&self) -> bool {
        let spec = self.set.spec.as_ref().unwrap();
        spec.pod_management_policy.as_deref() == Some("OrderedReady")
    }

    /// From which ordinal on Pods are updated, if they are.
    pub(crate) fn updated_from(&self) -> Option<i32> {
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

    pub(crate) fn is_well(&self, pod: &Pod) -> bool {
        let least = self
            .set
            .spec
            .as_ref()
            .unwrap()
            .min_ready_seconds
            .unwrap_or(0);
        pod::is_active(pod) && pod::is_available(pod, least, self.now)
    }

    pub(crate) fn happen(&mut self, what: Happens) {
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
    pub(crate) fn look(&mut self) -> (bool, Option<Timestamp>) {
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

    /// Everybody does what there is to do, every Pod becomes ready and every one that leaves ends, until nothing happens any more.
    pub(crate) fn settle(&mut self) {
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
