//! When a changed status is written: at once after quiet, not at every turn of a burst, and not half-way through a plan.
//!
//! Readers of a watch are to see states that last, as upstream shows them (spec `§3.1`): what the steps of a plan lead to, not each
//! of them. So while steps are taken, nothing is written until they have taken [`STEPS`] altogether; what came of them is written at
//! once. A container that was started beside one whose start takes longer (its image is being pulled) is told with the
//! result of that one, unless it takes [`BESIDE`]. Other changes are [`BURST`] apart. Only what somebody waits for does not wait.

use std::time::Duration;

use tokio::time::Instant;

/// Steps that take longer are reported on the way.
const STEPS: Duration = Duration::from_millis(100);
/// A start is reported this much later even if the steps after it are not over.
const BESIDE: Duration = Duration::from_secs(1);
/// Least time between two writes, unless something waits for them.
const BURST: Duration = Duration::from_millis(100);
/// How long a failed write waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The pace of one Pod's status writes.
pub(super) struct Pace {
    /// Nothing is written before; moves on while steps are taken, and back when they are over.
    steps: Option<Instant>,
    /// Steps have ended, and what came of them has not been written.
    has_result: bool,
    /// When the last write began.
    last: Option<Instant>,
    /// After a write that failed.
    again: Option<Instant>,
}

impl Pace {
    /// The pace of a new worker, which is about to take its first steps.
    pub(super) fn new(now: Instant) -> Self {
        Pace {
            steps: Some(now + STEPS),
            has_result: false,
            last: None,
            again: None,
        }
    }

    /// Steps are being taken.
    pub(super) fn busy(&mut self, now: Instant) {
        self.steps.get_or_insert(now + STEPS);
    }

    /// No step is being taken.
    pub(super) fn idle(&mut self) {
        self.has_result |= self.steps.take().is_some();
    }

    /// One of the steps started a container.
    pub(super) fn started(&mut self, now: Instant) {
        if let Some(until) = &mut self.steps {
            *until = now + BESIDE;
        }
    }

    /// A write begins.
    pub(super) fn written(&mut self, now: Instant) {
        self.last = Some(now);
        self.again = None;
        self.has_result = false;
    }

    /// A write has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.again = Some(now + AGAIN);
    }

    /// From when on a status that differs from the stored one may be written; `None` is at once. `is_awaited` says that the next
    /// step is taken only then.
    pub(super) fn due(&self, is_awaited: bool) -> Option<Instant> {
        if is_awaited || self.has_result {
            return self.again;
        }
        let burst = self.last.map(|last| last + BURST);
        self.again.max(burst).max(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker tells its pace, at milliseconds since its start.
    #[derive(Debug, Clone, Copy)]
    enum Told {
        Busy(u64),
        Idle,
        Started(u64),
        Written(u64),
        Failed(u64),
    }

    #[test]
    fn writes_keep_to_the_pace() {
        use Told::*;
        let rows: &[(&[Told], bool, Option<u64>)] = &[
            // The first steps are given their time, their result is written at once.
            (&[], false, Some(100)),
            (&[Busy(0)], false, Some(100)),
            (&[Busy(0), Started(5), Idle], false, None),
            // A worker that has nothing to do reports at once.
            (&[Idle], false, None),
            // One container runs, the other's image is being pulled.
            (&[Busy(0), Started(50)], false, Some(1050)),
            (&[Busy(0), Written(100), Started(300)], false, Some(1300)),
            // Later changes: the first at once, others apart; no steps, no result.
            (&[Idle, Written(10), Idle], false, Some(110)),
            // The result of further steps does not wait for the burst to end.
            (&[Idle, Written(10), Busy(20)], false, Some(120)),
            (&[Idle, Written(10), Busy(20), Idle], false, None),
            // Nor does what a step waits for.
            (&[Idle, Written(10)], true, None),
            (&[Idle, Written(10), Busy(20)], true, None),
            // Failures hold up everything.
            (&[Idle, Written(10), Failed(12)], false, Some(1012)),
            (&[Idle, Written(10), Failed(12)], true, Some(1012)),
            (&[Idle, Written(10), Failed(12), Written(1012)], true, None),
        ];
        for (told, is_awaited, want) in rows {
            let start = Instant::now();
            let at = |millis: u64| start + Duration::from_millis(millis);
            let mut pace = Pace::new(start);
            for told in *told {
                match *told {
                    Busy(millis) => pace.busy(at(millis)),
                    Idle => pace.idle(),
                    Started(millis) => pace.started(at(millis)),
                    Written(millis) => pace.written(at(millis)),
                    Failed(millis) => pace.failed(at(millis)),
                }
            }
            assert_eq!(pace.due(*is_awaited), want.map(at), "{told:?}");
        }
    }
}
