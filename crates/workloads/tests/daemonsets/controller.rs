//! The controller: carries plans out.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use workloads::daemonset::{self, Failure, Plan, Seen, Step};
use workloads::owner::{self, Handover};

use super::cluster::Cluster;

impl Cluster {
    fn reference(&self) -> OwnerReference {
        owner::reference("apps/v1", "DaemonSet", &self.set.metadata)
    }

    fn plan(&self, failure: Option<&Failure>) -> Plan {
        let seen = Seen {
            pods: &self.pods.values().collect::<Vec<_>>(),
            nodes: &self.nodes.values().collect::<Vec<_>>(),
            revisions: &self.revisions.values().collect::<Vec<_>>(),
            memory: &self.memory,
            failure,
        };
        daemonset::plan(&self.set, &self.reference(), seen, self.now)
    }

    /// One look of the controller, which makes so many writes at most; whether it had anything to do, and when it looks again.
    pub(super) fn look(&mut self, mut writes: usize) -> (bool, Option<Timestamp>) {
        let mut failure = None;
        let mut did_something = false;
        loop {
            let plan = self.plan(failure.as_ref());
            assert_eq!(plan, self.plan(failure.as_ref()));
            assert!(failure.is_none() || plan.steps.is_empty());
            failure = None;
            did_something |= !plan.steps.is_empty() || plan.status.is_some();
            self.check(&plan);
            self.memory = plan.memory;
            for step in plan.steps {
                if writes == 0 {
                    return (true, None);
                }
                failure = self.take(step, &mut writes);
                if failure.is_some() {
                    break;
                }
            }
            if failure.is_some() {
                continue;
            }
            if let Some(status) = plan.status.filter(|_| writes > 0) {
                assert_ne!(self.set.status.as_ref(), Some(&*status));
                self.set.status = Some(*status);
            }
            return (did_something, plan.wake);
        }
    }

    fn take(&mut self, step: Step, writes: &mut usize) -> Option<Failure> {
        *writes = writes.saturating_sub(1);
        match step {
            Step::HandOver(handover) => {
                let owners = self.owners(&handover);
                let pod = self.pods.get_mut(&handover.object).unwrap();
                pod.metadata.owner_references = owners;
            }
            Step::HandOverRevision(handover) => {
                let owners = self.owners(&handover);
                let revision = self.revisions.get_mut(&handover.object).unwrap();
                revision.metadata.owner_references = owners;
            }
            Step::CreateRevision(mut revision) => {
                let name = revision.metadata.name.clone().unwrap();
                if std::mem::take(&mut self.collides) {
                    let mut other = ControllerRevision::default();
                    other.metadata.name = Some(name.clone());
                    self.stamp(&mut other.metadata);
                    self.revisions.entry(name.clone()).or_insert(other);
                }
                if self.revisions.contains_key(&name) {
                    let status = self.set.status.as_ref();
                    let before = status.and_then(|s| s.collision_count);
                    return Some(Failure::Collision(before.unwrap_or(0)));
                }
                self.stamp(&mut revision.metadata);
                self.revisions.insert(name, *revision);
            }
            Step::UpdateRevision(revision) => {
                let old = &self.revisions[revision.metadata.name.as_ref().unwrap()];
                assert_eq!(old.metadata.uid, revision.metadata.uid);
                assert_ne!(*old, *revision);
                let name = revision.metadata.name.clone().unwrap();
                self.revisions.insert(name, *revision);
            }
            Step::DeleteRevision { revision, uid } => {
                let gone = self.revisions.remove(&revision).unwrap();
                assert_eq!(gone.metadata.uid, Some(uid));
            }
            Step::Relabel { pod, patch } => {
                let labels = patch["metadata"]["labels"].as_object().unwrap();
                let pod = self.pods.get_mut(&pod).unwrap();
                let own = pod.metadata.labels.get_or_insert_default();
                for (key, value) in labels {
                    let value = value.as_str().unwrap().to_owned();
                    assert_ne!(own.insert(key.clone(), value.clone()), Some(value));
                }
            }
            Step::Delete { pod, uid } => {
                let now = Time(self.now);
                let pod = self.pods.get_mut(&pod).unwrap();
                assert_eq!(pod.metadata.uid, Some(uid));
                assert_eq!(pod.metadata.deletion_timestamp, None);
                pod.metadata.deletion_timestamp = Some(now);
            }
            Step::Create(_) if !self.has_quota => return Some(Failure::Held),
            Step::Create(pods) => {
                for mut pod in pods.into_iter().take(writes.saturating_add(1)) {
                    *writes = writes.saturating_sub(1);
                    self.check_made(&pod);
                    let name = self.stamp(&mut pod.metadata);
                    self.pods.insert(name, pod);
                }
            }
        }
        None
    }

    fn owners(&self, handover: &Handover) -> Option<Vec<OwnerReference>> {
        handover.is_adoption.then(|| vec![self.reference()])
    }
}
