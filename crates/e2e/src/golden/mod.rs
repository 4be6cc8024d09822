//! Recordings of upstream Kubernetes, and a player that compares an engine with them.
//!
//! A case (`golden/cases/NAME.yaml`) is a set of manifests and the steps a user takes. A recording (`golden/recorded/NAME.json`)
//! is what upstream 1.36.3 showed for it, in one or more runs: the rows of `kubectl get pods -w`, the output of each command, the
//! final status of every container, and the events with their texts. What differs from run to run is masked on both sides.

mod case;
mod compare;
mod mask;
mod play;
mod snapshot;

pub use case::{Case, Record, Run, Step};
pub use compare::differences;
pub use play::{Stage, play, warm};
