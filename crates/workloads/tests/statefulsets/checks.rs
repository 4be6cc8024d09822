//! What must hold: of each plan, and of what there is in the end.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use workloads::statefulset::{self, Plan, Step};
use workloads::{history, owner, pod};

use crate::world::{World, of};

impl World {
    /// What must be so whenever there is anything to do.
    pub(crate) fn check(&self, plan: &Plan) {
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

    pub(crate) fn check_settled(&self) {
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
