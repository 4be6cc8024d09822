//! Many seeds, each in a process of its own, as many at a time as there are processors.

use std::ops::RangeInclusive;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;

/// `FIRST..LAST`, both included.
pub(crate) fn parse(text: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = text.split_once("..")?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Runs them and says which broke what; whether none did.
pub(crate) fn run(seeds: &RangeInclusive<u64>) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("find this program")?;
    let next = AtomicU64::new(*seeds.start());
    let broken = Mutex::new(0u64);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        break;
                    }
                    if let Some(said) = one(&program, seed) {
                        println!("{said}");
                        *broken.lock().unwrap_or_else(|e| e.into_inner()) += 1;
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_else(|e| e.into_inner());
    let count = (seeds.end() + 1).saturating_sub(*seeds.start());
    println!("{count} seeds, {broken} of them broke an invariant");
    Ok(broken == 0)
}

/// What a seed said at last, if it broke an invariant.
fn one(program: &std::path::Path, seed: u64) -> Option<String> {
    match Command::new(program).arg(seed.to_string()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let breaks = said.lines().find(|line| line.contains(" breaks "));
            Some(breaks.map_or_else(
                || format!("seed {seed} ended with {}", output.status),
                str::to_owned,
            ))
        }
        Err(error) => Some(format!("seed {seed}: {error}")),
    }
}
