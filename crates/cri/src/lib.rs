//! The Container Runtime Interface in plain values: sandboxes, containers, resources and what is known of them.
//!
//! Names and fields follow CRI v1. These are words, shared by the rules that decide and the runtime that acts; the verbs are the
//! trait `ports::runtime::ContainerRuntime`.

mod container;
mod sandbox;
mod stats;

pub use container::*;
pub use sandbox::*;
pub use stats::*;

/// Sandbox or container id: 64 lower-case hex digits.
pub type Id = String;
