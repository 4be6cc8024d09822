//! The whole engine in one thread, under a time that jumps from event to event, on a machine that fails when the seed says so.
//!
//! API server, store, controllers, scheduler and node agent are the real ones; containers, images and volumes are fakes behind
//! their ports ([`machine`], [`ports_of`], [`stores`]), requests and watches pass a wire that can break ([`wire`]), and commits a
//! disk that can be full ([`disk`]). Everything that happens by chance is drawn from one seed: the Pods and what their containers
//! do, what a user does to them ([`scenario`]), how long each step takes, what fails, and after which step the agent or the whole
//! engine dies. An engine that died begins again on the same store and the same machine ([`life`]).
//!
//! After each step of the machine and each commit the invariants of the lifecycle specification (§16) are checked ([`check`]).
//! Half of the seeds have workloads beside Pods ([`check`] says what must hold of them): never more Pods than may be, nobody else's
//! deleted, in the end as many as were asked for, and none without its owner.
//! In the end nothing may be left of any Pod. Checked are 1 to 3, 5 to 9, 11 to 31, 33 (what runs is told in the end), 35,
//! 37, 39 and 41, and of evictions and sizes that nobody is evicted or refused for nothing, that no image goes that somebody needs, and that
//! what was asked for comes to be or is said to wait. Not checked here: 4, 10, 32 and 40 are properties of single rules (tests of `lifecycle`), 34 and 36 of the server (tests
//! of `admission` and `apiserver`), 38 needs budgets, 42 and 43 need real files and programs. Evictions are for memory, for the
//! disk, and for what one volume holds.
//!
//! A seed gives the same run each time, byte for byte: one process runs one seed, everything it draws comes from the seed (the
//! program sees to it in `kernel.rs`), and nothing depends on how fast the machine is. The store's committer is a thread of its
//! own, which time standing still knows nothing of: the one thread waits for each commit as if it were a function call, so that
//! nothing else happens meanwhile. Only keys and certificates differ; nothing depends on what is in them.

mod check;
mod clock;
mod disk;
mod exec;
mod life;
mod machine;
mod ports_of;
mod scenario;
mod stores;
mod story;
mod wire;
mod world;

use std::path::Path;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// What broke, in one line; `None` when all went well.
    pub violation: Option<String>,
    /// What happened, a line each, with the time since the start.
    pub trace: Vec<String>,
    /// Ports called and commits made.
    pub steps: u64,
    /// Runs of containers.
    pub runs: u64,
    /// How often the agent or the engine died.
    pub deaths: u64,
    /// Over every step, request and stored object, each at its time: two runs with the same digest did the same.
    pub digest: u64,
}

/// Runs one seed to its end in `dir`, an empty directory. To be called once in a process, before anything else.
///
/// # Errors
/// The machine we run on: no directory, no runtime.
pub fn run(seed: u64, dir: &Path) -> anyhow::Result<Outcome> {
    fastrand::seed(seed);
    let world = world::World::new(seed, dir);
    life::live(&world)?;
    Ok(world.outcome())
}
