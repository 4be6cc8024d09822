//! `carob image` against a running engine and without one.

use std::fs;
use std::process::{Command, Output};

use e2e::engine::{Engine, Outside};

fn image(engine: &Engine, outside: &Outside, arguments: &[&str]) -> Output {
    Command::new(&outside.carob)
        .arg("--root")
        .arg(engine.root())
        .arg("image")
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("carob starts")
}

/// Runs a command that must succeed; its standard output.
fn done(engine: &Engine, outside: &Outside, arguments: &[&str]) -> String {
    let output = image(engine, outside, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must be refused; its words.
fn refused(engine: &Engine, outside: &Outside, arguments: &[&str]) -> String {
    let output = image(engine, outside, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn every_command(engine: &Engine, outside: &Outside) {
    let archive = engine.root().join("saved.tar").display().to_string();
    let id = done(engine, outside, &["pull", "-q", "busybox:1.36"]);
    assert!(id.starts_with("sha256:"), "{id}");
    done(engine, outside, &["tag", "busybox:1.36", "me/tool:2"]);
    let listed = done(engine, outside, &["ls", "me/tool"]);
    assert!(listed.contains("docker.io/me/tool   2 "), "{listed}");
    done(engine, outside, &["save", "me/tool:2", "-o", &archive]);
    done(engine, outside, &["rm", "me/tool:2"]);
    assert_eq!(done(engine, outside, &["ls", "-q", "me/tool"]), "");
    let loaded = done(engine, outside, &["load", "-i", &archive]);
    assert!(
        loaded.contains("Loaded image: docker.io/me/tool:2\n"),
        "{loaded}"
    );
    let import = ["import", "-c", "CMD [\"/x\"]", &archive, "me/files:1"];
    let imported = done(engine, outside, &import);
    let hostile = engine.root().join("hostile.tar");
    fs::write(&hostile, vec![0xff; 10_000]).expect("writes");
    let before = done(engine, outside, &["ls", "-o", "json"]);
    let words = refused(
        engine,
        outside,
        &["load", "-i", &hostile.display().to_string()],
    );
    assert!(words.contains("archive refused"), "{words}");
    assert_eq!(done(engine, outside, &["ls", "-o", "json"]), before);
    let unfinished = fs::read_dir(engine.root().join("state/images/tmp")).expect("lists");
    assert_eq!(unfinished.count(), 0);
    let words = refused(engine, outside, &["rm", "nothing:1"]);
    assert_eq!(words, "error: No such image: nothing:1\n");
    assert!(refused(engine, outside, &["pull", "nothing:1"]).contains("not found"));
    done(engine, outside, &["rm", "me/files:1"]);
    let left = done(engine, outside, &["ls", "-q", "--no-trunc"]);
    assert!(!left.contains(imported.trim()), "{left}");
}

/// A tar archive of one entry: its kind, and where it and its link lead.
fn hostile(kind: char, name: &str, link: &str) -> Vec<u8> {
    let mut block = [0u8; 512];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, "00000000000\0");
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, &kind.to_string());
    put(157, link);
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&block[..], &[0; 1024]].concat()
}

#[test]
fn archives_that_lead_outside_are_refused() {
    let outside = Outside::from_env().expect("the environment");
    let engine = Engine::prepare(&outside).expect("a root");
    let archive = engine.root().join("hostile.tar");
    let shown = archive.display().to_string();
    let target = engine.root().join("target");
    for (kind, name, link) in [
        ('0', "../../../target", ""),
        ('0', "a/../../../../target", ""),
        ('2', "link/../../../target", "/"),
        ('1', "hard", "../../../config.yaml"),
        ('3', "device", ""),
    ] {
        fs::write(&archive, hostile(kind, name, link)).expect("writes");
        let load = refused(&engine, &outside, &["load", "-i", &shown]);
        assert!(load.starts_with("error: "), "{load}");
        let import = image(&engine, &outside, &["import", &shown, "me/hostile:1"]);
        if import.status.success() {
            // What stays inside may be imported; a container sees it below its own root.
            assert!(matches!(kind, '0' | '2'), "{kind} {name} was imported");
            done(&engine, &outside, &["rm", "me/hostile:1"]);
        }
        assert!(!target.exists(), "{name} was written");
    }
    assert_eq!(done(&engine, &outside, &["ls", "-q"]), "");
    let unfinished = fs::read_dir(engine.root().join("state/images/tmp")).expect("lists");
    assert_eq!(unfinished.count(), 0);
    engine.down().expect("nothing to end");
}

/// A small file system below a directory, while it lives.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: &std::path::Path, options: &str) {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at);
        assert!(command.status().expect("mount runs").success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.expect("umount runs").success());
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let outside = Outside::from_env().expect("the environment");
    let engine = Engine::prepare(&outside).expect("a root");
    let state = engine.root().join("state");
    fs::create_dir(&state).expect("makes");
    let disk = Disk(state);
    Disk::mount(&disk.0, "size=1m");
    let words = refused(&engine, &outside, &["pull", "busybox:1.36"]);
    assert!(words.contains("No space left on device"), "{words}");
    assert_eq!(done(&engine, &outside, &["ls", "-q"]), "");
    let unfinished = fs::read_dir(disk.0.join("images/tmp")).expect("lists");
    assert_eq!(unfinished.count(), 0);
    Disk::mount(&disk.0, "remount,size=100m");
    done(&engine, &outside, &["pull", "busybox:1.36"]);
    drop(disk);
    engine.down().expect("nothing to end");
}

#[test]
fn images_with_an_engine_and_without() {
    let outside = Outside::from_env().expect("the environment");
    let engine = Engine::start(&outside).expect("an engine");
    every_command(&engine, &outside);
    let run = [
        "run",
        "user",
        "--image=alpine",
        "--command",
        "--",
        "sleep",
        "3600",
    ];
    engine.kubectl(run).expect("runs");
    let ready = ["wait", "--for=condition=Ready", "pod/user", "--timeout=60s"];
    engine.kubectl(ready).expect("is Ready");
    for is_running in [true, false] {
        if !is_running {
            engine.stop().expect("ends");
            assert!(!engine.root().join("run/engine.sock").exists());
            every_command(&engine, &outside);
        }
        let words = refused(&engine, &outside, &["rm", "-f", "alpine"]);
        assert!(
            words.contains("in use: container user of Pod default/user"),
            "{words}"
        );
        let pruned = done(&engine, &outside, &["prune", "-a", "-f"]);
        assert!(pruned.contains("Untagged: docker.io/me/tool:2"), "{pruned}");
        let listed = done(&engine, &outside, &["ls", "--no-headers"]);
        assert!(listed.starts_with("docker.io/library/alpine "), "{listed}");
        assert_eq!(listed.lines().count(), 1, "{listed}");
    }
    engine.down().expect("ends");
}
