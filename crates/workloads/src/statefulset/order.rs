//! In which order Pods come, go and are updated.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::revision::Pair;
use super::{BURST, Seen, Step, claim, is_ordered, is_pending, is_rolling, pods, replicas};
use crate::history;
use crate::object::name;
use crate::pod;

/// A set, what there is of it, and what becomes of that.
pub(super) struct Order<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) spec: &'a StatefulSetSpec,
    reference: &'a OwnerReference,
    claims: BTreeMap<&'a str, &'a PersistentVolumeClaim>,
    /// Its Pods by their ordinals.
    pub(super) pods: BTreeMap<i32, &'a Pod>,
    pub(super) revisions: Pair<'a>,
    pub(super) now: Timestamp,
    pub(super) steps: Vec<Step>,
    /// Those it has deleted.
    doomed: BTreeSet<i32>,
    /// The one of them that is to be updated by that.
    pub(super) updated: Option<&'a Pod>,
}

impl<'a> Order<'a> {
    pub(super) fn new(
        set: &'a StatefulSet,
        spec: &'a StatefulSetSpec,
        reference: &'a OwnerReference,
        seen: Seen<'a>,
        pods: BTreeMap<i32, &'a Pod>,
        revisions: Pair<'a>,
        now: Timestamp,
    ) -> Self {
        let of_namespace = seen
            .claims
            .iter()
            .filter(|claim| claim.metadata.namespace == set.metadata.namespace);
        Order {
            set,
            spec,
            reference,
            claims: of_namespace.map(|c| (name(&c.metadata), *c)).collect(),
            pods,
            revisions,
            now,
            steps: Vec::new(),
            doomed: BTreeSet::new(),
            updated: None,
        }
    }

    /// The ordinals there should be.
    fn range(&self) -> Range<i32> {
        let start = self.start();
        start..start.saturating_add(replicas(self.set).max(0))
    }

    fn start(&self) -> i32 {
        let ordinals = self.spec.ordinals.as_ref();
        ordinals.and_then(|o| o.start).unwrap_or(0)
    }

    /// What there is to do now. Where Pods come one after the other nothing is done about what comes after one that is not well.
    pub(super) fn act(&mut self) {
        if self.keep() && self.shrink() && is_rolling(self.spec) {
            self.update();
        }
    }

    /// Looks after those there should be; whether to go on.
    fn keep(&mut self) -> bool {
        let is_ordered = is_ordered(self.spec);
        let mut made = 0;
        for ordinal in self.range() {
            let is_well = match self.pods.get(&ordinal).copied() {
                Some(pod) => self.look_after(ordinal, pod),
                None if made == BURST => return false,
                None => {
                    made += 1;
                    self.create(ordinal);
                    false
                }
            };
            if is_ordered && !is_well {
                return false;
            }
        }
        true
    }

    /// Makes a Pod, once all its claims are there to stay.
    fn create(&mut self, ordinal: i32) {
        let own = pods::pod_name(&self.reference.name, ordinal);
        let leaving = |(_, claim): (&str, String)| {
            let found = self.claims.get(claim.as_str());
            found.is_some_and(|claim| claim::is_leaving(&own, claim))
        };
        if claim::names(self.spec, &self.reference.name, ordinal).any(leaving) {
            return;
        }
        self.claim(ordinal);
        let revision = if self.is_of_current(ordinal) {
            self.revisions.current
        } else {
            self.revisions.newest
        };
        let template = history::template(revision);
        let template = template.as_ref().unwrap_or(&self.spec.template);
        let revision = name(&revision.metadata);
        let pod = pods::new(self.spec, self.reference, ordinal, template, revision);
        self.steps.push(Step::CreatePod(Box::new(pod)));
    }

    /// Whether a Pod of this ordinal is not to be updated yet. Without a partition those are not that were so last.
    fn is_of_current(&self, ordinal: i32) -> bool {
        if !is_rolling(self.spec) {
            return false;
        }
        let strategy = self.spec.update_strategy.as_ref();
        let first = match strategy.and_then(|s| s.rolling_update.as_ref()) {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None => {
                let status = self.set.status.as_ref();
                status.and_then(|s| s.current_replicas).unwrap_or(0)
            }
        };
        ordinal < self.start().saturating_add(first)
    }

    /// Makes the claims that are missing.
    fn claim(&mut self, ordinal: i32) {
        let own = pods::pod_name(&self.reference.name, ordinal);
        for claim in claim::all(self.set, self.spec, self.reference, ordinal) {
            if !self.claims.contains_key(name(&claim.metadata)) {
                self.steps.push(Step::CreateClaim {
                    claim: Box::new(claim),
                    pod: own.clone(),
                });
            }
        }
    }

    /// Looks after a Pod there should be; whether it is well.
    fn look_after(&mut self, ordinal: i32, pod: &Pod) -> bool {
        if pod::is_over(pod) {
            if pod.metadata.deletion_timestamp.is_none() {
                self.delete(ordinal, pod);
            }
            return false;
        }
        let is_pending = is_pending(pod);
        if is_pending {
            self.claim(ordinal);
        }
        let is_well = self.is_available(pod) && pod::phase(pod) == "Running";
        if is_ordered(self.spec) && !is_well {
            return false;
        }
        if !is_pending && !pods::has_storage(self.spec, &self.reference.name, ordinal, pod) {
            self.claim(ordinal);
        }
        self.settle_claims(ordinal, pod);
        let mended = pods::mended(self.spec, &self.reference.name, ordinal, pod);
        self.steps.extend(mended.map(Step::UpdatePod));
        is_well
    }

    /// Has a Pod's claims go with whom they are to go with.
    fn settle_claims(&mut self, ordinal: i32, pod: &Pod) {
        let is_condemned = !self.range().contains(&ordinal);
        for (_, claim) in claim::names(self.spec, &self.reference.name, ordinal) {
            let Some(claim) = self.claims.get(claim.as_str()) else {
                continue;
            };
            let mended = claim::mended(self.spec, self.reference, pod, is_condemned, claim);
            self.steps.extend(mended.map(|mended| Step::UpdateClaim {
                claim: Box::new(mended.claim),
                pod: name(&pod.metadata).to_owned(),
                is_contested: mended.is_contested,
            }));
        }
    }

    /// Deletes those there should not be, the last first; whether to go on. Of several that are not well the first goes first, and the
    /// others after they are. Those that are over cannot be; upstream waits for them all the same, without end if there are two.
    fn shrink(&mut self) -> bool {
        let is_ordered = is_ordered(self.spec);
        let range = self.range();
        let all = self
            .pods
            .iter()
            .rev()
            .map(|(ordinal, pod)| (*ordinal, *pod));
        let condemned: Vec<(i32, &Pod)> = all.filter(|(o, _)| !range.contains(o)).collect();
        for (ordinal, pod) in &condemned {
            self.settle_claims(*ordinal, pod);
        }
        let mut ailing = condemned.iter().rev();
        let ailing = ailing.find(|(_, pod)| !self.is_available(pod));
        let ailing = ailing.map(|(ordinal, _)| *ordinal);
        for (ordinal, pod) in condemned {
            if pod.metadata.deletion_timestamp.is_none() {
                let is_well = self.is_available(pod) && pod::phase(pod) == "Running";
                let is_due = is_well || pod::is_over(pod) || ailing == Some(ordinal);
                if is_due || !is_ordered {
                    self.delete(ordinal, pod);
                }
            }
            if is_ordered {
                return false;
            }
        }
        true
    }

    /// Deletes the last Pod of another revision than the newest, so that it is made again, if those after it are well.
    fn update(&mut self) {
        let strategy = self.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let kept = rolling.and_then(|r| r.partition).unwrap_or(0).max(0);
        let range = self.range();
        for ordinal in (range.start.saturating_add(kept)..range.end).rev() {
            let pod = self.pods.get(&ordinal).copied();
            let Some(pod) = pod.filter(|_| !self.doomed.contains(&ordinal)) else {
                return;
            };
            let is_new = pods::revision(pod) == name(&self.revisions.newest.metadata);
            if !is_new && pod.metadata.deletion_timestamp.is_none() {
                self.delete(ordinal, pod);
                self.updated = Some(pod);
                return;
            }
            if !self.is_available(pod) {
                return;
            }
        }
    }

    fn delete(&mut self, ordinal: i32, pod: &Pod) {
        self.doomed.insert(ordinal);
        self.steps.push(Step::DeletePod {
            pod: name(&pod.metadata).to_owned(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        });
    }

    /// Deletes revisions of the past, of which no Pod is any more, beyond those that are to be kept.
    pub(super) fn forget(&mut self, revisions: &[&ControllerRevision]) {
        let Some(limit) = self.spec.revision_history_limit else {
            return;
        };
        let mut live: BTreeSet<&str> = self.pods.values().map(|pod| pods::revision(pod)).collect();
        live.extend([
            name(&self.revisions.current.metadata),
            name(&self.revisions.newest.metadata),
        ]);
        let is_past = |revision: &&ControllerRevision| !live.contains(name(&revision.metadata));
        let past: Vec<_> = revisions.iter().copied().filter(is_past).collect();
        let gone = history::surplus(&past, limit, |_| false).into_iter();
        for gone in gone.filter(|revision| revision.metadata.deletion_timestamp.is_none()) {
            self.steps.push(Step::DeleteRevision {
                revision: name(&gone.metadata).to_owned(),
                uid: gone.metadata.uid.clone().unwrap_or_default(),
            });
        }
    }

    /// Whether a Pod has been ready for long enough, and stays.
    fn is_available(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_none()
            && pod::is_available(pod, self.min_ready(), self.now)
    }

    pub(super) fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    /// When the next of the Pods that are ready becomes available.
    pub(super) fn next_available(&self) -> Option<Timestamp> {
        let least = self.min_ready();
        if least <= 0 {
            return None;
        }
        let ready = self.pods.values();
        let times = ready.filter_map(|pod| pod::available_at(pod, least));
        times.filter(|at| *at > self.now).min()
    }
}
