//! A Job with its Pods, counted: whether it is over, which Pods it makes, and what it reports.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

use super::end::End;
use super::index::{self, Indexes};
use super::policy::{self, Verdict};
use super::{News, Plan, backoff, condition, is_tracked, pods, spec_of};
use crate::object::{count, number};
use crate::pod;

const SUSPENDED: &str = "Suspended";

pub(super) struct Count<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    pub(super) reference: &'a OwnerReference,
    pub(super) now: Timestamp,
    pub(super) pods: Vec<&'a Pod>,
    pub(super) active: Vec<&'a Pod>,
    pub(super) status: JobStatus,
    /// How many indexes there are, if Pods have indexes.
    pub(super) indexed: Option<i32>,
    /// Indexes that the status says have succeeded, and those that have.
    pub(super) succeeded_before: Indexes,
    pub(super) succeeded: Indexes,
    /// Indexes that have failed for good, where each has its own limit.
    pub(super) failed: Option<Indexes>,
    /// The last Pods of indexes that have failed and are to be tried again; the next takes over their numbers.
    pub(super) replaced: BTreeMap<i32, &'a Pod>,
    pub(super) plan: Plan,
}

impl<'a> Count<'a> {
    pub(super) fn new(
        job: &'a Job,
        reference: &'a OwnerReference,
        pods: Vec<&'a Pod>,
        now: Timestamp,
    ) -> Self {
        let spec = spec_of(job);
        let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let active = pods.iter().copied().filter(|pod| pod::is_active(pod));
        let mut count = Count {
            job,
            spec,
            reference,
            now,
            active: active.collect(),
            pods,
            status: job.status.clone().unwrap_or_default(),
            indexed: is_indexed.then(|| spec.completions.unwrap_or(0)),
            succeeded_before: Indexes::default(),
            succeeded: Indexes::default(),
            failed: None,
            replaced: BTreeMap::new(),
            plan: Plan::default(),
        };
        count
            .status
            .uncounted_terminated_pods
            .get_or_insert_default();
        if let Some(completions) = count.indexed {
            count.read_indexes(completions);
        }
        count
    }

    fn read_indexes(&mut self, completions: i32) {
        let text = self.status.completed_indexes.as_deref().unwrap_or_default();
        self.succeeded_before = Indexes::parse(text, completions);
        self.succeeded = self.succeeded_before.clone();
        let done = self
            .pods
            .iter()
            .filter(|pod| is_tracked(pod) && pod::phase(pod) == "Succeeded");
        for index in done.filter_map(|pod| index::valid(pod, completions)) {
            self.succeeded.insert(index);
        }
        let Some(limit) = self.spec.backoff_limit_per_index else {
            return;
        };
        let text = self.status.failed_indexes.as_deref().unwrap_or_default();
        let mut failed = Indexes::parse(text, completions);
        for pod in self
            .pods
            .iter()
            .filter(|pod| is_tracked(pod) && self.has_failed(pod))
        {
            let is_final = match policy::judge(self.spec, pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => pods::failures(pod) >= limit,
            };
            if let Some(index) = index::valid(pod, completions).filter(|_| is_final) {
                failed.insert(index);
            }
        }
        let mut settled: Indexes = self
            .active
            .iter()
            .filter_map(|pod| index::of(pod))
            .collect();
        settled.extend(&self.succeeded);
        settled.extend(&failed);
        let mut replaced: BTreeMap<i32, &Pod> = BTreeMap::new();
        let rank = |pod: &Pod| (pods::all_failures(pod), backoff::finished_at(pod));
        for pod in self.pods.iter().copied() {
            let index = index::valid(pod, completions).filter(|i| !settled.has(*i));
            let is_last = |index: &i32| {
                let before = replaced.get(index);
                before.is_none_or(|before| rank(before) <= rank(pod))
            };
            if is_tracked(pod)
                && self.has_failed(pod)
                && let Some(index) = index.filter(is_last)
            {
                replaced.insert(index, pod);
            }
        }
        self.replaced = replaced;
        self.failed = Some(failed);
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.spec.suspend.unwrap_or(false)
    }

    /// Whether Pods are replaced only when they have ended, not when they begin to.
    pub(super) fn waits_for_ends(&self) -> bool {
        self.spec.pod_failure_policy.is_some()
            || self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// Whether a Pod has failed, or is as good as failed.
    pub(super) fn has_failed(&self, pod: &Pod) -> bool {
        let is_leaving = pod.metadata.deletion_timestamp.is_some() && !self.waits_for_ends();
        pod::phase(pod) == "Failed" || (is_leaving && pod::phase(pod) != "Succeeded")
    }

    /// Pods that have not been noted, of an index there is.
    fn uncounted(&self) -> impl Iterator<Item = &'a Pod> {
        let noted = self.status.uncounted_terminated_pods.as_ref();
        let noted = noted.map(|n| n.succeeded.iter().chain(&n.failed).flatten());
        let noted: BTreeSet<&String> = noted.into_iter().flatten().collect();
        let is_new = |pod: &&&Pod| {
            let has_index = self.indexed.is_none_or(|c| index::valid(pod, c).is_some());
            let is_noted = pod
                .metadata
                .uid
                .as_ref()
                .is_some_and(|uid| noted.contains(uid));
            is_tracked(pod) && !is_noted && has_index
        };
        let new: Vec<&Pod> = self.pods.iter().filter(is_new).copied().collect();
        new.into_iter()
    }

    /// How many have succeeded and failed, whether they are numbers yet or not.
    fn totals(&self) -> (i32, i32) {
        let noted = self.status.uncounted_terminated_pods.as_ref();
        let noted = |of: fn(
            &k8s_openapi::api::batch::v1::UncountedTerminatedPods,
        ) -> &Option<Vec<String>>| {
            noted.map_or(0, |n| number(of(n).iter().flatten()))
        };
        let done = self
            .uncounted()
            .filter(|pod| pod::phase(pod) == "Succeeded");
        let succeeded = match self.indexed {
            Some(_) => self.succeeded.total(),
            None => self.status.succeeded.unwrap_or(0) + noted(|n| &n.succeeded) + number(done),
        };
        let failed = self
            .uncounted()
            .filter(|pod| self.has_failed(pod) && policy::judge(self.spec, pod) != Verdict::Ignore);
        let failed = self.status.failed.unwrap_or(0) + noted(|n| &n.failed) + number(failed);
        (succeeded, failed)
    }

    pub(super) fn find(&self, kind: &str) -> Option<&JobCondition> {
        let mut conditions = self.status.conditions.iter().flatten();
        conditions.find(|c| c.type_ == kind)
    }

    /// Sets a condition; one that is not there does not begin as False. Whether that changes anything.
    pub(super) fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) -> bool {
        let new = condition(kind, status, reason, message, self.now);
        let conditions = self.status.conditions.get_or_insert_default();
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(old)
                if (&old.status, &old.reason, &old.message)
                    == (&new.status, &new.reason, &new.message) =>
            {
                return false;
            }
            Some(old) => *old = new,
            None if status == "False" => {
                if conditions.is_empty() {
                    self.status.conditions = None;
                }
                return false;
            }
            None => conditions.push(new),
        }
        true
    }

    pub(super) fn tell(&mut self, type_: &'static str, reason: &str, message: &str) {
        self.plan.news.push(News {
            type_,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    pub(super) fn plan(mut self, is_held: bool) -> Plan {
        if self.status.start_time.is_none() && !self.is_suspended() {
            self.status.start_time = Some(Time(self.now));
        }
        let (succeeded, failed) = self.totals();
        // It is not over before its Pods have been told.
        let is_stuck = is_held && !self.active.is_empty();
        let mut end = self.end(failed).filter(|_| !is_stuck);
        let mut active = number(&self.active);
        let mut ready = number(self.active.iter().filter(|pod| pod::is_ready(pod)));
        let mut terminating = number(self.pods.iter().filter(|pod| pod::is_terminating(pod)));
        let mut gone: Vec<&Pod> = Vec::new();
        if end.is_some() {
            gone = self.active.clone();
            self.delete(&gone, false);
        } else {
            let may_manage = !is_held && self.job.metadata.deletion_timestamp.is_none();
            if may_manage {
                gone = self.surplus(succeeded);
                self.delete(&gone, true);
                if gone.is_empty() {
                    active += self.create(succeeded, active, terminating);
                }
            }
            let is_complete = match self.spec.completions {
                None => succeeded > 0 && active == 0,
                Some(completions) => succeeded >= completions && active == number(&gone),
            };
            if is_complete {
                let message = "Reached expected number of succeeded pods";
                end = Some(End::Success("CompletionsReached".into(), message.into()));
            } else if may_manage {
                self.note_suspension();
            }
        }
        let leaving = number(&gone);
        active -= leaving;
        terminating += leaving;
        ready -= number(gone.iter().filter(|pod| pod::is_ready(pod)));
        self.status.active = count(active);
        self.status.ready = Some(ready);
        self.status.terminating = Some(terminating);
        self.track(end.as_ref());
        if let Some(end) = end {
            self.conclude(end, terminating);
        }
        let is_new = self.job.status.as_ref() != Some(&self.status);
        self.plan.status = is_new.then(|| Box::new(self.status));
        self.plan
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Says whether it is suspended; being active begins anew afterwards.
    fn note_suspension(&mut self) {
        if self.is_suspended() {
            if self.set(SUSPENDED, "True", "JobSuspended", "Job suspended") {
                self.tell("Normal", "Suspended", "Job suspended");
                self.status.start_time = None;
            }
        } else if self.set(SUSPENDED, "False", "JobResumed", "Job resumed") {
            self.tell("Normal", "Resumed", "Job resumed");
            self.status.start_time = Some(Time(self.now));
        }
    }
}

/// Whether a Pod has an index there is, where Pods have indexes.
pub(super) fn is_of(pod: &Pod, indexed: Option<i32>) -> bool {
    indexed.is_none_or(|completions| index::valid(pod, completions).is_some())
}
