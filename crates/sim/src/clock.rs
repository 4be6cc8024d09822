//! Time: what has passed since the simulation began, over all lives of the engine, and what the machine's clock shows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// What the clock shows at the beginning: 2026-01-01T00:00:00Z.
const BEGINNING: Timestamp = Timestamp::constant(1_767_225_600, 0);

#[derive(Debug, Default)]
struct State {
    /// When this life of the engine began, and how much had passed by then.
    life: Option<Instant>,
    before: Duration,
    /// How far the clock was set forward (or back).
    skew: SignedDuration,
}

/// The clock of the simulated machine. Within a life it follows Tokio's paused time.
#[derive(Debug, Default)]
pub(crate) struct Clock(Mutex<State>);

impl Clock {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life begins after the machine was without an engine for `down`. To be called inside the life's runtime.
    pub(crate) fn begin(&self, down: Duration) {
        let mut state = self.lock();
        state.before += down;
        state.life = Some(Instant::now());
    }

    /// The life ends.
    pub(crate) fn end(&self) {
        let passed = self.passed();
        let mut state = self.lock();
        state.before = passed;
        state.life = None;
    }

    /// What has passed since the simulation began. Never goes back.
    pub(crate) fn passed(&self) -> Duration {
        let state = self.lock();
        state.before + state.life.map_or(Duration::ZERO, |life| life.elapsed())
    }

    /// When `passed` will be this, for the timers of this life.
    pub(crate) fn instant(&self, passed: Duration) -> Instant {
        let state = self.lock();
        let life = state.life.unwrap_or_else(Instant::now);
        life + passed.saturating_sub(state.before)
    }

    /// Sets the clock forward, or back.
    pub(crate) fn set(&self, by: SignedDuration) {
        self.lock().skew += by;
    }
}

impl ports::clock::Clock for Clock {
    fn now(&self) -> Timestamp {
        let passed = self.passed();
        BEGINNING
            .checked_add(passed)
            .and_then(|now| now.checked_add(self.lock().skew))
            .unwrap_or(BEGINNING)
    }
}
