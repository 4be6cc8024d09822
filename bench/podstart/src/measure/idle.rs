//! A server that has nothing to do: memory, and what it does all the same.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Bench;
use crate::figures::{Figures, Measure, Unit};
use crate::proc::{Memory, Usage};
use crate::target::Target;

/// Time between the last request and the first look: allocators give back what they keep for a while.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

const HOW_MEMORY: &str = "smaps_rollup of the server's processes, 0 Pods, after a rest";
const HOW_WINDOW: &str =
    "over a window without requests, 0 Pods; /proc/PID/{stat,io,task/*/status} at both ends";
const HOW_STATE: &str =
    "files below the state directory whose content or list of names changed during the window";

/// What processes do and keep during the window.
struct Rest {
    memory: Memory,
    usage: Usage,
}

/// Watches the servers do nothing for `window`; `state` is the engine's state directory.
pub(crate) async fn measure(
    bench: &Bench,
    state: &Path,
    window: Duration,
) -> anyhow::Result<Vec<Measure>> {
    tokio::time::sleep(SETTLE).await;
    let begun = SystemTime::now();
    let before: Vec<Usage> = bench.targets().map(usage).collect();
    tokio::time::sleep(window).await;
    let rests: Vec<Rest> = bench
        .targets()
        .zip(before)
        .map(|(target, before)| Rest {
            memory: Memory::of_all(&target.processes.lasting()),
            usage: usage(target).since(before),
        })
        .collect();
    let changed = changed_since(state, begun);
    let line = |id: &str, what: &str, how, unit, pick: &dyn Fn(&Rest) -> f64| {
        let mut all = rests.iter().filter_map(|rest| Figures::of(&[pick(rest)]));
        let carob = all.next()?;
        let peer = all.next().filter(|_| knows_processes(bench.peer.as_ref()));
        Some(Measure::new(id, what, how, unit, carob).beside(peer))
    };
    let mib = |kib: u64| kib as f64 / 1024.0;
    let per_minute = |count: u64| count as f64 * 60.0 / window.as_secs_f64();
    let lines = [
        line(
            "idle-rss",
            "idle: resident memory",
            HOW_MEMORY,
            Unit::Mebibytes,
            &|rest| mib(rest.memory.rss),
        )
        .map(|line| line.goal(30.0)),
        line(
            "idle-pss",
            "idle: proportional memory",
            HOW_MEMORY,
            Unit::Mebibytes,
            &|rest| mib(rest.memory.pss),
        ),
        line(
            "idle-private",
            "idle: private memory",
            HOW_MEMORY,
            Unit::Mebibytes,
            &|rest| mib(rest.memory.private),
        ),
        line(
            "idle-written",
            "idle: bytes written",
            HOW_WINDOW,
            Unit::Count,
            &|rest| rest.usage.written as f64,
        )
        .map(|line| line.goal(0.0)),
        line(
            "idle-ticks",
            "idle: CPU ticks of 10 ms, a minute",
            HOW_WINDOW,
            Unit::Count,
            &|rest| per_minute(rest.usage.ticks),
        )
        .map(|line| line.goal(0.0)),
        line(
            "idle-wakes",
            "idle: threads woken, a minute",
            HOW_WINDOW,
            Unit::Count,
            &|rest| per_minute(rest.usage.sleeps),
        ),
        Figures::of(&[changed as f64]).map(|figures| {
            Measure::new(
                "idle-files",
                "idle: files changed",
                HOW_STATE,
                Unit::Count,
                figures,
            )
            .goal(0.0)
        }),
    ];
    Ok(lines.into_iter().flatten().collect())
}

/// Whether anything can be said of the peer's processes.
pub(crate) fn knows_processes(peer: Option<&Target>) -> bool {
    peer.is_some_and(|peer| !peer.processes.lasting().is_empty())
}

fn usage(target: &Target) -> Usage {
    Usage::of_all(&target.processes.lasting())
}

/// How many files and directories below `dir` were written to after `begun`; what cannot be read has not changed.
fn changed_since(dir: &Path, begun: SystemTime) -> usize {
    let mut open = vec![dir.to_owned()];
    let mut changed = 0;
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.modified().is_ok_and(|modified| modified >= begun) {
                changed += 1;
            }
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_after_the_beginning_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).expect("makes it");
        fs::write(inner.join("file"), "old").expect("writes");
        let later = SystemTime::now() + Duration::from_secs(5);
        assert_eq!(changed_since(dir.path(), later), 0);
        let file = fs::File::options()
            .write(true)
            .open(inner.join("file"))
            .expect("opens");
        file.set_modified(later).expect("sets its time");
        assert_eq!(changed_since(dir.path(), later), 1);
        assert_eq!(changed_since(&dir.path().join("absent"), later), 0);
    }
}
