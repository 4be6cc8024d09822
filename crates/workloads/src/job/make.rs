//! Which Pods a Job makes and deletes now.

use k8s_openapi::api::core::v1::Pod;

use super::count::{Count, is_of};
use super::index::{self, Indexes};
use super::{BURST, Step, backoff, pods};
use crate::object::{name, number};
use crate::pod;

impl<'a> Count<'a> {
    pub(super) fn delete(&mut self, gone: &[&Pod], is_free: bool) {
        let deletions = gone.iter().map(|pod| Step::Delete {
            pod: name(&pod.metadata).to_owned(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            is_free,
        });
        self.plan.steps.extend(deletions);
    }

    /// How many Pods should be active.
    pub(super) fn wanted(&self, succeeded: i32) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        match self.spec.completions {
            None if succeeded > 0 => number(&self.active),
            None => parallelism,
            Some(completions) => (completions - succeeded).min(parallelism).max(0),
        }
    }

    /// Active Pods that have to go.
    pub(super) fn surplus(&self, succeeded: i32) -> Vec<&'a Pod> {
        if self.is_suspended() {
            return self.active.clone();
        }
        let surplus = number(&self.active) - self.wanted(succeeded);
        let mut gone = pods::surplus(&self.active, self.indexed, surplus, self.now);
        gone.truncate(BURST);
        gone
    }

    /// Makes Pods that are missing, as far as failures allow that now; how many.
    pub(super) fn create(&mut self, succeeded: i32, active: i32, terminating: i32) -> i32 {
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

    pub(super) fn create_indexed(&mut self, completions: i32, missing: usize) -> Vec<Pod> {
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
}
