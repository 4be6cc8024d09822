//! What a Deployment reports: its numbers, whether it is available, and how its rollout gets on.

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition, ReplicaSetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::{Draft, Set};
use crate::object::{count, name};
use crate::replicaset::REPLICA_FAILURE;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
/// Reasons of the condition `Progressing`.
pub(super) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// In how many seconds there has to be progress, if at all.
pub(super) fn deadline(deployment: &Deployment) -> Option<i32> {
    let spec = deployment.spec.as_ref();
    let deadline = spec.and_then(|s| s.progress_deadline_seconds);
    deadline.filter(|seconds| *seconds != i32::MAX)
}

/// The condition that tells of progress.
pub(super) fn progressing(deployment: &Deployment) -> Option<&DeploymentCondition> {
    find(deployment.status.as_ref()?, PROGRESSING)
}

/// Whether all Pods are of the template and available, and no others are left.
pub(super) fn is_complete(deployment: &Deployment) -> bool {
    let spec = deployment.spec.as_ref();
    let wanted = spec.and_then(|s| s.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else {
        return false;
    };
    let is_wanted = |number: Option<i32>| number.unwrap_or(0) == wanted;
    is_wanted(status.updated_replicas)
        && is_wanted(status.replicas)
        && is_wanted(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|c| c.type_ == kind)
}

impl Draft<'_> {
    fn condition(&self, kind: &str, status: &str, reason: &str, text: &str) -> DeploymentCondition {
        DeploymentCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(text.to_owned()),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        }
    }

    /// Puts a condition in the place of that of its type. One with the same status and reason stays as it is.
    fn set(&mut self, mut condition: DeploymentCondition) {
        let status = self.new.status.get_or_insert_default();
        if let Some(old) = find(status, &condition.type_) {
            if (&old.status, &old.reason) == (&condition.status, &condition.reason) {
                return;
            }
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time.clone();
            }
        }
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|c| c.type_ != condition.type_);
        conditions.push(condition);
    }

    fn unset(&mut self, kind: &str) {
        let status = self.new.status.get_or_insert_default();
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|c| c.type_ != kind);
        }
        if status.conditions.as_ref().is_some_and(Vec::is_empty) {
            status.conditions = None;
        }
    }

    /// Tells of progress, where progress is asked for.
    pub(super) fn progress(&mut self, status: &str, reason: &str, text: &str) {
        if deadline(self.old).is_some() {
            let condition = self.condition(PROGRESSING, status, reason, text);
            self.set(condition);
        }
    }

    /// A ReplicaSet that has the template already is the beginning of progress, where nothing tells of any yet.
    pub(super) fn found(&mut self) {
        if let Some(newest) = self.newest
            && progressing(&self.new).is_none()
        {
            let name = name(self.sets[newest].meta());
            let text = format!("Found new replica set {name:?}");
            self.progress("True", "FoundNewReplicaSet", &text);
        }
    }

    /// Says that it is paused, or not any more: time does not run meanwhile.
    pub(super) fn note_pause(&mut self) {
        let reason = progressing(self.old).and_then(|c| c.reason.as_deref());
        match (self.is_paused(), reason) {
            (_, Some(TIMED_OUT)) | (true, Some(PAUSED)) => {}
            (true, _) => self.progress("Unknown", PAUSED, "Deployment is paused"),
            (false, Some(PAUSED)) => {
                self.progress("Unknown", RESUMED, "Deployment is resumed");
            }
            (false, _) => {}
        }
    }

    /// Counts, and says whether enough Pods are available.
    pub(super) fn report(&mut self) {
        let available = self.available();
        let of = |field: fn(&ReplicaSetStatus) -> i32| {
            let statuses = self.sets.iter().filter_map(|set| set.new.status.as_ref());
            statuses.map(field).fold(0, i32::saturating_add)
        };
        let newest = self.newest.map(|i| &self.sets[i]);
        let updated = newest.and_then(|set| set.new.status.as_ref());
        let missing = self.total().saturating_sub(available).max(0);
        let counted = DeploymentStatus {
            observed_generation: self.old.metadata.generation,
            replicas: count(of(|s| s.replicas)),
            updated_replicas: count(updated.map_or(0, |s| s.replicas)),
            ready_replicas: count(of(|s| s.ready_replicas.unwrap_or(0))),
            available_replicas: count(available),
            unavailable_replicas: count(missing),
            terminating_replicas: terminating(&self.sets),
            ..self.new.status.take().unwrap_or_default()
        };
        self.new.status = Some(counted);
        let (status, reason, text) = if available >= self.fence.least() {
            let text = "Deployment has minimum availability.";
            ("True", "MinimumReplicasAvailable", text)
        } else {
            let text = "Deployment does not have minimum availability.";
            ("False", "MinimumReplicasUnavailable", text)
        };
        let condition = self.condition(AVAILABLE, status, reason, text);
        self.set(condition);
    }

    /// As [`Draft::report`], and says how the rollout gets on.
    pub(super) fn report_rollout(&mut self) {
        let before = progressing(&self.new).cloned();
        self.report();
        match deadline(self.old) {
            None => self.unset(PROGRESSING),
            Some(seconds) if !self.was_complete(before.as_ref()) => {
                self.judge(before.as_ref(), seconds);
            }
            Some(_) => {}
        }
        match self.failure() {
            Some(failure) => self.set(failure),
            None => self.unset(REPLICA_FAILURE),
        }
    }

    /// Whether the rollout has come to its end before, and nothing is under way.
    fn was_complete(&self, before: Option<&DeploymentCondition>) -> bool {
        let status = self.new.status.as_ref();
        let is_settled = status.is_none_or(|s| s.replicas == s.updated_replicas);
        is_settled && before.is_some_and(|c| c.reason.as_deref() == Some(NEW_SET_AVAILABLE))
    }

    fn judge(&mut self, before: Option<&DeploymentCondition>, seconds: i32) {
        let who = match self.newest {
            Some(newest) => format!("ReplicaSet {:?}", name(self.sets[newest].meta())),
            None => format!("Deployment {:?}", name(&self.old.metadata)),
        };
        if is_complete(&self.new) {
            let text = format!("{who} has successfully progressed.");
            self.progress("True", NEW_SET_AVAILABLE, &text);
        } else if self.has_progressed() {
            // Each progress is told anew, with the same reason.
            let text = format!("{who} is progressing.");
            let mut condition = self.condition(PROGRESSING, "True", "ReplicaSetUpdated", &text);
            if let Some(before) = before.filter(|c| c.status == "True") {
                condition.last_transition_time = before.last_transition_time.clone();
            }
            self.unset(PROGRESSING);
            self.set(condition);
        } else if self.has_timed_out(seconds) {
            let text = format!("{who} has timed out progressing.");
            self.progress("False", TIMED_OUT, &text);
        }
    }

    /// Whether there are more new Pods, fewer old ones, or more that work than the status says.
    fn has_progressed(&self) -> bool {
        let number = |of: Option<i32>| of.unwrap_or(0);
        let (old, new) = (
            self.old.status.clone().unwrap_or_default(),
            self.new.status.clone().unwrap_or_default(),
        );
        let past = |s: &DeploymentStatus| number(s.replicas) - number(s.updated_replicas);
        number(new.updated_replicas) > number(old.updated_replicas)
            || past(&new) < past(&old)
            || number(new.ready_replicas) > number(old.ready_replicas)
            || number(new.available_replicas) > number(old.available_replicas)
    }

    fn has_timed_out(&self, seconds: i32) -> bool {
        let Some(condition) = progressing(&self.new) else {
            return false;
        };
        match condition.reason.as_deref() {
            Some(NEW_SET_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            _ => {
                let since = condition.last_update_time.as_ref().map(|t| t.0);
                let patience = SignedDuration::from_secs(seconds.into());
                let end = since.and_then(|t| t.checked_add(patience).ok());
                end.is_some_and(|end| end < self.now)
            }
        }
    }

    /// That Pods cannot be made or deleted: of the newest ReplicaSet, or else of the first that says so.
    fn failure(&self) -> Option<DeploymentCondition> {
        let newest = self.newest.map(|i| &self.sets[i]);
        let mut sets = newest.into_iter().chain(&self.sets);
        let failure = sets.find_map(|set| {
            let conditions = set.new.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|c| c.type_ == REPLICA_FAILURE)
        });
        failure.cloned().map(of_deployment)
    }
}

fn of_deployment(condition: ReplicaSetCondition) -> DeploymentCondition {
    DeploymentCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        last_update_time: condition.last_transition_time.clone(),
        last_transition_time: condition.last_transition_time,
    }
}

/// How many Pods are being deleted; unknown if a ReplicaSet that has been looked at does not say so.
fn terminating(sets: &[Set]) -> Option<i32> {
    let mut total: i32 = 0;
    for status in sets.iter().filter_map(|set| set.new.status.as_ref()) {
        match status.terminating_replicas {
            Some(number) => total = total.saturating_add(number),
            None if status.observed_generation.unwrap_or(0) == 0 => {}
            None => return None,
        }
    }
    Some(total)
}
