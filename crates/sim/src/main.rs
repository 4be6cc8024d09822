//! `sim SEED`: runs one seed and says what came of it; `sim SEED -v` tells everything that happened; `sim FIRST..LAST` runs many.
//!
//! Exit code 0 when all invariants held, 1 when one was broken.

mod kernel;
mod seeds;

use std::process::ExitCode;

use anyhow::Context;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments
        .next()
        .context("usage: sim SEED [-v] or sim FIRST..LAST")?;
    if let Some(seeds) = seeds::parse(&seed) {
        return Ok(ExitCode::from(u8::from(!seeds::run(&seeds)?)));
    }
    let seed: u64 = seed.parse().context("the seed is a number")?;
    let is_verbose = arguments.next().is_some_and(|flag| flag == "-v");
    kernel::begin(seed);
    if is_verbose {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_env("SIM_LOG"))
            .with_writer(std::io::stderr)
            .without_time()
            .with_ansi(false)
            .init();
    }
    // In memory where that can be had: the disk that fails is the seed's, and no slower for being none.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.context("make a directory for the store")?;
    // Its own thread: numbers that threads draw once were not drawn yet.
    let outcome = std::thread::scope(|scope| scope.spawn(|| sim::run(seed, dir.path())).join());
    let outcome = match outcome {
        Ok(outcome) => outcome?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    if is_verbose || outcome.violation.is_some() {
        outcome.trace.iter().for_each(|line| println!("{line}"));
    }
    let (steps, runs, deaths) = (outcome.steps, outcome.runs, outcome.deaths);
    let digest = outcome.digest;
    println!("seed {seed}: {steps} steps, {runs} runs, {deaths} deaths, digest {digest:016x}");
    match outcome.violation {
        None => Ok(ExitCode::SUCCESS),
        Some(violation) => {
            println!("seed {seed} breaks {violation}");
            println!("again: cargo run -p sim -- {seed} -v");
            Ok(ExitCode::FAILURE)
        }
    }
}
