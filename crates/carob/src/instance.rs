//! One engine per root: a lock that the running engine holds, with its process id inside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What a killed engine was just starting has executed its program by then.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// Held as long as the engine runs; the kernel lets go of it however the engine ends.
#[derive(Debug)]
pub(crate) struct Instance {
    _lock: File,
}

impl Instance {
    /// Takes the lock; fails when another engine has it.
    pub(crate) fn acquire(path: &Path) -> anyhow::Result<Instance> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("open {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = read_pid(&mut lock).unwrap_or_default();
            if is_alive(&holder) || !is_let_go(&lock)? {
                bail!("an engine is already running with this root (process {holder})");
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}", std::process::id())?;
        Ok(Instance { _lock: lock })
    }
}

/// Whether a process has not ended; one that nobody has waited for yet has.
fn is_alive(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    process.is_some_and(|process| {
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        let now = Timespec::default();
        matches!(poll(&mut ended, Some(&now)), Ok(0))
    })
}

/// Waits a moment for the lock of an engine that was killed: a process that it was just starting has its files until it executes its
/// program.
fn is_let_go(lock: &File) -> anyhow::Result<bool> {
    let (sender, let_go) = std::sync::mpsc::channel();
    let lock = lock.try_clone().context("wait for the engine's lock")?;
    // If it waits in vain, it ends with this process.
    std::thread::spawn(move || sender.send(flock(&lock, FlockOperation::LockExclusive)));
    Ok(let_go
        .recv_timeout(LET_GO_WITHIN)
        .is_ok_and(|taken| taken.is_ok()))
}

/// Whether an engine runs.
pub(crate) fn is_running(path: &Path) -> anyhow::Result<bool> {
    match File::open(path) {
        Ok(lock) => Ok(flock(&lock, FlockOperation::NonBlockingLockShared).is_err()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
    }
}

/// Asks the running engine to end and waits until it has; `false` if none runs.
pub(crate) fn stop(path: &Path) -> anyhow::Result<bool> {
    let mut lock = match File::open(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(false);
    }
    let pid = read_pid(&mut lock)
        .and_then(|text| Pid::from_raw(text.parse().ok()?))
        .context("the engine's lock holds no process id")?;
    let engine = pidfd_open(pid, PidfdFlags::empty()).context("find the engine's process")?;
    pidfd_send_signal(&engine, Signal::TERM).context("ask the engine to end")?;
    wait(&engine)?;
    Ok(true)
}

fn wait(process: &OwnedFd) -> anyhow::Result<()> {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut ended, None)).context("wait for the engine")?;
    Ok(())
}

fn read_pid(lock: &mut File) -> Option<String> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_engine_holds_a_root() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("run/engine.lock");
        assert!(!stop(&path).expect("no engine"), "nothing runs yet");
        assert!(!is_running(&path).expect("no engine"));
        let first = Instance::acquire(&path).expect("the lock");
        assert!(is_running(&path).expect("an engine"));
        let refused = Instance::acquire(&path)
            .expect_err("it is taken")
            .to_string();
        assert!(
            refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(first);
        assert!(
            !stop(&path).expect("no engine"),
            "a lock that nobody holds is no engine"
        );
        Instance::acquire(&path).expect("the lock again");
    }

    #[test]
    fn the_lock_of_a_killed_engine_is_waited_for() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("engine.lock");
        // The lock without its engine: a process number that no process has.
        fs::write(&path, "2147483647").expect("writes");
        let heir = File::open(&path).expect("opens");
        flock(&heir, FlockOperation::LockExclusive).expect("locks");
        let (sender, going) = std::sync::mpsc::channel();
        let next = std::thread::spawn(move || {
            sender.send(()).expect("tells");
            Instance::acquire(&path)
        });
        going.recv().expect("it begins");
        drop(heir);
        next.join().expect("no panic").expect("the lock");
    }
}
