//! Which series are open, and when something of them is to be written (upstream's client-go, `tools/events`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// A series that was not seen for so long is over.
const OVER: SignedDuration = SignedDuration::from_mins(6);
/// The count of one that goes on is written so often.
const REFRESH: SignedDuration = SignedDuration::from_mins(30);

/// How often something was seen, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) count: i32,
    pub(crate) last: Timestamp,
}

struct Open<E> {
    event: E,
    seen: Seen,
    /// The count that was written last, and when.
    told: i32,
    told_at: Timestamp,
}

impl<E> Open<E> {
    /// When it is over, or its count is to be written.
    fn due(&self) -> Timestamp {
        let over = self.seen.last + OVER;
        match self.seen.count > self.told {
            true => over.min(self.told_at + REFRESH),
            false => over,
        }
    }
}

/// Open series by what they are of; `E` is what is needed to write one.
pub(crate) struct Book<K, E>(BTreeMap<K, Open<E>>);

impl<K, E> Default for Book<K, E> {
    fn default() -> Self {
        Book(BTreeMap::new())
    }
}

impl<K: Ord + Clone, E: Clone> Book<K, E> {
    /// Takes in that something was seen; what is to be written, if anything: the first time, that it was, and the second, that it is a
    /// series. From then on it is only counted.
    pub(crate) fn see(
        &mut self,
        key: K,
        event: impl FnOnce() -> E,
        at: Timestamp,
    ) -> Option<(E, Seen)> {
        let open = self.0.entry(key).or_insert_with(|| Open {
            event: event(),
            seen: Seen { count: 0, last: at },
            told: 0,
            told_at: at,
        });
        open.seen = Seen {
            count: open.seen.count.saturating_add(1),
            last: at,
        };
        if open.seen.count > 2 {
            return None;
        }
        open.told = open.seen.count;
        open.told_at = at;
        Some((open.event.clone(), open.seen))
    }

    /// When something is to be done next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.values().map(Open::due).min()
    }

    /// Counts that are to be written now; what is over is forgotten.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<(E, Seen)> {
        let mut due = Vec::new();
        self.0.retain(|_, open| {
            if open.due() > now {
                return true;
            }
            if open.seen.count > open.told {
                open.told = open.seen.count;
                open.told_at = now;
                due.push((open.event.clone(), open.seen));
            }
            open.seen.last + OVER > now
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + 60 * minute).unwrap()
    }

    fn seen(count: i32, minute: i64) -> Seen {
        Seen {
            count,
            last: at(minute),
        }
    }

    #[test]
    fn a_series_is_written_when_it_begins_goes_on_and_ends() {
        let mut book = Book::default();
        let mut see = |minute| book.see("k", || "first", at(minute));
        assert_eq!(see(0), Some(("first", seen(1, 0))));
        assert_eq!(see(1), Some(("first", seen(2, 1))));
        for minute in 2..=30 {
            assert_eq!(see(minute), None);
        }
        // Thirty minutes after the second.
        assert_eq!(book.next(), Some(at(31)));
        assert_eq!(book.due(at(30)), []);
        assert_eq!(book.due(at(31)), [("first", seen(31, 30))]);
        // What has been written is not written again.
        assert_eq!(book.next(), Some(at(36)));
        assert_eq!(book.see("k", || "other", at(35)), None);
        assert_eq!(book.next(), Some(at(41)));
        assert_eq!(book.due(at(41)), [("first", seen(32, 35))]);
        assert_eq!(book.next(), None);
        assert_eq!(
            book.see("k", || "other", at(42)),
            Some(("other", seen(1, 42)))
        );
    }

    #[test]
    fn what_happens_once_is_forgotten() {
        let mut book = Book::default();
        book.see("a", || (), at(0));
        book.see("b", || (), at(1));
        assert_eq!(book.next(), Some(at(6)));
        assert_eq!(book.due(at(6)), []);
        assert_eq!(book.next(), Some(at(7)));
        assert_eq!(book.see("b", || (), at(6)), Some(((), seen(2, 6))));
        assert_eq!(book.due(at(12)), []);
        assert_eq!(book.next(), None);
    }
}
