//! 42 of the lifecycle specification's §16, over generated contents: who resolves a volume's `..data` once and reads through that sees
//! the files of one version, or none of those it removes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File as Handle};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ports::clock::SystemClock;
use ports::volumes::{File, VolumeSpec, Volumes};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use volumes::LocalVolumes;

/// Names a version may have files of.
const NAMES: [&str; 4] = ["a", "b", "d/e", "d/f"];

/// Of each version: which names it has, and how long its files are.
type Version = (BTreeMap<&'static str, ()>, usize);

fn versions() -> impl Strategy<Value = Vec<Version>> {
    let names = proptest::sample::subsequence(&NAMES, 1..=NAMES.len());
    let names = names.prop_map(|names| names.into_iter().map(|name| (name, ())).collect());
    proptest::collection::vec((names, 8_usize..10_000), 2..6)
}

/// All that a file of a version says: its number, again and again.
fn text(number: usize, length: usize) -> String {
    format!("{number:08}").repeat(length.div_ceil(8))
}

fn spec((number, (names, length)): (usize, &Version)) -> VolumeSpec {
    let file = File {
        data: text(number, *length).into(),
        mode: 0o644,
        uid: None,
    };
    let files = names.keys().map(|name| ((*name).to_owned(), file.clone()));
    VolumeSpec::Files {
        files: files.collect(),
        is_secret: false,
        fs_group: None,
    }
}

/// Reads what one look at `..data` leads to, and says what is wrong with it.
fn look(volume: &Path, versions: &[Version]) -> Result<(), String> {
    let data = match Handle::open(volume.join("..data")) {
        Ok(data) => data,
        // The version was removed between reading the link and going there.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("..data: {error}")),
    };
    let below = format!("/proc/self/fd/{}", data.as_raw_fd());
    let mut seen: Option<usize> = None;
    for name in NAMES {
        // It may never have been there, or be removed by now.
        let Ok(found) = fs::read_to_string(Path::new(&below).join(name)) else {
            continue;
        };
        let number = found.get(..8).and_then(|head| head.parse().ok());
        let number: usize = number.ok_or_else(|| format!("{name} has {} bytes", found.len()))?;
        let (names, length) = &versions[number];
        if found != text(number, *length) || !names.contains_key(name) {
            return Err(format!("{name} is not that of version {number}"));
        }
        match seen {
            Some(other) if other != number => {
                return Err(format!("{name} is of version {number}, others of {other}"));
            }
            _ => seen = Some(number),
        }
    }
    Ok(())
}

/// Volumes of a node, one of which is brought from version to version.
struct Node {
    root: TempDir,
    runtime: Runtime,
    volumes: LocalVolumes,
}

impl Node {
    fn new() -> Node {
        let root = tempfile::tempdir().expect("a directory");
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Node {
            volumes: LocalVolumes::new(root.path(), Arc::new(SystemClock)),
            runtime: runtime.build().expect("a runtime"),
            root,
        }
    }

    /// Brings the volume to a version, after which nothing else is in it.
    fn bring(&self, version: (usize, &Version)) -> PathBuf {
        let spec = spec(version);
        let done = self.volumes.ensure("u", "v", &spec);
        let volume = self.runtime.block_on(done).expect("a volume");
        let seen = fs::read_link(volume.join("..data")).expect("a version");
        let first = |name: &&str| name.split('/').next().map(OsString::from);
        let mut names: BTreeSet<OsString> = version.1.0.keys().filter_map(first).collect();
        names.extend(["..data".into(), seen.into()]);
        let held = fs::read_dir(&volume).expect("what it holds");
        let held = held.map(|entry| entry.expect("an entry").file_name());
        assert_eq!(held.collect::<BTreeSet<_>>(), names);
        volume
    }

    /// Goes on with what is known by looking only.
    fn restart(&mut self) {
        self.volumes = LocalVolumes::new(self.root.path(), Arc::new(SystemClock));
    }

    fn end_pod(&self) {
        let done = self.volumes.teardown("u");
        self.runtime.block_on(done).expect("an end");
    }

    fn remove(&self) {
        let done = self.volumes.remove();
        self.runtime.block_on(done).expect("nothing is left");
    }
}

#[test]
fn one_look_sees_one_version() {
    let node = Node::new();
    let mut runner = TestRunner::new(testkit::cases(2_000, 16));
    let ran = runner.run(&versions(), |versions| {
        let volume = node.bring((0, &versions[0]));
        let wrong = looked_at(&volume, &versions, || {
            for version in versions.iter().enumerate().skip(1) {
                node.bring(version);
            }
        });
        node.end_pod();
        prop_assert_eq!(wrong, None);
        Ok(())
    });
    node.remove();
    if let Err(failed) = ran {
        panic!("{failed}");
    }
}

#[test]
fn ten_thousand_updates_are_seen_whole() {
    let node = Node::new();
    let every = NAMES.into_iter().map(|name| (name, ())).collect();
    let versions = vec![(every, 64); 10_000];
    let volume = node.bring((0, &versions[0]));
    let wrong = looked_at(&volume, &versions, || {
        for version in versions.iter().enumerate().skip(1) {
            node.bring(version);
        }
    });
    let last = fs::read_to_string(volume.join("d/e"));
    node.end_pod();
    node.remove();
    assert_eq!(wrong, None);
    assert_eq!(last.expect("the last version"), text(9_999, 64));
}

#[test]
fn what_a_kill_left_is_put_right() {
    let mut node = Node::new();
    let names = |names: &[&'static str]| names.iter().map(|name| (*name, ())).collect();
    let (one, other) = ((names(&["a", "d/e"]), 64), (names(&["b", "d/e"]), 64));
    let volume = node.bring((0, &one));
    for next in [(0, &one), (1, &other)] {
        fs::remove_file(volume.join("a")).expect("a link that was not made yet");
        symlink("..data/b", volume.join("b")).expect("a link that was not removed yet");
        symlink("..half", volume.join("..data_tmp")).expect("a version that is not seen yet");
        for version in ["..half", "..2026_01_31_10_15_02.123456789"] {
            fs::create_dir_all(volume.join(version).join("d")).expect("a version");
            fs::write(volume.join(version).join("d/e"), "half").expect("a file");
        }
        node.restart();
        node.bring(next);
        let found = fs::read_to_string(volume.join("d/e"));
        assert_eq!(found.expect("a file"), text(next.0, 64));
    }
    node.end_pod();
    node.remove();
}

/// Looks at a volume again and again while something is done, and once after that; what was wrong.
fn looked_at(volume: &Path, versions: &[Version], done: impl FnOnce()) -> Option<String> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            loop {
                // Whatever was there before the end was looked at.
                let last = over.load(Ordering::Acquire);
                let looked = look(volume, versions);
                if last || looked.is_err() {
                    return looked.err();
                }
            }
        });
        done();
        over.store(true, Ordering::Release);
        reader.join().expect("the reader")
    })
}
