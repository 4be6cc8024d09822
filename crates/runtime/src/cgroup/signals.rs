//! Stopping what runs in a group: killing all of it, freezing it, and learning that it is empty.
//!
//! A v2 directory does all three in the kernel (`cgroup.kill` since Linux 5.14). With v1 alone, processes are gone through one by
//! one, under the freezer so that none can fork away.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::error::CgroupError;
use super::group::{Group, read, write};
use super::values::keyed;

impl Group {
    /// Kills every process in it and in the groups below. They may not have ended yet on return.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(file) = self.v2_file("cgroup.kill")
            && file.exists()
        {
            return write(&file, "1");
        }
        // Best effort: without a freezer the passes below catch up with all but a fork bomb.
        let _ = self.freeze(true);
        let killed = self.kill_each();
        let _ = self.freeze(false);
        killed
    }

    fn kill_each(&self) -> Result<(), CgroupError> {
        for process in self.processes()? {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
        Ok(())
    }

    /// Stops every process in it where it is, or lets it go on.
    pub fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        if let Some(file) = self.v2_file("cgroup.freeze") {
            return write(&file, if frozen { "1" } else { "0" });
        }
        let Some(file) = self.v1_file("freezer", "freezer.state") else {
            return Ok(());
        };
        write(&file, if frozen { "FROZEN" } else { "THAWED" })
    }

    /// pidfds of everything in it and below.
    fn processes(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let Some(dir) = self.main_dir() else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        collect(&dir, &mut found)?;
        Ok(found)
    }

    fn main_dir(&self) -> Option<PathBuf> {
        self.v2_file("")
            .or_else(|| self.v1_file("memory", ""))
            .or_else(|| self.dirs().into_iter().next())
    }

    /// A descriptor that becomes readable for priority data (`POLLPRI`) when it may have become empty; v2 and hybrid only.
    pub fn events(&self) -> Option<OwnedFd> {
        let file = std::fs::File::open(self.v2_file("cgroup.events")?).ok()?;
        // Only what happens after a first read is told.
        let _ = rustix::io::read(&file, &mut [0u8; 256]);
        Some(file.into())
    }

    /// Whether a process is in it or below.
    pub fn populated(&self) -> Result<bool, CgroupError> {
        if let Some(file) = self.v2_file("cgroup.events") {
            return match read(&file) {
                Ok(text) => Ok(keyed(&text, "populated") == Some(1)),
                Err(e) if e.errno() == Some(libc::ENOENT) => Ok(false),
                Err(e) => Err(e),
            };
        }
        Ok(!self.processes()?.is_empty())
    }

    /// Waits until nothing is in it, at most `timeout`. Blocks; wakes by events, not by looking again and again.
    pub fn wait_empty(&self, timeout: Duration) -> Result<(), CgroupError> {
        let end = Instant::now() + timeout;
        let busy = || CgroupError::Busy {
            path: self.path().to_owned(),
        };
        let events = self.events();
        while self.populated()? {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(busy());
            }
            let processes = if events.is_some() {
                Vec::new()
            } else {
                self.processes()?
            };
            let mut waited = match (&events, processes.first()) {
                (Some(events), _) => PollFd::new(events, PollFlags::PRI),
                (None, Some(process)) => PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN),
                (None, None) => continue,
            };
            let left = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            // Interrupted or timed out, the loop looks again.
            let _ = poll(std::slice::from_mut(&mut waited), Some(&left));
        }
        Ok(())
    }
}

fn collect(dir: &Path, found: &mut Vec<OwnedFd>) -> Result<(), CgroupError> {
    let text = match read(&dir.join("cgroup.procs")) {
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV)) => return Ok(()),
        other => other?,
    };
    let pids = text
        .lines()
        .filter_map(|l| l.trim().parse().ok())
        .filter_map(Pid::from_raw);
    // One that has ended meanwhile is not there.
    found.extend(pids.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()));
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        collect(&entry.path(), found)?;
    }
    Ok(())
}
