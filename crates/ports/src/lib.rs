//! The small traits at which rules and services meet effects, and the plain values that cross them.
//!
//! Shapes follow the Container Runtime Interface (CRI v1) where it has one, so that a CRI socket can stand behind
//! [`runtime::ContainerRuntime`] and [`images::Images`]. Nothing here acts: implementations live in the effect crates, fakes in
//! `testkit`, and only the binary brings the two sides together.

pub mod certificates;
pub mod clock;
pub mod drivers;
pub mod images;
pub mod network;
pub mod node;
pub mod runtime;
pub mod store;
pub mod streams;
pub mod volumes;
