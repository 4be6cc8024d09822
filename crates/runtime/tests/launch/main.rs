//! Containers really launched, looked at from inside. Needs root.
//!
//! The launcher wants a process with one thread, so these cases run one after the other in `main` instead of under libtest's
//! threads. Arguments that are no options select cases by part of their name.

mod bundle;
mod cases;

use std::panic::{AssertUnwindSafe, catch_unwind};

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let cases: Vec<_> = cases::ALL
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())))
        .collect();
    if std::env::args().any(|a| a == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let launcher = runtime::launch::Launcher::new().expect("launch tests need root");
    let before = Traces::take();
    let mut failed = Vec::new();
    for (name, case) in &cases {
        let ok = catch_unwind(AssertUnwindSafe(|| case(&launcher))).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if !ok {
            failed.push(*name);
        }
    }
    let after = Traces::take();
    assert_eq!(
        before, after,
        "descriptors, mounts, children or umask have changed"
    );
    println!(
        "\n{} passed, {} failed",
        cases.len() - failed.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:?}");
}

/// What a launcher must leave as it found it.
#[derive(Debug, PartialEq)]
struct Traces {
    descriptors: usize,
    mounts: String,
    namespaces: Vec<std::path::PathBuf>,
    signals: String,
    children: String,
}

impl Traces {
    fn take() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kept = |l: &&str| {
            [
                "SigBlk",
                "SigIgn",
                "SigCgt",
                "Umask",
                "NoNewPrivs",
                "CapEff",
            ]
            .iter()
            .any(|k| l.starts_with(k))
        };
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
            namespaces: ["mnt", "pid_for_children", "net", "ipc", "uts", "cgroup"]
                .map(|n| std::fs::read_link(format!("/proc/self/ns/{n}")).unwrap())
                .into(),
            signals: status.lines().filter(kept).collect::<Vec<_>>().join("\n"),
            children: std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default(),
        }
    }
}
