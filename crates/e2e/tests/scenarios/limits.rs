//! Requests and limits: cgroups, classes, and what happens at the limit.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("limits::become_the_cgroups", become_the_cgroups),
    ("limits::out_of_memory", out_of_memory),
    ("limits::too_much_cpu", too_much_cpu),
    ("limits::top", top),
    ("limits::too_large_for_the_node", too_large_for_the_node),
    ("limits::too_much_disk", too_much_disk),
];

/// Reads a limit where this machine's controllers are: of version 2, or of version 1.
fn limit(v2: &str, v1: &str) -> String {
    format!("cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}")
}

fn become_the_cgroups(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: guaranteed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"], resources: {limits: {cpu: 250m, memory: 64Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: burstable}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"], resources: {requests: {cpu: 100m}, limits: {memory: 32Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: best-effort}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"]}
"#,
    )?;
    for (pod, class) in [
        ("guaranteed", "Guaranteed"),
        ("burstable", "Burstable"),
        ("best-effort", "BestEffort"),
    ] {
        user.wait(pod, "Running", "1/1")?;
        let shown = user.run(&["get", "pod", pod, "-o", "jsonpath={.status.qosClass}"])?;
        ensure!(shown == class, "{pod}: {shown}");
    }
    let shell = |pod: &str, script: &str| user.run(&["exec", pod, "--", "sh", "-c", script]);
    let memory = limit("memory.max", "memory/memory.limit_in_bytes");
    ensure!(shell("guaranteed", &memory)? == "67108864\n");
    ensure!(shell("burstable", &memory)? == "33554432\n");
    let quota = shell("guaranteed", &limit("cpu.max", "cpu/cpu.cfs_quota_us"))?;
    ensure!(quota == "25000 100000\n" || quota == "25000\n", "{quota}");
    let quota = shell("burstable", &limit("cpu.max", "cpu/cpu.cfs_quota_us"))?;
    ensure!(quota == "max 100000\n" || quota == "-1\n", "{quota}");
    // A weight of 4 is 102 shares, which are 0.1 of a processor.
    let weight = shell("burstable", &limit("cpu.weight", "cpu/cpu.shares"))?;
    ensure!(weight == "102\n" || weight.len() < 4, "{weight}");
    let score = shell("guaranteed", "cat /proc/1/oom_score_adj")?;
    let best_effort = shell("best-effort", "cat /proc/1/oom_score_adj")?;
    ensure!(best_effort == "1000\n" && score != best_effort, "{score}");
    Ok(())
}

fn out_of_memory(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - {name: app, image: "busybox:1.36", command: [tail, /dev/zero], resources: {limits: {memory: 24Mi}}}
"#,
    )?;
    user.wait("greedy", "OOMKilled", "0/1")?;
    let terminated = "jsonpath={.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}";
    let shown = user.run(&["get", "pod", "greedy", "-o", terminated])?;
    ensure!(shown == "OOMKilled 137", "{shown}");
    let described = user.run(&["describe", "pod", "greedy"])?;
    for line in ["Reason:       OOMKilled", "Exit Code:    137"] {
        ensure!(described.contains(line), "{described}");
    }
    Ok(())
}

fn too_much_cpu(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: busy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"], resources: {limits: {cpu: 50m}}}
"#,
    )?;
    user.wait("busy", "Running", "1/1")?;
    // Many times the 5 ms that each tenth of a second may have.
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.stat";
    let stat = user.run(&["exec", "busy", "--", "sh", "-c", script])?;
    let throttled = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    ensure!(throttled.is_some_and(|count| count != "0"), "{stat}");
    Ok(())
}

/// What the scheduler leaves waiting, the node refuses when it was bound past the scheduler.
fn too_large_for_the_node(user: &User) -> anyhow::Result<()> {
    let node = user.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let manifest = r#"
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"], resources: {requests: {cpu: 10k}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: refused}
spec:
  nodeName: NODE
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"], resources: {requests: {cpu: 10k}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere}
spec:
  nodeName: NODE
  nodeSelector: {example.com/disk: fast}
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"]}]
"#;
    user.apply(&manifest.replace("NODE", &node))?;
    user.wait("refused", "OutOfcpu", "0/1")?;
    let why = "Node didn't have enough resource: cpu, requested: 10000000, used: ";
    user.wait_event(&format!("Warning OutOfcpu refused: {why}"))?;
    let refused = user.pod("refused")?["status"].clone();
    let message = refused["message"].as_str().unwrap_or_default();
    let begins = message.starts_with(&format!("Pod was rejected: {why}"));
    ensure!(
        refused["phase"] == "Failed" && begins && refused["containerStatuses"].is_null(),
        "{refused}"
    );
    user.wait("elsewhere", "NodeAffinity", "0/1")?;
    user.wait_event(
        "Warning NodeAffinity elsewhere: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    )?;
    user.wait("waits", "Pending", "0/1")?;
    user.wait_event(
        "Warning FailedScheduling waits: 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    )
}

/// A row of `top`: the name, thousandths of a processor, MiB.
fn row(line: &str) -> Option<(&str, u64, u64)> {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let [name, cpu, memory] = cells[..] else {
        return None;
    };
    let figure = |cell: &str, unit: &str| cell.strip_suffix(unit)?.parse().ok();
    Some((name, figure(cpu, "m")?, figure(memory, "Mi")?))
}

fn top(user: &User) -> anyhow::Result<()> {
    let none = user.run(&["top", "pod"])?;
    ensure!(none.is_empty(), "{none}");
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: spinner, labels: {app: spinner}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: spin, image: "busybox:1.36", command: [sh, -c, "while :; do :; done"], resources: {limits: {cpu: 200m}}}
  - {name: rest, image: "busybox:1.36", command: [sleep, "3600"]}
---
apiVersion: v1
kind: Pod
metadata: {name: ended}
spec:
  restartPolicy: Never
  containers:
  - {name: app, image: "busybox:1.36", command: ["true"]}
"#,
    )?;
    user.wait("spinner", "Running", "2/2")?;
    user.wait("ended", "Completed", "0/1")?;
    let shown = user.run(&["top", "pod"])?;
    let lines: Vec<&str> = shown.lines().collect();
    ensure!(lines.len() == 2, "{shown}");
    ensure!(
        lines[0] == "NAME      CPU(cores)   MEMORY(bytes)   ",
        "{shown}"
    );
    // It takes what it may, and never twice that: a window begins and ends within a period.
    let read = row(lines[1]);
    let fits = read.is_some_and(|(name, cpu, _)| name == "spinner" && (10..400).contains(&cpu));
    ensure!(fits, "{shown}");
    let selected = [
        "top",
        "pod",
        "--containers",
        "--no-headers",
        "-l",
        "app=spinner",
    ];
    let shown = user.run(&selected)?;
    let names: Vec<_> = shown.lines().map(|l| l.split_whitespace().nth(1)).collect();
    ensure!(names.len() == 2 && names.contains(&Some("rest")), "{shown}");
    let failed = user.fails(&["top", "pod", "ended"])?;
    ensure!(failed.code == 1, "{failed:?}");
    let failed = user.fails(&["top", "pod", "absent"])?;
    ensure!(
        failed.stderr.contains(r#"pods "absent" not found"#),
        "{failed:?}"
    );
    let node = user.run(&["top", "node"])?;
    let lines: Vec<&str> = node.lines().collect();
    ensure!(lines.len() == 2 && lines[0].starts_with("NAME "), "{node}");
    ensure!(lines[1].matches('%').count() == 2, "{node}");
    Ok(())
}

/// Who uses more of the node's disk than allowed has to go: by a volume, by a container's own files, by its log.
fn too_much_disk(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: volume}
spec:
  volumes: [{name: scratch, emptyDir: {sizeLimit: 1Mi}}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "head -c 3000000 /dev/urandom > /scratch/file; sleep 3600"]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
---
apiVersion: v1
kind: Pod
metadata: {name: files}
spec:
  containers:
  - name: modest
    image: busybox:1.36
    command: [sleep, "3600"]
    resources: {limits: {ephemeral-storage: 10Mi}}
  - name: app
    image: busybox:1.36
    command: [sh, -c, "head -c 3000000 /dev/urandom > /file; sleep 3600"]
    resources: {limits: {ephemeral-storage: 1Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: log}
spec:
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "head -c 1500000 /dev/urandom | base64; sleep 3600"]
    resources: {limits: {ephemeral-storage: 1Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  volumes: [{name: scratch, emptyDir: {sizeLimit: 10Mi}}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "head -c 3000000 /dev/urandom > /scratch/file; sleep 3600"]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
"#,
    )?;
    for (pod, why) in [
        (
            "volume",
            "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ",
        ),
        (
            "files",
            "Container app exceeded its local ephemeral storage limit \"1Mi\". ",
        ),
        (
            "log",
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
        ),
    ] {
        user.wait_phase(pod, "Failed")?;
        let shown = user.pod(pod)?;
        let status = &shown["status"];
        ensure!(
            status["reason"] == "Evicted" && status["message"] == why,
            "{pod}: {status:#}"
        );
        user.wait_event(&format!("Warning Evicted {pod}: {why}"))?;
    }
    // It was measured as often as the others.
    user.wait("modest", "Running", "1/1")
}
