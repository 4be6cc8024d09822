//! What the kernel tells of processes under `/proc` (proc(5)).

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;

/// Memory of processes, in KiB (`/proc/PID/smaps_rollup`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident, shared pages counted in full.
    pub(crate) rss: u64,
    /// Resident, shared pages divided among those who share them.
    pub(crate) pss: u64,
    /// Resident and not shared with any other process.
    pub(crate) private: u64,
    /// The part of `private` that was written to.
    pub(crate) private_dirty: u64,
}

impl Memory {
    /// Of one process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Memory> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(Memory::parse(&text))
    }

    /// Of several processes together; those that have ended meanwhile count nothing.
    pub(crate) fn of_all(pids: &[u32]) -> Memory {
        let each = pids.iter().filter_map(|pid| Memory::of(*pid).ok());
        each.fold(Memory::default(), |sum, one| Memory {
            rss: sum.rss + one.rss,
            pss: sum.pss + one.pss,
            private: sum.private + one.private,
            private_dirty: sum.private_dirty + one.private_dirty,
        })
    }

    fn parse(text: &str) -> Memory {
        let field = |name| number_after(text, name);
        Memory {
            rss: field("Rss:"),
            pss: field("Pss:"),
            private: field("Private_Clean:") + field("Private_Dirty:"),
            private_dirty: field("Private_Dirty:"),
        }
    }
}

/// What processes have used since they started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Clock ticks of 10 ms in user and system mode.
    pub(crate) ticks: u64,
    /// How often a thread went to sleep of its own accord, and so was woken: what polling cannot hide.
    pub(crate) sleeps: u64,
    /// Bytes sent towards the disk.
    pub(crate) written: u64,
}

impl Usage {
    /// Of several processes together; those that have ended meanwhile count nothing.
    pub(crate) fn of_all(pids: &[u32]) -> Usage {
        let each = pids.iter().filter_map(|pid| Usage::of(*pid).ok());
        each.fold(Usage::default(), |sum, one| Usage {
            ticks: sum.ticks + one.ticks,
            sleeps: sum.sleeps + one.sleeps,
            written: sum.written + one.written,
        })
    }

    fn of(pid: u32) -> io::Result<Usage> {
        let dir = format!("/proc/{pid}");
        let mut sleeps = 0;
        for thread in fs::read_dir(format!("{dir}/task"))? {
            // A thread may end between the listing and the reading.
            let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            sleeps += number_after(&status, "\nvoluntary_ctxt_switches:");
        }
        Ok(Usage {
            ticks: ticks(&fs::read_to_string(format!("{dir}/stat"))?),
            sleeps,
            written: number_after(&fs::read_to_string(format!("{dir}/io"))?, "\nwrite_bytes:"),
        })
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            ticks: self.ticks.saturating_sub(before.ticks),
            sleeps: self.sleeps.saturating_sub(before.sleeps),
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// `utime` plus `stime` of `/proc/PID/stat`: fields 14 and 15, where the name in field 2 may hold anything.
fn ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields = after_name.split_ascii_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// The number that follows `name`, 0 if there is none.
fn number_after(text: &str, name: &str) -> u64 {
    let rest = text.split_once(name).map_or("", |(_, rest)| rest);
    let number = rest.split_ascii_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or_default()
}

/// Process ids of all processes whose command line is as wanted.
pub(crate) fn find(mut is_it: impl FnMut(&[&str]) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let arguments: Vec<&str> = line.split_terminator('\0').collect();
        if is_it(&arguments) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// The machine in general words.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gibibytes = number_after(&memory, "MemTotal:") as f64 / 1_048_576.0;
    let uname = rustix::system::uname();
    let cgroups = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "cgroup v2"
    } else {
        "cgroup v1"
    };
    format!(
        "{cores} cores, {gibibytes:.0} GiB, {} {} {}, {cgroups}",
        uname.sysname().to_string_lossy(),
        series(&uname.release().to_string_lossy()),
        uname.machine().to_string_lossy(),
    )
}

/// The series of a kernel's release: `6.1` of `6.1.0-13-cloud-amd64`.
fn series(release: &str) -> String {
    let parts: Vec<&str> = release.splitn(3, '.').take(2).collect();
    parts.join(".")
}

/// Load average over the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "00400000-7ffe3b5e3000 ---p 00000000 00:00 0 [rollup]
Rss:                3268 kB
Pss:                1104 kB
Pss_Dirty:           108 kB
Shared_Clean:       3160 kB
Private_Clean:        12 kB
Private_Dirty:       108 kB
";

    #[test]
    fn memory_is_read_from_the_rollup() {
        assert_eq!(
            Memory::parse(ROLLUP),
            Memory {
                rss: 3268,
                pss: 1104,
                private: 120,
                private_dirty: 108,
            }
        );
        assert_eq!(Memory::parse(""), Memory::default());
    }

    #[test]
    fn ticks_stand_after_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 4 0 100 1 2";
        assert_eq!(ticks(stat), 22);
        assert_eq!(ticks("nonsense"), 0);
    }

    #[test]
    fn the_number_belongs_to_the_name() {
        let io = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(number_after(io, "\nwrite_bytes:"), 4096);
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(number_after(status, "\nvoluntary_ctxt_switches:"), 150);
        assert_eq!(number_after(io, "absent:"), 0);
    }

    #[test]
    fn this_process_is_found_and_has_used_something() {
        let own = std::process::id();
        let mine: Vec<String> = std::env::args().collect();
        assert!(find(|arguments| arguments == mine).contains(&own));
        let memory = Memory::of(own).expect("own memory");
        assert!(memory.rss >= memory.pss && memory.private >= memory.private_dirty);
        assert!(memory.private_dirty > 0);
        let before = Usage::default();
        assert_eq!(before.since(Usage::of_all(&[own])), Usage::default());
    }

    #[test]
    fn a_release_is_told_by_its_series() {
        assert_eq!(series("6.1.0-13-cloud-amd64"), "6.1");
        assert_eq!(series("7"), "7");
    }

    #[test]
    fn the_machine_is_described() {
        let machine = machine();
        assert!(
            machine.contains("cores") && machine.contains("Linux"),
            "{machine}"
        );
    }
}
