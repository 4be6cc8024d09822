//! A Job with its Pods, counted: whether it is over, which Pods it makes, and what it reports.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

use super::index::{self, Indexes};
use super::policy::{self, Verdict};
use super::{BURST, News, Plan, Step, backoff, condition, is_tracked, pods, spec_of};
use crate::object::{count, name, number};
use crate::pod;

/// No more UIDs than these are noted in a status at a time.
const MOST_NOTED: usize = 500;
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const FAILURE_TARGET: &str = "FailureTarget";
const SUSPENDED: &str = "Suspended";

/// How a Job ends.
enum End {
    /// With success, for this reason, with this message.
    Success(String, String),
    /// With failure.
    Failure(String, String),
}

pub(super) struct Count<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    reference: &'a OwnerReference,
    now: Timestamp,
    pods: Vec<&'a Pod>,
    active: Vec<&'a Pod>,
    status: JobStatus,
    /// How many indexes there are, if Pods have indexes.
    indexed: Option<i32>,
    /// Indexes that the status says have succeeded, and those that have.
    succeeded_before: Indexes,
    succeeded: Indexes,
    /// Indexes that have failed for good, where each has its own limit.
    failed: Option<Indexes>,
    /// The last Pods of indexes that have failed and are to be tried again; the next takes over their numbers.
    replaced: BTreeMap<i32, &'a Pod>,
    plan: Plan,
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

    fn is_suspended(&self) -> bool {
        self.spec.suspend.unwrap_or(false)
    }

    /// Whether Pods are replaced only when they have ended, not when they begin to.
    fn waits_for_ends(&self) -> bool {
        self.spec.pod_failure_policy.is_some()
            || self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// Whether a Pod has failed, or is as good as failed.
    fn has_failed(&self, pod: &Pod) -> bool {
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

    fn find(&self, kind: &str) -> Option<&JobCondition> {
        let mut conditions = self.status.conditions.iter().flatten();
        conditions.find(|c| c.type_ == kind)
    }

    /// Sets a condition; one that is not there does not begin as False. Whether that changes anything.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) -> bool {
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

    fn tell(&mut self, type_: &'static str, reason: &str, message: &str) {
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

    /// Whether the Job is over, apart from having been completed: what was found before, or a limit or a policy says so.
    fn end(&mut self, failed: i32) -> Option<End> {
        let words = |c: &JobCondition| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (c.status == "True").then(|| (text(&c.reason), text(&c.message)))
        };
        if let Some((reason, message)) = self.find(SUCCESS_CRITERIA_MET).and_then(words) {
            return Some(End::Success(reason, message));
        }
        if let Some((reason, message)) = self.find(FAILURE_TARGET).and_then(words) {
            return Some(End::Failure(reason, message));
        }
        let failure =
            |reason: &str, message: &str| Some(End::Failure(reason.to_owned(), message.to_owned()));
        let fatal = self.pods.iter().filter(|pod| self.has_failed(pod));
        let fatal = fatal.map(|pod| policy::judge(self.spec, pod));
        for verdict in fatal {
            if let Verdict::FailJob(message) = verdict {
                return failure("PodFailurePolicy", &message);
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if failed > limit || self.restarts_are_over(limit) {
            let message = "Job has reached the specified backoff limit";
            return failure("BackoffLimitExceeded", message);
        }
        if let Some(deadline) = self.deadline() {
            if deadline <= self.now {
                let message = "Job was active longer than specified deadline";
                return failure("DeadlineExceeded", message);
            }
            self.wake(deadline);
        }
        let completions = self.indexed?;
        if let Some(indexes) = &self.failed {
            let total = indexes.total();
            if self
                .spec
                .max_failed_indexes
                .is_some_and(|most| total > most)
            {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return failure("MaxFailedIndexesExceeded", message);
            }
            if total > 0 && total + self.succeeded.total() >= completions {
                return failure("FailedIndexes", "Job has failed indexes");
            }
        }
        let policy = self.spec.success_policy.as_ref();
        let message = policy::is_enough(policy, &self.succeeded, completions)?;
        Some(End::Success("SuccessPolicy".to_owned(), message))
    }

    /// Whether containers of Pods that go on have restarted too often, where they restart at all.
    fn restarts_are_over(&self, limit: i32) -> bool {
        let template = self.spec.template.spec.as_ref();
        let policy = template.and_then(|s| s.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let going = self
            .pods
            .iter()
            .filter(|pod| matches!(pod::phase(pod), "Running" | "Pending"));
        let statuses = going
            .filter_map(|pod| pod.status.as_ref())
            .flat_map(|status| {
                let init = status.init_container_statuses.iter().flatten();
                init.chain(status.container_statuses.iter().flatten())
            });
        let restarts = statuses
            .map(|c| c.restart_count)
            .fold(0, i32::saturating_add);
        match limit {
            0 => restarts > 0,
            limit => restarts >= limit,
        }
    }

    /// Until when it may be active.
    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self
            .spec
            .active_deadline_seconds
            .filter(|_| !self.is_suspended())?;
        let since = self.status.start_time.as_ref()?.0;
        since.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |wake| wake.min(at)));
    }

    fn delete(&mut self, gone: &[&Pod], is_free: bool) {
        let deletions = gone.iter().map(|pod| Step::Delete {
            pod: name(&pod.metadata).to_owned(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            is_free,
        });
        self.plan.steps.extend(deletions);
    }

    /// How many Pods should be active.
    fn wanted(&self, succeeded: i32) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        match self.spec.completions {
            None if succeeded > 0 => number(&self.active),
            None => parallelism,
            Some(completions) => (completions - succeeded).min(parallelism).max(0),
        }
    }

    /// Active Pods that have to go.
    fn surplus(&self, succeeded: i32) -> Vec<&'a Pod> {
        if self.is_suspended() {
            return self.active.clone();
        }
        let surplus = number(&self.active) - self.wanted(succeeded);
        let mut gone = pods::surplus(&self.active, self.indexed, surplus, self.now);
        gone.truncate(BURST);
        gone
    }

    /// Makes Pods that are missing, as far as failures allow that now; how many.
    fn create(&mut self, succeeded: i32, active: i32, terminating: i32) -> i32 {
        if self.is_suspended() {
            return 0;
        }
        let leaving = if self.waits_for_ends() {
            terminating
        } else {
            0
        };
        let missing = self.wanted(succeeded) - leaving - active;
        let missing = usize::try_from(missing).unwrap_or(0).min(BURST);
        if missing == 0 {
            return 0;
        }
        if self.spec.backoff_limit_per_index.is_none() {
            let of = |phase| {
                let over = self.pods.iter().filter(move |pod| pod::phase(pod) == phase);
                over.map(|pod| backoff::finished_at(pod))
            };
            let failed = self
                .pods
                .iter()
                .filter(|pod| self.has_failed(pod) && is_of(pod, self.indexed));
            let failed = failed.map(|pod| backoff::finished_at(pod));
            let due = backoff::since_success(of("Succeeded"), failed);
            if let Some(due) = due.filter(|due| *due > self.now) {
                self.wake(due);
                return 0;
            }
        }
        let made = match self.indexed {
            None => vec![pods::plain(self.job, self.reference); missing],
            Some(completions) => self.create_indexed(completions, missing),
        };
        let number = number(&made);
        if !made.is_empty() {
            self.plan.steps.push(Step::Create(made));
        }
        number
    }

    fn create_indexed(&mut self, completions: i32, missing: usize) -> Vec<Pod> {
        let mut taken: Indexes = self
            .active
            .iter()
            .filter_map(|pod| index::of(pod))
            .collect();
        taken.extend(&self.succeeded);
        if self.waits_for_ends() {
            let leaving = self.pods.iter().filter(|pod| pod::is_terminating(pod));
            leaving
                .filter_map(|pod| index::of(pod))
                .for_each(|i| taken.insert(i));
        }
        if let Some(failed) = &self.failed {
            taken.extend(failed);
        }
        let mut made = Vec::new();
        for index in taken.missing(completions, missing) {
            let replaced = self.replaced.get(&index).copied();
            let due = replaced.and_then(|pod| {
                let failures = pods::all_failures(pod).saturating_add(1);
                backoff::until(failures, backoff::finished_at(pod))
            });
            match due.filter(|due| *due > self.now) {
                Some(due) => self.wake(due),
                None => made.push(pods::indexed(self.job, self.reference, index, replaced)),
            }
        }
        made
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

    /// Moves Pods on: those noted whose finalizer is gone become numbers, those that have ended are noted, or counted by their index, and
    /// lose it next.
    fn track(&mut self, end: Option<&End>) {
        self.settle();
        let mut pods = self.pods.clone();
        if self.indexed.is_some() {
            pods.sort_by_key(|pod| index::of(pod));
        }
        let noted = self
            .status
            .uncounted_terminated_pods
            .clone()
            .unwrap_or_default();
        let mut succeeded = noted.succeeded.unwrap_or_default();
        let mut failed = noted.failed.unwrap_or_default();
        let mut new = 0;
        for pod in pods.into_iter().filter(|pod| is_tracked(pod)) {
            if new + succeeded.len() + failed.len() >= MOST_NOTED {
                break;
            }
            if !self.may_free(pod, end) {
                continue;
            }
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            self.plan
                .counted
                .push((name(&pod.metadata).to_owned(), uid.clone()));
            let is_failed = self.has_failed(pod) || matches!(end, Some(End::Failure(..)));
            if pod::phase(pod) == "Succeeded" && !failed.contains(&uid) {
                match self.indexed {
                    Some(completions) => {
                        let index = index::valid(pod, completions);
                        let is_new = index.is_some_and(|i| !self.succeeded_before.has(i));
                        new += usize::from(is_new);
                    }
                    None if !succeeded.contains(&uid) => succeeded.push(uid),
                    None => {}
                }
            } else if is_failed
                && !failed.contains(&uid)
                && is_of(pod, self.indexed)
                && policy::judge(self.spec, pod) != Verdict::Ignore
            {
                failed.push(uid);
            }
        }
        if self.indexed.is_some() {
            self.status.succeeded = count(self.succeeded.total());
            self.status.completed_indexes =
                Some(self.succeeded.to_string()).filter(|t| !t.is_empty());
            self.status.failed_indexes = self.failed.as_ref().map(ToString::to_string);
        }
        let noted = self
            .status
            .uncounted_terminated_pods
            .get_or_insert_default();
        noted.succeeded = Some(succeeded).filter(|list| !list.is_empty());
        noted.failed = Some(failed).filter(|list| !list.is_empty());
    }

    /// Makes numbers of noted Pods that have no finalizer any more, or are gone.
    fn settle(&mut self) {
        let tracked = self.pods.iter().filter(|pod| is_tracked(pod));
        let tracked: BTreeSet<&String> = tracked
            .filter_map(|pod| pod.metadata.uid.as_ref())
            .collect();
        let noted = self
            .status
            .uncounted_terminated_pods
            .get_or_insert_default();
        let settle = |list: &mut Option<Vec<String>>, total: &mut Option<i32>| {
            let Some(uids) = list else {
                return;
            };
            let before = uids.len();
            uids.retain(|uid| tracked.contains(uid));
            let settled = i32::try_from(before - uids.len()).unwrap_or(i32::MAX);
            *total = count(total.unwrap_or(0).saturating_add(settled));
        };
        settle(&mut noted.succeeded, &mut self.status.succeeded);
        settle(&mut noted.failed, &mut self.status.failed);
    }

    /// Whether a Pod need not be kept for being counted any longer.
    fn may_free(&self, pod: &Pod, end: Option<&End>) -> bool {
        let is_over = self.job.metadata.deletion_timestamp.is_some() || end.is_some();
        if is_over || pod::phase(pod) == "Succeeded" {
            return true;
        }
        // Its successor has to know how often it has failed.
        let mut awaited = self.replaced.values();
        self.has_failed(pod) && !awaited.any(|p| p.metadata.uid == pod.metadata.uid)
    }

    /// Says how it ends: first that it is going to, then, when every Pod has been counted and has ended, that it has.
    fn conclude(&mut self, end: End, terminating: i32) {
        let (first, last, reason, message) = match end {
            End::Success(reason, message) => (SUCCESS_CRITERIA_MET, "Complete", reason, message),
            End::Failure(reason, message) => (FAILURE_TARGET, "Failed", reason, message),
        };
        let is_new = self.set(first, "True", &reason, &message);
        let noted = self.status.uncounted_terminated_pods.as_ref();
        let is_counted = noted.is_none_or(|n| n.succeeded.is_none() && n.failed.is_none());
        if is_new || !is_counted || terminating > 0 || !self.plan.counted.is_empty() {
            return;
        }
        self.set(last, "True", &reason, &message);
        if last == "Failed" {
            return self.tell("Warning", &reason, &message);
        }
        self.status.completion_time = Some(Time(self.now));
        let succeeded = self.status.succeeded.unwrap_or(0);
        if self.spec.completions.is_some_and(|c| succeeded > c) {
            let message = "Too many succeeded pods running after completion count reached";
            self.tell("Warning", "TooManySucceededPods", message);
        }
        self.tell("Normal", "Completed", "Job completed");
    }
}

/// Whether a Pod has an index there is, where Pods have indexes.
fn is_of(pod: &Pod, indexed: Option<i32>) -> bool {
    indexed.is_none_or(|completions| index::valid(pod, completions).is_some())
}
