//! Pods that live in a node in memory: told stories with known ends, and generated ones that must keep the invariants of §16.
//!
//! Where each of them is checked:
//!
//! | §16 | here | over the whole engine (`sim`) | elsewhere |
//! |---|---|---|---|
//! | 1–3, 5–8 | `world::invariants` | `check::{runs, exec, machine}` | |
//! | 4, 10 | `rules` | | |
//! | 9, 11, 12, 14–16 | `world::invariants` | `check::{runs, exec, machine, object}` | |
//! | 13 | `world::invariants` | | |
//! | 17–19, 21 | `world::invariants`, `properties` | `check::{machine, runs, object}` | |
//! | 20 | | `check::object` | `apiserver`: `rest::delete::properties` |
//! | 22, 23, 25–31 | `world::invariants` | `check::object` | |
//! | 24 | `world::invariants`, `properties` | `check::object` | |
//! | 32 | `rules` | `check::object` | |
//! | 33 | `world::invariants` | `check::object` | |
//! | 34–37 | | `check::object` (35) | `admission`: `tests/properties.rs` |
//! | 38 | `budgets` | | `apiserver`: `tests/api/evictions.rs` |
//! | 39 | `world::invariants` | `check::machine` | |
//! | 40, 41 | `rules` | | |
//! | 42 | | | `volumes`: `tests/versions.rs` |
//! | 43 | | | `kubelet`: `env::properties` |

mod budgets;
mod properties;
mod rules;
mod stories;
mod world;
