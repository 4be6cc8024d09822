//! A clock that stands still until it is told to go on.

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use ports::clock::Clock;

/// Time under a test's control. It begins at 2026-01-01T00:00:00Z.
#[derive(Debug)]
pub struct FakeClock {
    now: Mutex<Timestamp>,
}

impl Default for FakeClock {
    fn default() -> Self {
        FakeClock {
            now: Mutex::new(crate::at(0)),
        }
    }
}

impl FakeClock {
    /// Moves on.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self
            .now
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *now += by;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        *self
            .now
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_told() {
        let clock = FakeClock::default();
        assert_eq!(clock.now(), crate::at(0));
        clock.advance(SignedDuration::from_secs(90));
        assert_eq!(clock.now(), crate::at(90));
        assert_eq!(clock.now(), crate::at(90));
    }
}
