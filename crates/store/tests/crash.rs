//! Killed processes and torn files: what was acknowledged is there, and what is there is a prefix of what was asked.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use ports::store::{Change, Durability, Expect, RevisionedStore, StoreError};
use rand::Rng;
use store::Store;

const CHILD: &str = "STORE_CRASH_TEST_FILE";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Writes numbered objects for ever and says which are acknowledged. Does nothing unless it is the child of the test below.
#[test]
fn child_writes_until_killed() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    runtime().block_on(async {
        let store = Store::open(Path::new(&path)).unwrap();
        let (_, entries) = store.range("/n/", None, 0);
        for n in entries.len().. {
            let change = Change::Put(Box::new(move |revision| {
                Bytes::from(format!("{n}@{revision}"))
            }));
            let entry = store
                .commit(
                    &format!("/n/{n:08}"),
                    Expect::Absent,
                    change,
                    Durability::Synced,
                )
                .await
                .unwrap();
            let mut out = std::io::stdout();
            writeln!(out, "done {n} {}", entry.mod_revision).unwrap();
            out.flush().unwrap();
        }
    });
}

/// Everything in the store, checked to be the numbers from 0 on, with growing revisions.
fn numbers(path: &Path) -> usize {
    runtime().block_on(async {
        let store = Store::open(path).unwrap();
        let (revision, entries) = store.range("/n/", None, 0);
        for (n, entry) in entries.iter().enumerate() {
            assert_eq!(entry.key, format!("/n/{n:08}"));
            assert_eq!(entry.value, format!("{n}@{}", entry.mod_revision));
            assert!(entry.mod_revision <= revision);
        }
        assert!(entries.is_sorted_by_key(|e| e.mod_revision));
        entries.len()
    })
}

/// Kills a writing child after a random while; returns the last number it acknowledged.
fn write_and_kill(path: &Path) -> Option<usize> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_killed", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut number = |line: String| {
        line.split_once("done ")
            .and_then(|(_, n)| n.split(' ').next()?.parse::<usize>().ok())
    };
    // The moment counts from the first acknowledgement, so that every round writes something.
    let mut last = lines.by_ref().map_while(Result::ok).find_map(&mut number);
    std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..40_000)));
    child.kill().unwrap();
    for line in lines.map_while(Result::ok) {
        last = number(line).or(last);
    }
    child.wait().unwrap();
    last
}

#[test]
fn acknowledged_changes_survive_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    for _ in 0..8 {
        let acknowledged = write_and_kill(&path).expect("nothing was written");
        assert!(numbers(&path) > acknowledged);
    }
}

#[test]
fn torn_logs_leave_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    write_and_kill(&path);
    let wal = std::fs::read(dir.path().join("state.db-wal")).unwrap();
    let main = std::fs::read(&path).unwrap();
    let whole = numbers(&path);
    let torn = dir.path().join("torn.db");
    let mut rng = rand::rng();
    for round in 0..12 {
        let mut wal = wal.clone();
        let at = rng.random_range(0..wal.len());
        if round % 2 == 0 {
            wal.truncate(at);
        } else {
            wal[at] ^= 0x55;
        }
        std::fs::write(&torn, &main).unwrap();
        std::fs::write(dir.path().join("torn.db-wal"), &wal).unwrap();
        assert!(numbers(&torn) <= whole);
        for suffix in ["", "-wal", "-shm"] {
            // Closing the last connection may have removed it.
            let _ = std::fs::remove_file(dir.path().join(format!("torn.db{suffix}")));
        }
    }
}

#[test]
fn nothing_is_written_while_idle_and_numbers_never_return() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let first = runtime().block_on(async {
        let store = Store::open(&path).unwrap();
        let change = Change::Put(Box::new(|_| Bytes::from_static(b"x")));
        store
            .commit("/n/a", Expect::Absent, change, Durability::Synced)
            .await
            .unwrap()
            .mod_revision
    });
    let sizes = || -> Vec<(u64, std::time::SystemTime)> {
        let files = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|f| f.unwrap().metadata().unwrap());
        files.map(|m| (m.len(), m.modified().unwrap())).collect()
    };
    runtime().block_on(async {
        let store = Store::open(&path).unwrap();
        let before = sizes();
        assert!(store.revision() > first);
        assert_eq!(store.range("/", None, 0).1.len(), 1);
        store.watch("/", first).unwrap();
        assert_eq!(sizes(), before);
    });
}

#[test]
fn watches_do_not_resume_over_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let first = runtime().block_on(async {
        let store = Store::open(&path).unwrap();
        let change = Change::Put(Box::new(|_| Bytes::from_static(b"x")));
        let stored = store.commit("/n/a", Expect::Absent, change, Durability::Relaxed);
        stored.await.unwrap().mod_revision
    });
    let resumes = || {
        runtime().block_on(async {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.range("/", None, 0).1.len(), 1);
            let (revision, _) = store.range("/", None, 0);
            store.watch("/", revision).unwrap();
            match store.watch("/", first) {
                Ok(_) => true,
                Err(StoreError::Compacted { .. }) => false,
                Err(other) => panic!("{other}"),
            }
        })
    };
    assert!(resumes());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute("UPDATE meta SET boot = 'another'", [])
        .unwrap();
    assert!(!resumes());
    assert!(!resumes(), "not later in the same boot either");
}
