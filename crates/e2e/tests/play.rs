//! `carob play`: states and logs while it lasts, the Pod's exit code, and an end in order, with a running engine and without one.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::engine::{Engine, Outside};
use e2e::user::Running;
use rustix::process::{Pid, Signal, kill_process};

/// Ends by itself: an init container, then an app that fails.
const ONCE: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: working}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers: [{name: prepare, image: "busybox:1.36", command: [echo, preparing]}]
  containers:
  - name: main
    image: busybox:1.36
    env: [{name: WORD, valueFrom: {configMapKeyRef: {name: words, key: word}}}]
    command: [sh, -c, "echo $WORD; echo failing >&2; exit 5"]
"#;

/// Goes on until it is told to end, and says so.
const SERVES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: serves}
spec:
  terminationGracePeriodSeconds: 300
  initContainers:
  - name: side
    image: busybox:1.36
    restartPolicy: Always
    command: [sh, -c, "trap 'echo side ends; exit 0' TERM; echo side begins; while :; do sleep 0.1; done"]
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "trap 'echo app ends; exit 7' TERM; echo app begins; while :; do sleep 0.1; done"]
"#;

/// Does not listen.
const STUBBORN: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 300
  containers: [{name: app, image: "busybox:1.36", command: [sh, -c, "trap '' TERM; echo app begins; while :; do sleep 0.1; done"]}]
"#;

fn outside() -> Outside {
    Outside::from_env().expect("the environment")
}

/// Writes a manifest below the engine's root.
fn file(engine: &Engine, name: &str, text: &str) -> String {
    let path = engine.root().join(name);
    fs::write(&path, text).expect("writes");
    path.display().to_string()
}

fn play(engine: &Engine, arguments: &[&str]) -> Output {
    let mut command = engine.command([&["play"], arguments].concat());
    command.output().expect("carob starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether `parts` stand in `text` in this order.
fn in_order(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// A play that goes on, its logs up to the last of `begun` read.
fn begin(engine: &Engine, manifest: &str, begun: &[&str]) -> (Running, BufReader<ChildStdout>) {
    let mut command = engine.command(["play", "-f", manifest]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut playing = Running::from(command.spawn().expect("carob starts"));
    let mut logs = playing.stdout().expect("its output");
    let mut awaited = begun.to_vec();
    while !awaited.is_empty() {
        let mut line = String::new();
        if logs.read_line(&mut line).expect("reads") == 0 {
            let mut said = String::new();
            let mut errors = playing.stderr().expect("its errors");
            errors.read_to_string(&mut said).expect("reads");
            panic!("it ended before {awaited:?}: {said}");
        }
        awaited.retain(|wanted| line.trim_end() != *wanted);
    }
    (playing, logs)
}

fn signal(playing: &Running, signal: Signal) {
    let pid = i32::try_from(playing.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("it runs");
}

/// Its exit code, what else it printed, and what it said.
fn end(mut playing: Running, mut logs: BufReader<ChildStdout>) -> (Option<i32>, String, String) {
    let (mut printed, mut said) = (String::new(), String::new());
    logs.read_to_string(&mut printed).expect("reads");
    let mut errors = playing.stderr().expect("its errors");
    errors.read_to_string(&mut said).expect("reads");
    (playing.wait().expect("ends").code(), printed, said)
}

/// What a whole play shows.
fn check_once(output: &Output) {
    let (logs, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(5), "{said}");
    let mut lines: Vec<&str> = logs.lines().collect();
    assert_eq!(lines.first(), Some(&"[once/prepare] preparing"), "{said}");
    // What a program writes to its two outputs may come in any order.
    lines.sort_unstable();
    let all = [
        "[once/main] failing",
        "[once/main] working",
        "[once/prepare] preparing",
    ];
    assert_eq!(lines, all, "{said}");
    let order = [
        "configmap/words created\n",
        "pod/once created\n",
        "once/prepare: ended with exit code 0\n",
        "once/main: ended with exit code 5 (Error)\n",
        "pod/once deleted\n",
        "configmap/words deleted\n",
    ];
    assert!(in_order(&said, &order), "{said}");
}

fn check_interrupted(ended: (Option<i32>, String, String)) {
    let (code, logs, said) = ended;
    assert_eq!(code, Some(7), "{said}");
    assert_eq!(logs, "[serves/app] app ends\n[serves/side] side ends\n");
    let order = [
        "serves/app: ready",
        "ending; Ctrl-C again does not wait\n",
        "serves/app: ended with exit code 7 (Error)\n",
        "pod/serves deleted\n",
    ];
    assert!(in_order(&said, &order), "{said}");
}

#[test]
fn on_a_running_engine() {
    let engine = Engine::start(&outside()).expect("an engine");
    let once = file(&engine, "once.yaml", ONCE);
    let output = play(&engine, &["-f", &once]);
    check_once(&output);
    let said = text(&output.stderr);
    assert!(said.contains("Pulling image \"busybox:1.36\""), "{said}");

    // Nothing that was asked to be left out, and the same code.
    let output = play(&engine, &["-q", "--no-logs", "-f", &once]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        Default::default()
    );
    let output = play(&engine, &["-q", "--timestamps", "--keep", "-f", &once]);
    let logs = text(&output.stdout);
    let stamped =
        |line: &str| line.contains("Z ") && line.starts_with("[once/") && line.contains("] 20");
    assert!(
        logs.lines().count() == 3 && logs.lines().all(stamped),
        "{logs}"
    );
    let kept = engine.kubectl(["get", "pods", "-o", "name"]);
    assert_eq!(kept.expect("lists"), "pod/once\n");

    // What was there before stays.
    let output = play(&engine, &["-f", &once]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("pod/once unchanged\n"));
    let kept = engine.kubectl(["get", "pods", "-o", "name"]);
    assert_eq!(kept.expect("lists"), "pod/once\n");

    for (arguments, words) in [
        (
            &["-f", "/no/such/file"][..],
            "the path \"/no/such/file\" does not exist",
        ),
        (&[], "must specify -f"),
        (
            &[
                "-f",
                &file(
                    &engine,
                    "none.yaml",
                    "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}",
                ),
            ],
            "the files describe no Pod",
        ),
        (
            &[
                "-f",
                &file(&engine, "bad.yaml", &ONCE.replace("image:", "imagee:")),
            ],
            "unknown field \"spec.containers[0].imagee\"",
        ),
    ] {
        let output = play(&engine, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    }

    let serves = file(&engine, "serves.yaml", SERVES);
    let (playing, logs) = begin(
        &engine,
        &serves,
        &["[serves/side] side begins", "[serves/app] app begins"],
    );
    signal(&playing, Signal::INT);
    check_interrupted(end(playing, logs));
    let stubborn = file(&engine, "stubborn.yaml", STUBBORN);
    let (mut playing, logs) = begin(&engine, &stubborn, &["[stubborn/app] app begins"]);
    let asked = Instant::now();
    let mut said = playing.stderr().expect("its errors");
    signal(&playing, Signal::INT);
    let mut line = String::new();
    while !line.starts_with("ending; ") {
        line.clear();
        assert_ne!(said.read_line(&mut line).expect("reads"), 0, "it ended");
    }
    signal(&playing, Signal::INT);
    drop(logs);
    assert_eq!(playing.wait().expect("ends").code(), Some(137));
    assert!(
        asked.elapsed() < Duration::from_secs(60),
        "not the whole grace"
    );

    let kept = engine.kubectl(["get", "pods", "-o", "name"]);
    assert_eq!(kept.expect("the engine goes on"), "pod/once\n");
    engine.down().expect("ends");
}

#[test]
fn without_an_engine() {
    let engine = Engine::prepare(&outside()).expect("a root");
    let once = file(&engine, "once.yaml", ONCE);
    let fine = ONCE.replace("exit 5", "exit 0");
    let fine = file(&engine, "fine.yaml", &fine);
    let serves = file(&engine, "serves.yaml", SERVES);

    check_once(&play(&engine, &["-f", &once]));
    engine.is_gone(None).expect("nothing stays");
    assert_eq!(engine.bridge(), None, "nor what its network was");
    assert_eq!(play(&engine, &["-f", &fine]).status.code(), Some(0));

    for how in [Signal::INT, Signal::TERM] {
        let (playing, logs) = begin(
            &engine,
            &serves,
            &["[serves/side] side begins", "[serves/app] app begins"],
        );
        let bridge = engine.bridge();
        assert!(
            bridge.is_some() && engine.is_gone(bridge.as_deref()).is_err(),
            "it runs"
        );
        signal(&playing, how);
        check_interrupted(end(playing, logs));
        engine.is_gone(bridge.as_deref()).expect("nothing stays");
    }

    let output = play(&engine, &["-f", "/no/such/file"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("the path \"/no/such/file\" does not exist"),
        "{said}"
    );
    engine.is_gone(None).expect("nothing stays");
    engine.down().expect("nothing to end");
}
