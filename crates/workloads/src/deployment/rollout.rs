//! How Pods move from the old ReplicaSets to the new one.

use super::draft::{Draft, Set};
use super::status;

impl Draft<'_> {
    /// A step of a rolling update: the new ReplicaSet grows as far as the surge allows, or else the old ones shrink as far as enough
    /// Pods stay available.
    pub(super) fn roll(&mut self) {
        self.revise(true);
        let Some(newest) = self.newest else {
            return;
        };
        let size = self.sets[newest].replicas();
        let wanted = if size > self.fence.replicas {
            self.fence.replicas
        } else {
            self.grown(newest)
        };
        let has_moved = self.size(newest, wanted) || self.shrink(newest);
        if !has_moved && status::is_complete(self.old) {
            self.forget_the_past();
        }
        self.report_rollout();
    }

    /// A step of an update that begins with nothing: no new Pod before the last old one has ended.
    pub(super) fn recreate(&mut self, has_pods: impl Fn(&str) -> bool) {
        self.revise(false);
        let past: Vec<usize> = self.past().collect();
        let mut has_moved = false;
        for index in &past {
            has_moved |= self.size(*index, 0);
        }
        let is_in_the_way = |index: &usize| {
            let set = &self.sets[*index].new;
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            set.status.as_ref().is_some_and(|s| s.replicas > 0) || has_pods(uid)
        };
        if !has_moved && !past.iter().any(is_in_the_way) {
            self.revise(true);
            if let Some(newest) = self.newest {
                self.size(newest, self.fence.replicas);
            }
            if status::is_complete(self.old) {
                self.forget_the_past();
            }
        }
        self.report_rollout();
    }

    /// Takes Pods from the old ReplicaSets: first those that do no work, then as many as are more than enough. What the new one does not
    /// have available yet counts as missing. Whether anything was taken.
    fn shrink(&mut self, newest: usize) -> bool {
        let missing = self.sets[newest].replicas() - self.sets[newest].lasting();
        let spare = self.total() - self.fence.least() - missing;
        let old: Vec<usize> = self.past().collect();
        if spare <= 0 || old.iter().all(|i| self.sets[*i].replicas() == 0) {
            return false;
        }
        let unhealthy =
            |draft: &Self, i: usize| draft.sets[i].replicas() - draft.sets[i].available();
        let cleaned = self.take(&old, spare, unhealthy);
        let lasting = self.sets.iter().map(Set::lasting);
        let enough = lasting.fold(0, i32::saturating_add) - self.fence.least();
        cleaned | self.take(&old, enough, |draft, i| draft.sets[i].replicas())
    }

    /// Takes up to `most` Pods, from each what `surplus` says; whether any.
    fn take(&mut self, sets: &[usize], most: i32, surplus: impl Fn(&Self, usize) -> i32) -> bool {
        let mut left = most;
        for index in sets {
            let size = self.sets[*index].replicas();
            let part = surplus(self, *index).min(left).min(size);
            if part > 0 {
                self.size(*index, size - part);
                left -= part;
            }
        }
        left < most
    }

    /// Lets the oldest ReplicaSets go that have no Pods, as far as there are more than are to be kept.
    pub(super) fn forget_the_past(&mut self) {
        let spec = self.old.spec.as_ref();
        let Some(kept) = spec.and_then(|s| s.revision_history_limit) else {
            return;
        };
        let mut past: Vec<usize> = self.past().collect();
        past.retain(|i| self.sets[*i].meta().deletion_timestamp.is_none());
        let surplus = past
            .len()
            .saturating_sub(usize::try_from(kept).unwrap_or(0));
        // They are in the order they were made, which decides between two of one revision.
        past.sort_by_key(|i| super::annotation::revision(self.sets[*i].meta()));
        for index in past.into_iter().take(surplus) {
            let set = &mut self.sets[index];
            let status = set.new.status.clone().unwrap_or_default();
            let is_known = set.meta().generation <= status.observed_generation;
            set.is_doomed = status.replicas == 0 && set.replicas() == 0 && is_known;
        }
    }
}
