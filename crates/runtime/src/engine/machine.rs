//! What the whole machine uses (`proc_stat(5)`, `proc_meminfo(5)`, `proc_loadavg(5)`).

use std::fs;
use std::io;

use ports::runtime::{RuntimeError, Stats};

use super::io_error;

/// Nanoseconds of one of the kernel's ticks for user space, of which there are 100 a second on every architecture there is.
const TICK_NS: u64 = 10_000_000;

pub(super) fn stats() -> Result<Stats, RuntimeError> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}"));
    let parsed = || {
        let (stat, memory, load) = (read("stat")?, read("meminfo")?, read("loadavg")?);
        parse(&stat, &memory, &load).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    parsed().map_err(io_error("failed to read the machine's usage"))
}

fn parse(stat: &str, memory: &str, load: &str) -> Option<Stats> {
    let ticks = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = ticks
        .split_whitespace()
        .map_while(|n| n.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    let [user, nice, system, _, _, irq, softirq, steal] = *ticks.first_chunk::<8>()?;
    let bytes = |name: &str| -> Option<u64> {
        let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    };
    let total = bytes("MemTotal:")?;
    let (_, tasks) = load.split_whitespace().nth(3)?.split_once('/')?;
    Some(Stats {
        cpu_usage_ns: (user + nice + system + irq + softirq + steal).saturating_mul(TICK_NS),
        memory_working_set_bytes: total.saturating_sub(bytes("MemAvailable:")?),
        memory_usage_bytes: total.saturating_sub(bytes("MemFree:")?),
        pids: tasks.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let stat = "cpu  100 20 30 4000 50 6 7 8 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n";
        let memory = "MemTotal:       1000 kB\nMemFree:         300 kB\nMemAvailable:    600 kB\n";
        let expected = Stats {
            cpu_usage_ns: 1_710_000_000,
            memory_working_set_bytes: 400 << 10,
            memory_usage_bytes: 700 << 10,
            pids: 321,
        };
        assert_eq!(parse(stat, memory, "0.1 0.2 0.3 2/321 9\n"), Some(expected));
        for (stat, memory, load) in [
            ("", memory, "0 0 0 1/2 3"),
            ("cpu  1 2 3\n", memory, "0 0 0 1/2 3"),
            (stat, "MemTotal: 1 kB\n", "0 0 0 1/2 3"),
            (stat, memory, "0.1"),
        ] {
            assert_eq!(parse(stat, memory, load), None);
        }
    }

    #[test]
    fn this_machine_uses_something() {
        let stats = stats().expect("usage");
        assert!(stats.cpu_usage_ns > 0 && stats.memory_working_set_bytes > 0 && stats.pids > 1);
    }
}
