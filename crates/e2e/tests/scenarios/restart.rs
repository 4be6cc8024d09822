//! The engine ends, in order or by SIGKILL, and comes back: containers and logs go on, nothing runs twice, nothing is lost.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User};

const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: out, emptyDir: {}}]
  initContainers:
  - {name: init, image: "busybox:1.36", command: [sh, -c, "echo ran >> /out/runs"], volumeMounts: [{name: out, mountPath: /out}]}
  - {name: side, image: "busybox:1.36", restartPolicy: Always, command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.1; done"]}
  containers:
  - {name: counts, image: "busybox:1.36", command: [sh, -c, "i=0; until [ -e /out/stop ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 5"], volumeMounts: [{name: out, mountPath: /out}]}
"#;

/// Ends the engine in order and by force while a Pod runs and while one ends.
pub(crate) fn survives(outside: &Outside) -> anyhow::Result<()> {
    let engine = Arc::new(Engine::start(outside)?);
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let kubectl = Program::Kubectl(outside.kubectl.clone());
    let before = {
        let user = User::new(engine.clone(), kubectl.clone(), "steady", runtime.clone())?;
        user.apply(MANIFEST)?;
        user.wait("steady", "Running", "2/2")?;
        let before = ids(&user.pod("steady")?);
        engine.stop()?;
        user.leave();
        before
    };
    for _ in 0..3 {
        engine.up()?;
        kill(&engine)?;
    }
    engine.up()?;
    let get = |arguments: &[&str]| engine.kubectl([&["-n", "steady"], arguments].concat());
    let pod: serde_json::Value =
        serde_json::from_str(&get(&["get", "pod", "steady", "-o", "json"])?)?;
    ensure!(ids(&pod) == before, "containers go on as they were");
    ensure!(
        get(&["exec", "steady", "-c", "counts", "--", "cat", "/out/runs"])? == "ran\n",
        "the init container ran once"
    );

    // The container ends while no engine is there to see it.
    let pid = container_process(&engine)?;
    kill(&engine)?;
    std::fs::write(format!("/proc/{pid}/root/out/stop"), "")?;
    wait_for_end(pid)?;
    engine.up()?;
    get(&[
        "wait",
        "--for=jsonpath={.status.phase}=Failed",
        "pod/steady",
        "--timeout=30s",
    ])?;
    let code = get(&[
        "get",
        "pod",
        "steady",
        "-o",
        "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}",
    ])?;
    ensure!(code == "5", "the exit code is {code:?}");
    let log = get(&["logs", "steady", "-c", "counts"])?;
    let numbers: Vec<u64> = log.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(
        !numbers.is_empty() && numbers.iter().copied().eq(1..=numbers.len() as u64),
        "log lines are missing"
    );
    Arc::into_inner(engine)
        .context("the engine is still held")?
        .down()
}

fn ids(pod: &serde_json::Value) -> Vec<String> {
    let lists = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| pod["status"][*list].as_array().into_iter().flatten());
    lists
        .map(|status| format!("{}{}", status["containerID"], status["restartCount"]))
        .collect()
}

pub(crate) fn kill(engine: &Engine) -> anyhow::Result<()> {
    let pid = engine.pid()?;
    ensure!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()?
            .success()
    );
    wait_for_end(pid)
}

/// The counting container's process, found by its cgroups, which bear the container's id.
fn container_process(engine: &Engine) -> anyhow::Result<u32> {
    let said = engine.kubectl([
        "-n",
        "steady",
        "get",
        "pod",
        "steady",
        "-o",
        "jsonpath={.status.containerStatuses[0].containerID}",
    ])?;
    let id = said.strip_prefix("carob://").context("no container id")?;
    let processes = std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let mut inside = processes.filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(id))
    });
    inside
        .next()
        .context("no process is in the container's cgroup")
}

/// Waits for the end of a process that is not a child of ours, by a descriptor that becomes readable then.
fn wait_for_end(pid: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no process id")?;
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return Ok(());
    };
    let mut ended = [rustix::event::PollFd::new(
        &process,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec::try_from(Duration::from_secs(20))?;
    ensure!(
        rustix::event::poll(&mut ended, Some(&limit))? == 1,
        "the process does not end"
    );
    Ok(())
}
