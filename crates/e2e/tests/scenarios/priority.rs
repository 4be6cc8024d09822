//! Priority classes: Pods are worth what their class says.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;
use crate::exposed::own_port;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "priority::classes_are_made_and_shown",
        classes_are_made_and_shown,
    ),
    ("priority::bad_classes_are_refused", bad_classes_are_refused),
    (
        "priority::the_important_take_the_place_of_others",
        the_important_take_the_place_of_others,
    ),
    ("priority::neighbours_are_minded", neighbours_are_minded),
];

/// Name, value and policy of a class, and what the refusal must say.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "system-mine",
        "1",
        "Never",
        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not \
         a known system priority class",
    ),
    (
        "too-high",
        "1000000001",
        "Never",
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
    ),
    (
        "sometimes",
        "1",
        "Sometimes",
        r#"preemptionPolicy: Unsupported value: "Sometimes": supported values: "PreemptLowerPriority", "Never""#,
    ),
];

fn classes_are_made_and_shown(user: &User) -> anyhow::Result<()> {
    // Classes have no namespace.
    let name = format!("quiet-{}", user.namespace());
    let flags = [
        "create",
        "priorityclass",
        &name,
        "--value=-10",
        "--description=may wait",
        "--preemption-policy=Never",
    ];
    let told = user.run(&flags)?;
    let created = format!("priorityclass.scheduling.k8s.io/{name} created\n");
    ensure!(told == created, "{told}");
    let again = user.fails(&flags)?;
    let exists = format!(
        "failed to create priorityclass: priorityclasses.scheduling.k8s.io {name:?} already exists"
    );
    ensure!(again.stderr.contains(&exists), "{again:?}");

    let table = user.run(&["get", "pc"])?;
    let mut rows = table.lines();
    let head: Vec<&str> = rows.next().unwrap_or_default().split_whitespace().collect();
    ensure!(
        head == ["NAME", "VALUE", "GLOBAL-DEFAULT", "AGE", "PREEMPTIONPOLICY"],
        "{table}"
    );
    let wanted = [
        (
            "system-cluster-critical",
            "2000000000",
            "PreemptLowerPriority",
        ),
        ("system-node-critical", "2000001000", "PreemptLowerPriority"),
        (&name, "-10", "Never"),
    ];
    for (name, value, policy) in wanted {
        let mut cells = table
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        let found = cells.find(|cells| cells.first() == Some(&name));
        let found = found.unwrap_or_default();
        ensure!(
            found.len() == 5 && [found[1], found[2], found[4]] == [value, "false", policy],
            "{table}"
        );
    }
    for class in [name.as_str(), "system-node-critical"] {
        let describe = ["describe", "priorityclass", class];
        let (ours, stock) = (user.run(&describe)?, user.engine().kubectl(describe)?);
        ensure!(ours == stock, "{ours}\nis not\n{stock}");
    }

    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: quiet}}
spec:
  priorityClassName: {name}
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: "busybox:1.36", command: [sleep, "3600"]}}]
"#
    ))?;
    let spec = user.pod("quiet")?["spec"].clone();
    ensure!(
        spec["priority"] == -10 && spec["preemptionPolicy"] == "Never",
        "{spec}"
    );
    let described = user.run(&["describe", "pod", "quiet"])?;
    let class = format!("Priority Class Name:  {name}");
    ensure!(described.contains(&class), "{described}");
    user.run(&["delete", "priorityclass", &name]).map(drop)
}

fn bad_classes_are_refused(user: &User) -> anyhow::Result<()> {
    for (name, value, policy, words) in MISTAKES {
        let value = format!("--value={value}");
        let policy = format!("--preemption-policy={policy}");
        let refused = user.fails(&["create", "priorityclass", name, &value, &policy])?;
        let said = format!("PriorityClass.scheduling.k8s.io {name:?} is invalid: {words}");
        ensure!(
            refused.code == 1 && refused.stderr.contains(&said),
            "{name}: {refused:?}"
        );
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("pod.yaml");
    std::fs::write(
        &file,
        "{apiVersion: v1, kind: Pod, metadata: {name: lost}, spec: {priorityClassName: none, containers: [{name: c, image: i}]}}",
    )?;
    let refused = user.fails(&["apply", "-f", &file.to_string_lossy()])?;
    let said = "pods \"lost\" is forbidden: no PriorityClass with name none was found";
    ensure!(refused.stderr.contains(said), "{refused:?}");
    Ok(())
}

const PORTS: &str = "node(s) didn't have free ports for the requested pod ports";

fn the_important_take_the_place_of_others(user: &User) -> anyhow::Result<()> {
    let class = format!("urgent-{}", user.namespace());
    user.run(&["create", "priorityclass", &class, "--value=1000"])?;
    // What they contend for is a port of the machine, which no other scenario wants.
    let port = own_port();
    let pod = |name: &str, class: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  priorityClassName: "{class}"
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: main, image: "busybox:1.36", command: [sleep, "3600"], ports: [{{containerPort: 80, hostPort: {port}}}]}}
"#
        )
    };
    user.apply(&pod("low", ""))?;
    user.wait("low", "Running", "1/1")?;
    let mut watch = user.watch("/api/v1", "pods");
    user.apply(&pod("high", &class))?;
    watch.until("low leaves: PreemptionByScheduler", |pod| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let mut disruption = conditions.filter(|c| c["type"] == "DisruptionTarget");
        let reason = disruption.next().and_then(|c| c["reason"].as_str());
        let is_leaving = !pod["metadata"]["deletionTimestamp"].is_null();
        let leaves = if is_leaving { "leaves" } else { "is there" };
        format!(
            "{} {leaves}: {}",
            pod["metadata"]["name"].as_str().unwrap_or_default(),
            reason.unwrap_or_default()
        )
    })?;
    user.wait("high", "Running", "1/1")?;
    user.wait_gone("low")?;
    let high = user.pod("high")?;
    ensure!(high["status"]["nominatedNodeName"].is_null(), "{high}");
    let uid = high["metadata"]["uid"].as_str().unwrap_or_default();
    user.wait_event(&format!(
        "Normal Preempted low: Preempted by pod {uid} on node "
    ))?;
    let told = user.events()?;
    let refusals = told
        .iter()
        .filter(|line| line.contains(" FailedScheduling "));
    let refusals: Vec<&String> = refusals.collect();
    let refused = format!("Warning FailedScheduling high: 0/1 nodes are available: 1 {PORTS}.");
    // It may be tried again while the other leaves, when something else changes on the node.
    let all_alike = refusals.iter().all(|told| **told == refused);
    ensure!(!refusals.is_empty() && all_alike, "{told:?}");
    // Who is no more important waits, and says so.
    user.apply(&pod("late", &class))?;
    user.wait_event(&format!(
        "Warning FailedScheduling late: 0/1 nodes are available: 1 {PORTS}. no new claims to deallocate, preemption: 0/1 nodes are \
         available: 1 "
    ))?;
    user.run(&["delete", "pod", "high", "--wait=false"])?;
    user.wait("late", "Running", "1/1")?;
    user.run(&["delete", "priorityclass", &class]).map(drop)
}

fn neighbours_are_minded(user: &User) -> anyhow::Result<()> {
    let pod = |name: &str, kind: &str, other: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  affinity:
    {kind}:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {{topologyKey: kubernetes.io/hostname, labelSelector: {{matchLabels: {{app: {other}}}}}}}
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: "busybox:1.36", command: [sleep, "3600"]}}]
"#
        )
    };
    user.apply(&pod("friend", "podAffinity", "host"))?;
    user.wait_event(
        "Warning FailedScheduling friend: 0/1 nodes are available: 1 node(s) didn't match pod affinity rules. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    )?;
    user.apply(&pod("host", "podAntiAffinity", "stranger"))?;
    user.wait("host", "Running", "1/1")?;
    user.wait("friend", "Running", "1/1")?;
    user.apply(&pod("stranger", "podAffinity", "friend"))?;
    user.wait_event(
        "Warning FailedScheduling stranger: 0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
    )?;
    user.run(&["delete", "pod", "host"])?;
    user.wait("stranger", "Running", "1/1")
}
