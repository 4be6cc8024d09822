//! Whether a Job is over.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::count::Count;
use super::policy::{self, Verdict};
use crate::pod;

const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const FAILURE_TARGET: &str = "FailureTarget";

/// How a Job ends.
pub(super) enum End {
    /// With success, for this reason, with this message.
    Success(String, String),
    /// With failure.
    Failure(String, String),
}

impl Count<'_> {
    /// Whether the Job is over, apart from having been completed: what was found before, or a limit or a policy says so.
    pub(super) fn end(&mut self, failed: i32) -> Option<End> {
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
    pub(super) fn restarts_are_over(&self, limit: i32) -> bool {
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
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let seconds = self
            .spec
            .active_deadline_seconds
            .filter(|_| !self.is_suspended())?;
        let since = self.status.start_time.as_ref()?.0;
        since.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Says how it ends: first that it is going to, then, when every Pod has been counted and has ended, that it has.
    pub(super) fn conclude(&mut self, end: End, terminating: i32) {
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
