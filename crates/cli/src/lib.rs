//! The command line: argument types, and the verbs that talk to a running engine.
//!
//! Three steps from typing to doing: [`Cli`] says what was typed; the binary resolves it with the settings file into plain
//! settings; a command sees those only. Verbs of the engine itself (`up`, `down`) are carried out by the binary; everything
//! else is done here, through the Kubernetes API alone.

mod args;
mod connect;
mod describe;
mod discovery;
mod failure;
mod fetch;
mod manifest;
mod merge;
mod output;
mod play;
mod pods;
mod select;
mod session;
mod signals;
mod target;
mod terminal;
mod tunnel;
mod verbs;
mod watching;
mod workloads;

pub use args::*;
pub use failure::report;
pub use play::play;
pub use signals::Signals;
pub use verbs::run;
