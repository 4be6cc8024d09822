//! In-place resize: limits change under a program that runs on, or that is restarted because it wants to be; a full node lets it
//! wait; and an engine that is killed loses none of it.

use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::user::User;

use crate::Scenario;
use crate::restart::kill;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("resize::in_place", in_place),
    ("resize::with_a_restart", with_a_restart),
    ("resize::refused", refused),
];

const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: side
    image: "busybox:1.36"
    restartPolicy: Always
    command: [sleep, "3600"]
    resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: 50m, memory: 32Mi}}
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sleep, "3600"]
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {cpu: 20m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}
"#;

/// Prints the quota and the memory limit that a container sees, on any kind of node.
const LIMITS: &str = "cd /sys/fs/cgroup; if [ -e memory.max ]; then read -r q _ < cpu.max; read -r m < memory.max; \
    else read -r q < cpu/cpu.cfs_quota_us; read -r m < memory/memory.limit_in_bytes; fi; echo $q $m";

/// A patch of one container's resources.
fn patch(list: &str, name: &str, resources: &str) -> String {
    format!(r#"{{"spec":{{"{list}":[{{"name":"{name}","resources":{resources}}}]}}}}"#)
}

fn resize(user: &User, patch: &str) -> anyhow::Result<()> {
    let said = user.run(&["patch", "pod", "p", "--subresource", "resize", "-p", patch])?;
    ensure!(said == "pod/p patched\n", "{said}");
    Ok(())
}

/// Waits until a field of the Pod's status has a value.
fn wait(user: &User, path: &str, value: &str) -> anyhow::Result<()> {
    wait_in(user.engine(), user.namespace(), "p", path, value)
}

fn wait_in(
    engine: &Engine,
    namespace: &str,
    pod: &str,
    path: &str,
    value: &str,
) -> anyhow::Result<()> {
    let condition = format!("--for=jsonpath={{.status.{path}}}={value}");
    let pod = format!("pod/{pod}");
    let words = ["-n", namespace, "wait", &condition, &pod, "--timeout=60s"];
    engine.kubectl(words).map(drop)
}

fn sees(user: &User, container: &str, limits: &str) -> anyhow::Result<()> {
    let seen = user.run(&["exec", "p", "-c", container, "--", "sh", "-c", LIMITS])?;
    ensure!(seen.trim() == limits, "{container} sees {seen}");
    Ok(())
}

fn in_place(user: &User) -> anyhow::Result<()> {
    user.apply(MANIFEST)?;
    user.wait("p", "Running", "2/2")?;
    sees(user, "app", &format!("10000 {}", 64 << 20))?;
    let before = user.pod("p")?;
    resize(
        user,
        &patch(
            "containers",
            "app",
            r#"{"requests":{"cpu":"30m"},"limits":{"cpu":"200m"}}"#,
        ),
    )?;
    wait(user, "containerStatuses[0].resources.limits.cpu", "200m")?;
    sees(user, "app", &format!("20000 {}", 64 << 20))?;
    resize(
        user,
        &patch(
            "initContainers",
            "side",
            r#"{"limits":{"memory":"24Mi","cpu":"60m"}}"#,
        ),
    )?;
    wait(
        user,
        "initContainerStatuses[0].resources.limits.memory",
        "24Mi",
    )?;
    wait(user, "observedGeneration", "3")?;
    sees(user, "side", &format!("6000 {}", 24 << 20))?;
    user.wait_event(
        "Normal ResizeStarted p: Pod resize started: {\"initContainers\":[{\"name\":\"side\"",
    )?;
    user.wait_event(
        "Normal ResizeCompleted p: Pod resize completed: {\"initContainers\":[{\"name\":\"side\"",
    )?;
    let after = user.pod("p")?;
    for list in ["initContainerStatuses", "containerStatuses"] {
        let id = |pod: &serde_json::Value| pod["status"][list][0]["containerID"].clone();
        ensure!(id(&before) == id(&after), "{list} were restarted");
    }
    let status = &after["status"];
    let allocated = &status["containerStatuses"][0]["allocatedResources"];
    ensure!(
        *allocated == serde_json::json!({"cpu": "30m", "memory": "16Mi"}),
        "{allocated}"
    );
    let whole = serde_json::json!({"limits": {"cpu": "260m", "memory": "88Mi"}, "requests": {"cpu": "40m", "memory": "24Mi"}});
    ensure!(status["resources"] == whole, "{}", status["resources"]);
    Ok(())
}

fn with_a_restart(user: &User) -> anyhow::Result<()> {
    user.apply(MANIFEST)?;
    user.wait("p", "Running", "2/2")?;
    resize(
        user,
        &patch(
            "containers",
            "app",
            r#"{"requests":{"memory":"32Mi"},"limits":{"memory":"96Mi"}}"#,
        ),
    )?;
    user.wait_event("Normal Killing p: Container app resize requires restart")?;
    wait(user, "containerStatuses[0].restartCount", "1")?;
    wait(user, "containerStatuses[0].resources.limits.memory", "96Mi")?;
    user.wait_event("Normal ResizeCompleted p: ")?;
    sees(user, "app", &format!("10000 {}", 96 << 20))?;
    let rows = user.rows("p");
    ensure!(!rows.iter().any(|row| row.contains("Error")), "{rows:?}");
    ensure!(user.pod("p")?["status"]["initContainerStatuses"][0]["restartCount"] == 0);
    Ok(())
}

fn refused(user: &User) -> anyhow::Result<()> {
    user.apply(MANIFEST)?;
    user.wait("p", "Running", "2/2")?;
    let fails = |kind: &str, patch: &str, why: &str| {
        let words = [
            "patch",
            "pod",
            "p",
            "--subresource",
            "resize",
            "--type",
            kind,
            "-p",
            patch,
        ];
        let failure = user.fails(&words)?;
        ensure!(failure.stderr.contains(why), "{failure:?}");
        Ok(())
    };
    fails(
        "json",
        r#"[{"op":"remove","path":"/spec/containers/0/resources/limits"}]"#,
        "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
    )?;
    fails(
        "strategic",
        &patch(
            "containers",
            "app",
            r#"{"limits":{"ephemeral-storage":"1Gi"}}"#,
        ),
        "spec: Forbidden: only cpu and memory resources are mutable",
    )?;
    fails(
        "strategic",
        &patch(
            "containers",
            "app",
            r#"{"requests":{"cpu":"9999"},"limits":{"cpu":"9999"}}"#,
        ),
        "node didn't have enough allocatable resources: cpu, requested: 9999010, allocatable: ",
    )?;
    // Below what is used it is accepted, and cannot be had.
    resize(
        user,
        &patch(
            "initContainers",
            "side",
            r#"{"requests":{"memory":"1Ki"},"limits":{"memory":"4Ki"}}"#,
        ),
    )?;
    user.wait_event("Warning ResizeError p: Pod resize error: ")?;
    let reason = "conditions[?(@.type==\"PodResizeInProgress\")].reason";
    wait(user, reason, "Error")?;
    resize(
        user,
        &patch(
            "initContainers",
            "side",
            r#"{"requests":{"memory":"8Mi"},"limits":{"memory":"32Mi"}}"#,
        ),
    )?;
    user.wait_event("Normal ResizeCompleted p: ")?;
    sees(user, "side", &format!("5000 {}", 32 << 20))
}

const TWO: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: big}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"], resources: {requests: {cpu: BIG}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: small}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"], resources: {requests: {cpu: 10m}, limits: {memory: 64Mi}}}]
"#;

/// A resize waits for room, and engines that are killed forget neither what waits nor what was granted.
pub(crate) fn survives(outside: &Outside) -> anyhow::Result<()> {
    let engine = Arc::new(Engine::start(outside)?);
    let cpus = engine.kubectl([
        "get",
        "nodes",
        "-o",
        "jsonpath={.items[0].status.allocatable.cpu}",
    ])?;
    let cpus: u64 = cpus.parse().context("the node's processors")?;
    // More than half of the node, and never a whole number of processors.
    let big = format!("{}m", cpus * 600 + 1);
    let manifest = engine.root().join("two.yaml");
    std::fs::write(&manifest, TWO.replace("BIG", &big))?;
    let manifest = manifest.to_string_lossy().into_owned();
    engine.kubectl(["apply", "-f", &manifest])?;
    engine.kubectl([
        "wait",
        "--for=condition=Ready",
        "pod/big",
        "pod/small",
        "--timeout=60s",
    ])?;
    let patch = |resources: &str| {
        let patch = patch("containers", "c", resources);
        let words = [
            "patch",
            "pod",
            "small",
            "--subresource",
            "resize",
            "-p",
            &patch,
        ];
        engine.kubectl(words).map(drop)
    };
    for limit in ["80Mi", "96Mi", "72Mi"] {
        patch(&format!(r#"{{"limits":{{"memory":"{limit}"}}}}"#))?;
        kill(&engine)?;
        engine.up()?;
        wait_in(
            &engine,
            "default",
            "small",
            "containerStatuses[0].resources.limits.memory",
            limit,
        )?;
    }
    let seen = engine.kubectl(["exec", "small", "--", "sh", "-c", LIMITS])?;
    ensure!(seen.trim().ends_with(&format!(" {}", 72 << 20)), "{seen}");

    patch(&format!(r#"{{"requests":{{"cpu":"{big}"}}}}"#))?;
    let pending = "conditions[?(@.type==\"PodResizePending\")].reason";
    wait_in(&engine, "default", "small", pending, "Deferred")?;
    kill(&engine)?;
    engine.up()?;
    let text = engine.kubectl(["get", "pod", "small", "-o", "json"])?;
    let small: serde_json::Value = serde_json::from_str(&text)?;
    let conditions = small["status"]["conditions"]
        .as_array()
        .context("conditions")?;
    let pending = conditions.iter().find(|c| c["type"] == "PodResizePending");
    let message = pending.context("it is not pending any more")?["message"].clone();
    let (want, has) = (cpus * 600 + 1, cpus * 1000);
    let why = format!(
        "Node didn't have enough resource: cpu, requested: {want}, used: {want}, capacity: {has}"
    );
    ensure!(message == why, "{message}");
    let status = &small["status"]["containerStatuses"][0];
    ensure!(
        status["allocatedResources"]["cpu"] == "10m" && status["restartCount"] == 0,
        "{status}"
    );

    engine.kubectl(["delete", "pod", "big"])?;
    wait_in(
        &engine,
        "default",
        "small",
        "containerStatuses[0].allocatedResources.cpu",
        &big,
    )?;
    engine.kubectl(["delete", "pod", "small"])?;
    Arc::into_inner(engine)
        .context("the engine is still held")?
        .down()
}
