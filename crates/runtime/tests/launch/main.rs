//! Containers really launched, looked at from inside. Needs root.
//!
//! The launcher wants a process with one thread, so these cases run one after the other in `main` instead of under libtest's
//! threads. Arguments that are no options select cases by part of their name. The program is started again the way pause is, from
//! a read-only mount of its file.

mod bundle;
mod cases;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Set once the program runs from the read-only mount.
const PROTECTED: &str = "CAROB_TEST_PROTECTED";

fn main() {
    if std::env::var_os("CAROB_TEST_OPEN_SELF").is_some() {
        // Truncating asks the mount first; a file being executed could not be opened for writing anyway, until it ends.
        let opened = std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open("/proc/self/exe");
        println!(
            "{}",
            opened.map_or_else(|e| e.to_string(), |_| "opened".into())
        );
        return;
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let all = cases::all();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let cases: Vec<_> = all.iter().filter(|(name, _)| chosen(name)).collect();
    if std::env::args().any(|a| a == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if std::env::var_os(PROTECTED).is_none() {
        execute_protected();
    }
    own_mounts();
    let launcher = runtime::launch::Scratch::new()
        .and_then(runtime::launch::Launcher::new)
        .expect("launch tests need root");
    let before = Traces::take();
    let mut failed = Vec::new();
    for (name, case) in &cases {
        let ok = catch_unwind(AssertUnwindSafe(|| case(&launcher))).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if !ok {
            failed.push(*name);
        }
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored",
        if failed.is_empty() { "ok" } else { "FAILED" },
        cases.len() - failed.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:?}");
    let after = Traces::take();
    assert_eq!(
        before.without_vanished(&after),
        after,
        "descriptors, mounts, children or signals have changed"
    );
}

/// A mount namespace of its own: what others on the machine mount meanwhile is none of these tests' business.
fn own_mounts() {
    use rustix::mount::{MountPropagationFlags, mount_change};
    // SAFETY: the process has one thread, and CLONE_FILES is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .expect("a mount namespace");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("private mounts");
}

/// Executes this program again, out of containers' reach.
fn execute_protected() -> ! {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let own = std::env::current_exe().expect("own path");
    let file = runtime::launch::protect::readonly_file(&own).expect("launch tests need root");
    let error = std::process::Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .args(std::env::args_os().skip(1))
        .env(PROTECTED, "1")
        .exec();
    panic!("{error}");
}

/// What a launcher must leave as it found it.
#[derive(Debug, PartialEq)]
struct Traces {
    descriptors: usize,
    mounts: Vec<String>,
    namespaces: Vec<std::path::PathBuf>,
    status: String,
    children: String,
}

impl Traces {
    fn take() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kept = |l: &&str| {
            ["SigBlk", "SigIgn", "Umask", "NoNewPrivs", "CapEff"]
                .iter()
                .any(|k| l.starts_with(k))
        };
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            mounts: std::fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect(),
            namespaces: ["mnt", "pid_for_children", "net", "ipc", "uts", "cgroup"]
                .map(|n| std::fs::read_link(format!("/proc/self/ns/{n}")).unwrap())
                .into(),
            status: status.lines().filter(kept).collect::<Vec<_>>().join("\n"),
            children: std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default(),
        }
    }

    /// Without the mounts whose mount points are gone: whoever removes one takes its mounts out of every namespace.
    fn without_vanished(mut self, after: &Self) -> Self {
        let is_there = |line: &&String| {
            let point = line.split(' ').nth(4).unwrap_or_default();
            after.mounts.contains(*line) || std::path::Path::new(point).exists()
        };
        self.mounts = self.mounts.iter().filter(is_there).cloned().collect();
        self
    }
}
