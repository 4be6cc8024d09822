//! Completion indexes: which one a Pod has, and sets of them as a status writes them (`0-2,5`).

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Pod;

/// The annotation, and label, of a Pod's index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A Pod's index, if it has one.
pub(super) fn of(pod: &Pod) -> Option<i32> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(INDEX)?.parse().ok().filter(|i| *i >= 0)
}

/// A Pod's index, if it is one of so many.
pub(super) fn valid(pod: &Pod, completions: i32) -> Option<i32> {
    of(pod).filter(|index| *index < completions)
}

/// A set of indexes, as ranges that do not touch: the last index of each by its first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeMap<i32, i32>);

impl Indexes {
    /// As a status or a policy writes them. What cannot be read is left out, and so is what is beyond `completions`.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut all = Indexes::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                all.add(first.max(0), last.min(completions.saturating_sub(1)));
            }
        }
        all
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.add(index, index);
    }

    pub(super) fn extend(&mut self, other: &Indexes) {
        for (first, last) in &other.0 {
            self.add(*first, *last);
        }
    }

    fn add(&mut self, mut first: i32, mut last: i32) {
        if first > last {
            return;
        }
        // Every range that this one meets becomes part of it.
        while let Some((start, end)) = self.0.range(..=last.saturating_add(1)).next_back() {
            let (start, end) = (*start, *end);
            if end.saturating_add(1) < first {
                break;
            }
            self.0.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.0.insert(first, last);
    }

    pub(super) fn has(&self, index: i32) -> bool {
        let before = self.0.range(..=index).next_back();
        before.is_some_and(|(_, last)| index <= *last)
    }

    pub(super) fn total(&self) -> i32 {
        let sizes = self.0.iter().map(|(first, last)| last - first + 1);
        sizes.fold(0, i32::saturating_add)
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Indexes) -> i32 {
        let within = |(first, last): (&i32, &i32)| {
            let parts = other.0.iter();
            parts
                .map(|(a, b)| ((*last).min(*b) - (*first).max(*a) + 1).max(0))
                .fold(0, i32::saturating_add)
        };
        self.0.iter().map(within).fold(0, i32::saturating_add)
    }

    /// The first `count` indexes below `completions` that are not in it.
    pub(super) fn missing(&self, completions: i32, count: usize) -> Vec<i32> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in &self.0 {
            let room = count - missing.len();
            missing.extend((next..(*first).min(completions)).take(room));
            next = last.saturating_add(1);
        }
        let room = count - missing.len();
        missing.extend((next..completions).take(room));
        missing
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        let mut all = Indexes::default();
        indexes.into_iter().for_each(|index| all.insert(index));
        all
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (first, last) in &self.0 {
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_ranges() {
        for text in ["", "0", "0,1", "0-2", "1,3,5-9,11,12"] {
            assert_eq!(Indexes::parse(text, 100).to_string(), text);
        }
        let cases = [
            ("1,2,3", 100, "1-3"),
            ("5-9", 7, "5,6"),
            ("9", 7, ""),
            ("x,2,4-y,-1,3", 9, "2,3"),
            ("0-2,1-4", 9, "0-4"),
        ];
        for (text, completions, expected) in cases {
            assert_eq!(
                Indexes::parse(text, completions).to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn missing_and_common_indexes() {
        let set = Indexes::parse("1,3-5,9", 100);
        assert_eq!(set.missing(8, 9), [0, 2, 6, 7]);
        assert_eq!(set.missing(100, 5), [0, 2, 6, 7, 8]);
        assert_eq!(set.missing(100, 1), [0]);
        assert_eq!((set.total(), set.has(4), set.has(6)), (5, true, false));
        assert_eq!(set.common(&Indexes::parse("0-3,9-12", 100)), 3);
        let shuffled: Indexes = [5, 1, 9, 3, 4].into_iter().collect();
        assert_eq!(shuffled, set);
    }
}
