//! Time as an argument: whoever needs to know what time it is holds a [`Clock`].

use jiff::Timestamp;

/// A source of the current time, so that tests and the simulator own it.
pub trait Clock: Send + Sync {
    /// The current time, to the nanosecond where the system has it.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
