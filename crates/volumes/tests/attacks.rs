//! Containers that change the paths of their volume while the node walks them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ports::clock::SystemClock;
use ports::volumes::{Medium, VolumeSpec, Volumes};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use volumes::LocalVolumes;

/// Sub-paths that are asked for while links come and go.
const TRIES: u64 = 1_000;

/// Swaps what two names stand for, again and again, until the end; how often.
fn swap(one: &Path, other: &Path, over: &AtomicBool) -> u64 {
    let mut swaps = 0;
    while !over.load(Ordering::Acquire) {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("swaps");
        swaps += 1;
    }
    swaps
}

#[test]
fn a_link_that_comes_meanwhile_leads_nowhere() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(outside.path().join("deep")).unwrap();
    fs::write(outside.path().join("deep/file"), "outside").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let volumes = LocalVolumes::new(root.path(), Arc::new(SystemClock));
    let empty = VolumeSpec::EmptyDir {
        medium: Medium::Disk,
        size_limit_bytes: None,
        fs_group: None,
    };
    let volume = runtime.block_on(volumes.ensure("u", "v", &empty)).unwrap();
    let (path, link) = (volume.join("path"), volume.join("link"));
    fs::create_dir_all(path.join("deep")).unwrap();
    fs::write(path.join("deep/file"), "inside").unwrap();
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();

    let (over, inside) = (AtomicBool::new(false), AtomicU64::new(0));
    let swaps = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| swap(&path, &link, &over));
        for number in 0..TRIES {
            // Of the last, directories are made on the way.
            let new = format!("path/deep/{number}/new");
            for sub_path in ["path/deep", "path/deep/file", &new] {
                let asked = volumes.ensure_sub_path("u", "v", sub_path, "c", 0);
                let Ok(pin) = runtime.block_on(asked) else {
                    continue;
                };
                let seen = match pin.is_dir() {
                    true => fs::read_to_string(pin.join("file")),
                    false => fs::read_to_string(pin),
                };
                if sub_path != new {
                    assert_eq!(seen.expect("a file"), "inside", "{sub_path}");
                    inside.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        over.store(true, Ordering::Release);
        attacker.join().expect("the attacker")
    });
    runtime.block_on(volumes.teardown("u")).unwrap();
    runtime.block_on(volumes.remove()).unwrap();

    assert!(swaps > 0 && inside.into_inner() > 0);
    let made: Vec<_> = fs::read_dir(outside.path().join("deep")).unwrap().collect();
    assert_eq!(made.len(), 1, "nothing is made outside: {made:?}");
    let kept = fs::read_to_string(outside.path().join("deep/file")).unwrap();
    assert_eq!(kept, "outside");
}
