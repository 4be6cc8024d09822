//! End-to-end tests: an engine of its own for each suite, stock kubectl, real images from a registry on loopback.
//!
//! This library is the harness: starting and stopping an engine and proving that it left nothing behind, a raw client, and the
//! player of upstream's recordings. The tests are under `tests/`.

pub mod board;
pub mod client;
pub mod directory;
pub mod engine;
pub mod figures;
pub mod foreground;
pub mod golden;
pub mod provisioner;
pub mod user;
