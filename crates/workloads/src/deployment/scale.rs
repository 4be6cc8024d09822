//! A Deployment of another size, or one that is paused: its ReplicaSets grow and shrink in proportion, so that a rollout goes neither
//! faster nor slower for it.

use std::cmp::Reverse;

use super::annotation;
use super::draft::Draft;
use crate::object::by_age;

impl Draft<'_> {
    /// Sizes the ReplicaSets as the Deployment's size asks, without a rollout.
    pub(super) fn resize(&mut self) {
        self.revise(false);
        self.share_out();
        if self.is_paused() {
            self.forget_the_past();
        }
        self.report();
    }

    fn share_out(&mut self) {
        let active = self.active();
        if let [] | [_] = active[..] {
            // The newest, where none is active.
            let latest = self.newest.or_else(|| self.past().last());
            if let Some(only) = active.first().copied().or(latest) {
                self.note_size(only, self.fence.replicas);
            }
            return;
        }
        if self.is_saturated() {
            for index in active {
                if Some(index) != self.newest {
                    self.size(index, 0);
                }
            }
            return;
        }
        if self.is_rolling() {
            self.in_proportion(active);
        }
    }

    /// Those that have Pods, or are to have some.
    pub(super) fn active(&self) -> Vec<usize> {
        let all = 0..self.sets.len();
        all.filter(|i| self.sets[*i].replicas() > 0).collect()
    }

    /// Whether the newest has all Pods, as both know, and all are available.
    fn is_saturated(&self) -> bool {
        let Some(newest) = self.newest.map(|i| &self.sets[i]) else {
            return false;
        };
        let size = self.fence.replicas;
        newest.replicas() == size
            && annotation::desired(&newest.new) == Some(size)
            && newest.available() == size
    }

    /// Spreads what is to be added, or taken, over all of them, the largest first; what is left over after rounding is the largest's.
    fn in_proportion(&mut self, mut sets: Vec<usize>) {
        let allowed = match self.fence.replicas {
            0 => 0,
            _ => self.fence.most(),
        };
        let change = allowed.saturating_sub(self.total());
        if change > 0 {
            sets.sort_by(|a, b| by_age(self.sets[*b].meta(), self.sets[*a].meta()));
        }
        sets.sort_by_key(|i| Reverse(self.sets[*i].replicas()));
        let mut left = change;
        let mut sizes = Vec::with_capacity(sets.len());
        for index in &sets {
            let part = match change {
                0 => 0,
                1.. => self.part(*index).min(left),
                _ => self.part(*index).max(left),
            };
            left -= part;
            sizes.push(self.sets[*index].replicas() + part);
        }
        if let Some(largest) = sizes.first_mut() {
            *largest = (*largest + left).max(0);
        }
        for (index, size) in sets.into_iter().zip(sizes) {
            self.note_size(index, size);
        }
    }

    /// What a ReplicaSet gains, or loses, if it keeps its part of the whole.
    fn part(&self, index: usize) -> i32 {
        let set = &self.sets[index];
        let size = set.replicas();
        if self.fence.replicas == 0 {
            return -size;
        }
        let status = self.old.status.as_ref();
        let present = status.and_then(|s| s.replicas).unwrap_or(0);
        let noted = annotation::maximum(&set.new).filter(|most| *most > 0);
        let before = match noted.unwrap_or(present) {
            0 => return 0,
            before => i64::from(before),
        };
        let whole = i64::from(size) * i64::from(self.fence.most());
        // Half is rounded up.
        let rounded = (2 * whole + before).div_euclid(2 * before);
        i32::try_from(rounded).unwrap_or(i32::MAX) - size
    }
}
