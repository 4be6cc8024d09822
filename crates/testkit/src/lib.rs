//! What tests of several crates share: a clock they own, Pods, the runtime's records of them, and events of watches.
//!
//! Everything here is plain values with sensible defaults; a test names only what it is about. Nothing here runs anything.

mod clock;
mod pods;
mod property;
mod records;
mod watched;

pub use clock::FakeClock;
pub use pods::{PodBuilder, pod, probe};
pub use property::cases;
pub use records::{at, container_id, created, exited, running, sandbox, sandbox_id, unknown};
pub use watched::line;
