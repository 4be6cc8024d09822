//! Pods that live in a node in memory: told stories with known ends, and generated ones that must keep the invariants of §16.

mod properties;
mod rules;
mod stories;
mod world;
