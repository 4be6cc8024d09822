//! What the node itself ends for the sake of others.

use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::directory::Directory;
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User};
use serde_json::Value;

/// Runs a scenario with stock kubectl, in a namespace of an engine.
fn with_engine(
    outside: &Outside,
    engine: Engine,
    scenario: fn(&User) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let engine = Arc::new(engine);
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let kubectl = Program::Kubectl(outside.kubectl.clone());
    let user = User::new(engine.clone(), kubectl, "pressed", runtime)?;
    scenario(&user)?;
    drop(user);
    Arc::into_inner(engine)
        .context("the engine is still held")?
        .down()
}

/// Waits for a Pod's end and looks at what is said of it.
fn ended(user: &User, pod: &str, reason: &str) -> anyhow::Result<Value> {
    user.wait_phase(pod, "Failed")?;
    let status = user.pod(pod)?["status"].clone();
    ensure!(status["reason"] == reason, "{pod}: {status:#}");
    Ok(status)
}

/// The reason and the message of condition `DisruptionTarget`.
fn disruption(status: &Value) -> (&str, &str) {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let target = conditions.find(|c| c["type"] == "DisruptionTarget" && c["status"] == "True");
    let text = |field: &str| target.and_then(|c| c[field].as_str()).unwrap_or_default();
    (text("reason"), text("message"))
}

/// A critical Pod that finds too little left takes the place of one that is less important.
pub(crate) fn critical_pods_make_room(outside: &Outside) -> anyhow::Result<()> {
    with_engine(outside, Engine::start(outside)?, make_room)
}

fn make_room(user: &User) -> anyhow::Result<()> {
    let node = ["get", "nodes", "-o"];
    let of_node = |path: &str| user.run(&[&node[..], &[path]].concat());
    let name = of_node("jsonpath={.items[0].metadata.name}")?;
    let cpus: u32 = of_node("jsonpath={.items[0].status.allocatable.cpu}")?.parse()?;
    let pod = |pod: &str, class: &str, millis: u32| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {pod}}}
spec:
  nodeName: {name}
  priorityClassName: "{class}"
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: c, image: "busybox:1.36", command: [sleep, "3600"], resources: {{requests: {{cpu: {millis}m}}}}}}
---"#
        )
    };
    let most = cpus * 1000 - 400;
    user.apply(&format!(
        "{}{}",
        pod("small", "", 200),
        pod("large", "", most)
    ))?;
    for pod in ["small", "large"] {
        user.wait(pod, "Running", "1/1")?;
    }
    user.apply(&pod("critical", "system-cluster-critical", most))?;
    let status = ended(user, "large", "Preempting")?;
    let message = "Preempted in order to admit critical pod";
    ensure!(status["message"] == message, "{status:#}");
    let why = "Pod was preempted by Kubelet to accommodate a critical pod.";
    ensure!(
        disruption(&status) == ("TerminationByKubelet", why),
        "{status:#}"
    );
    user.wait_event(&format!("Warning Preempting large: {message}"))?;
    user.wait("critical", "Running", "1/1")?;
    let small = user.rows("small");
    ensure!(
        small.last().is_some_and(|row| row == "1/1 Running 0"),
        "{small:?}"
    );
    // Who is as important as who is there finds no room.
    user.apply(&pod("late", "system-cluster-critical", most))?;
    let status = ended(user, "late", "UnexpectedAdmissionError")?;
    let message = status["message"].as_str().unwrap_or_default();
    let words = "Pod was rejected: Unexpected error while attempting to recover from admission failure: preemption: error finding a set of \
                 pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: ";
    ensure!(message.starts_with(words), "{message}");
    Ok(())
}

/// A node with less memory than it must have left ends Pods and takes in few.
pub(crate) fn memory_runs_out(outside: &Outside) -> anyhow::Result<()> {
    let engine = start_with(outside, "evictionHard: {memory.available: 1Pi}\n")?;
    with_engine(outside, engine, run_out)
}

/// Starts an engine whose settings say this as well.
fn start_with(outside: &Outside, more: &str) -> anyhow::Result<Engine> {
    let engine = Engine::prepare(outside)?;
    let config = engine.root().join("config.yaml");
    let settings = std::fs::read_to_string(&config)?;
    std::fs::write(&config, settings + more)?;
    engine.up()?;
    Ok(engine)
}

/// A node with less room on its disk than it must have left removes the images that no Pod needs.
pub(crate) fn unused_images_go_first(outside: &Outside) -> anyhow::Result<()> {
    let more = "evictionSoft: {imagefs.available: 1Ei}\nevictionSoftGracePeriod: {imagefs.available: 1s}\n";
    with_engine(outside, start_with(outside, more)?, images_go)
}

fn images_go(user: &User) -> anyhow::Result<()> {
    let engine = user.engine();
    // Layers go once the image is not listed any more.
    let layers = Directory::watch(&engine.root().join("state/images/layers"))?;
    let names = || engine.carob(["image", "ls"]);
    engine.carob(["image", "pull", "alpine:3.20"])?;
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: critical}
spec:
  priorityClassName: system-node-critical
  tolerations: [{operator: Exists}]
  containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"]}]
"#,
    )?;
    user.wait("critical", "Running", "1/1")?;
    layers.until(|_| names().is_ok_and(|names| !names.contains("library/alpine")))?;
    let left = names()?;
    ensure!(left.contains("library/busybox"), "{left}");
    let events = user.run(&["get", "events", "-n", "default"])?;
    let told = "Attempting to reclaim ephemeral-storage";
    ensure!(events.contains(told), "{events}");
    let rows = user.rows("critical");
    ensure!(
        rows.last().is_some_and(|row| row == "1/1 Running 0"),
        "{rows:?}"
    );
    Ok(())
}

fn run_out(user: &User) -> anyhow::Result<()> {
    let node = user.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let node_is = |path: &str| {
        let condition = format!("--for=jsonpath={{{path}");
        let object = format!("node/{node}");
        user.run(&["wait", &condition, &object, "--timeout=60s"])
            .map(drop)
    };
    node_is(
        ".status.conditions[?(@.type==\"MemoryPressure\")].reason}=KubeletHasInsufficientMemory",
    )?;
    node_is(".spec.taints[?(@.key==\"node.kubernetes.io/memory-pressure\")].effect}=NoSchedule")?;
    let pod = |pod: &str, more: &str, resources: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {pod}}}
spec:
  {more}
  containers:
  - {{name: c, image: "busybox:1.36", command: [sleep, "3600"], resources: {{{resources}}}}}
---"#
        )
    };
    let bound = format!("nodeName: {node}");
    let critical = format!("{bound}\n  priorityClassName: system-node-critical");
    user.apply(&pod("critical", &critical, ""))?;
    user.wait("critical", "Running", "1/1")?;

    user.apply(&pod("modest", &bound, "requests: {memory: 1Mi}"))?;
    let status = ended(user, "modest", "Evicted")?;
    let message = status["message"].as_str().unwrap_or_default();
    let words = "The node was low on resource: memory. Threshold quantity: 1Pi, available: ";
    ensure!(message.starts_with(words), "{status:#}");
    ensure!(
        disruption(&status) == ("TerminationByKubelet", message),
        "{status:#}"
    );
    user.wait_event(&format!("Warning Evicted modest: {words}"))?;

    user.apply(&pod("refused", &bound, ""))?;
    let status = ended(user, "refused", "Evicted")?;
    let words = "The node had condition: [MemoryPressure]. ";
    ensure!(
        status["message"] == format!("Pod was rejected: {words}"),
        "{status:#}"
    );
    user.wait_event(&format!("Warning Evicted refused: {words}"))?;

    user.apply(&pod("waits", "restartPolicy: Never", ""))?;
    user.wait_event(
        "Warning FailedScheduling waits: 0/1 nodes are available: 1 node(s) had untolerated taint",
    )?;
    user.wait("waits", "Pending", "0/1")?;
    let rows = user.rows("critical");
    ensure!(
        rows.last().is_some_and(|row| row == "1/1 Running 0"),
        "{rows:?}"
    );
    Ok(())
}
