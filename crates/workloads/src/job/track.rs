//! How Pods that have ended become numbers.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::count::{Count, is_of};
use super::end::End;
use super::index;
use super::is_tracked;
use super::policy::{self, Verdict};
use crate::object::{count, name};
use crate::pod;

/// No more UIDs than these are noted in a status at a time.
const MOST_NOTED: usize = 500;

impl Count<'_> {
    /// Moves Pods on: those noted whose finalizer is gone become numbers, those that have ended are noted, or counted by their index, and
    /// lose it next.
    pub(super) fn track(&mut self, end: Option<&End>) {
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
    pub(super) fn settle(&mut self) {
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
    pub(super) fn may_free(&self, pod: &Pod, end: Option<&End>) -> bool {
        let is_over = self.job.metadata.deletion_timestamp.is_some() || end.is_some();
        if is_over || pod::phase(pod) == "Succeeded" {
            return true;
        }
        // Its successor has to know how often it has failed.
        let mut awaited = self.replaced.values();
        self.has_failed(pod) && !awaited.any(|p| p.metadata.uid == pod.metadata.uid)
    }
}
