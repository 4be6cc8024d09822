//! What containers leave behind on the machine: records and logs of runs that are over, and logs that have grown large.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::directory::Directory;
use e2e::engine::{Engine, Outside};

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(60);

const RUNS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: runs}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "cat /proc/sys/kernel/random/uuid; touch /told; until [ -e /end ]; do sleep 0.05; done; exit 3"]
    readinessProbe: {exec: {command: [test, -e, /told]}, periodSeconds: 1}
"#;

/// How often it is ended and starts again.
const RESTARTS: u32 = 2;

/// Of the runs that are over, the newest is kept with its log; the others go.
pub(crate) fn are_collected(outside: &Outside) -> anyhow::Result<()> {
    let engine = Engine::start(outside)?;
    apply(&engine, RUNS)?;
    ready(&engine, "runs")?;
    let logs = Directory::watch(&log_directory(&engine, "runs")?)?;
    let records = Directory::watch(&record_directory(&engine)?)?;
    let mut before = engine.kubectl(["logs", "runs"])?;
    for restarts in 1..=RESTARTS {
        // It may end with the container.
        engine.try_kubectl(["exec", "runs", "--", "touch", "/end"])?;
        if restarts > 1 {
            wait(&engine, "runs", "state.waiting.reason", "CrashLoopBackOff")?;
            engine.carob(["retry", "runs"])?;
        }
        wait(&engine, "runs", "restartCount", &restarts.to_string())?;
        ready(&engine, "runs")?;
        let kept = [restarts - 1, restarts].map(|run| format!("{run}.log"));
        logs.until(|names| names == kept)?;
        // Each has a directory of its own.
        records.until(|names| names.iter().filter(|name| name.len() == 64).count() == 2)?;
        let previous = engine.kubectl(["logs", "-p", "runs"])?;
        ensure!(previous == before, "{previous} instead of {before}");
        before = engine.kubectl(["logs", "runs"])?;
    }
    engine.down()
}

const LARGE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: large}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: "busybox:1.36"
    command:
    - sh
    - -c
    - |
      for part in 0 1 2; do
        echo part $part
        until [ -e /part$part ]; do sleep 0.05; done
        seq 1 250000
      done
      until [ -e /end ]; do sleep 0.05; done
      echo end
"#;
/// Lines of a part, which take more than 10 MiB.
const LINES: u32 = 250_000;

/// A log of 10 MiB is put aside, the one before is compressed, and who follows sees every line.
pub(crate) fn logs_are_put_aside(outside: &Outside) -> anyhow::Result<()> {
    let engine = Engine::start(outside)?;
    apply(&engine, LARGE)?;
    ready(&engine, "large")?;
    let logs = Directory::watch(&log_directory(&engine, "large")?)?;
    let mut follower = Follower::start(outside, &engine)?;
    for part in 0..3_usize {
        follower.expect(&format!("part {part}"))?;
        engine.kubectl(["exec", "large", "--", "touch", &format!("/part{part}")])?;
        for line in 1..=LINES {
            follower.expect(&line.to_string())?;
        }
        // One more put aside: all but the newest are compressed.
        logs.until(|names| {
            let [active, aside @ ..] = names else {
                return false;
            };
            let packed = aside.iter().filter(|name| name.ends_with(".gz")).count();
            active == "0.log" && aside.len() == part + 1 && packed == part
        })?;
    }
    engine.try_kubectl(["exec", "large", "--", "touch", "/end"])?;
    follower.expect("end")?;
    follower.expect_end()?;
    let shown = engine.kubectl(["logs", "large", "--tail=1"])?;
    ensure!(shown == "end\n", "{shown}");
    // With the Pod all of it goes.
    let pods = Directory::watch(&engine.root().join("state/log/pods"))?;
    engine.kubectl(["delete", "pod", "large"])?;
    pods.until(<[String]>::is_empty)?;
    engine.down()
}

/// `kubectl logs -f`, whose lines a thread reads.
struct Follower {
    process: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(outside: &Outside, engine: &Engine) -> anyhow::Result<Follower> {
        let mut process = Command::new(&outside.kubectl)
            .arg("--kubeconfig")
            .arg(engine.kubeconfig())
            .args(["logs", "-f", "large"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start kubectl")?;
        let stdout = process.stdout.take().context("hear kubectl")?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more when the test has failed.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Follower { process, lines })
    }

    fn expect(&self, wanted: &str) -> anyhow::Result<()> {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.with_context(|| format!("wait for {wanted:?}"))?;
        ensure!(line == wanted, "{line:?} instead of {wanted:?}");
        Ok(())
    }

    fn expect_end(&mut self) -> anyhow::Result<()> {
        let more = self.lines.recv_timeout(PATIENCE);
        ensure!(more == Err(RecvTimeoutError::Disconnected), "{more:?}");
        ensure!(self.process.wait()?.success());
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It has ended by itself unless the test failed.
        let killed = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = killed {
            eprintln!("kubectl logs did not end: {error}");
        }
    }
}

fn apply(engine: &Engine, manifest: &str) -> anyhow::Result<()> {
    let file = engine.root().join("pod.yaml");
    std::fs::write(&file, manifest)?;
    engine
        .kubectl(["apply", "-f", &file.to_string_lossy()])
        .map(drop)
}

/// Waits until a field of the status of a Pod's container is this.
fn wait(engine: &Engine, pod: &str, field: &str, value: &str) -> anyhow::Result<()> {
    let until = format!("--for=jsonpath={{.status.containerStatuses[0].{field}}}={value}");
    let pod = format!("pod/{pod}");
    engine
        .kubectl(["wait", &until, &pod, "--timeout=60s"])
        .map(drop)
}

fn ready(engine: &Engine, pod: &str) -> anyhow::Result<()> {
    let pod = format!("pod/{pod}");
    engine
        .kubectl(["wait", "--for=condition=Ready", &pod, "--timeout=60s"])
        .map(drop)
}

/// Where the logs of a Pod's only container are.
fn log_directory(engine: &Engine, pod: &str) -> anyhow::Result<PathBuf> {
    let pods = engine.root().join("state/log/pods");
    let prefix = format!("default_{pod}_");
    let mut found = std::fs::read_dir(pods)?.flatten();
    let found = found.find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    Ok(found.context("no logs")?.path().join("app"))
}

/// Where the records of the only Pod are.
fn record_directory(engine: &Engine) -> anyhow::Result<PathBuf> {
    let sandboxes = std::fs::read_dir(engine.root().join("state/runtime"))?.flatten();
    let mut found = sandboxes.filter(|entry| entry.path().join("sandbox.json").exists());
    Ok(found.next().context("no sandbox")?.path())
}
