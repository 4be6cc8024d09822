//! Priority classes: Pods are worth what their class says.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "priority::classes_are_made_and_shown",
        classes_are_made_and_shown,
    ),
    ("priority::bad_classes_are_refused", bad_classes_are_refused),
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
