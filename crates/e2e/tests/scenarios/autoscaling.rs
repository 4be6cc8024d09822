//! Autoscalers: as many Pods as what they use asks for.

use anyhow::{Context, ensure};
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[(
    "autoscaling::bad_autoscalers_are_refused",
    bad_autoscalers_are_refused,
)];

/// With verbs that stock kubectl alone has.
pub(crate) const KUBECTL: &[(&str, Scenario)] =
    &[("autoscaling::load_makes_pods", load_makes_pods)];

/// A Pod of it uses twice the processor it asks for until its file is removed.
const BUSY: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: spin
        image: busybox:1.36
        command: [sh, -c, "touch /busy; while [ -e /busy ]; do :; done; sleep 3600"]
        resources: {requests: {cpu: 20m}, limits: {cpu: 40m}}
"#;

const AT_ONCE: &str = r#"{"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}"#;

fn wait_for(user: &User, object: &str, field: &str, value: &str) -> anyhow::Result<()> {
    let condition = format!("--for=jsonpath={{{field}}}={value}");
    let wait = ["wait", &condition, object, "--timeout=90s"];
    let whole = ["-n", user.namespace()].into_iter().chain(wait);
    user.engine().kubectl(whole).map(drop)
}

/// Up to the most when its Pods are busy, and down to the least when they are not.
fn load_makes_pods(user: &User) -> anyhow::Result<()> {
    user.apply(BUSY)?;
    let said = user.run(&[
        "autoscale",
        "deployment",
        "web",
        "--min=1",
        "--max=3",
        "--cpu-percent=50",
    ])?;
    ensure!(
        said == "horizontalpodautoscaler.autoscaling/web autoscaled\n",
        "{said}"
    );
    user.run(&["patch", "hpa", "web", "--type=merge", "-p", AT_ONCE])?;
    user.wait_event(
        "Normal SuccessfulRescale web: New size: 3; reason: cpu resource utilization (percentage of request) above target",
    )?;
    wait_for(user, "deployment/web", ".status.readyReplicas", "3")?;
    wait_for(user, "hpa/web", ".status.currentReplicas", "3")?;
    shown(user)?;
    let pods = user.run(&["get", "pods", "-l", "app=web", "-o", "name"])?;
    for pod in pods.lines() {
        user.run(&["exec", pod, "--", "rm", "/busy"])?;
    }
    user.wait_event("Normal SuccessfulRescale web: New size: 1; reason: All metrics below target")?;
    wait_for(user, "deployment/web", ".status.replicas", "1")
}

fn shown(user: &User) -> anyhow::Result<()> {
    let table = user.run(&["get", "hpa"])?;
    let row = table.lines().nth(1).context("no row")?;
    let cells: Vec<&str> = row.split_whitespace().collect();
    let of_target = cells[3].ends_with("%/50%");
    ensure!(
        cells[..3] == ["web", "Deployment/web", "cpu:"]
            && of_target
            && cells[4..7] == ["1", "3", "3"],
        "{table}"
    );
    let described = user.run(&["describe", "hpa", "web"])?;
    for text in [
        "resource cpu on pods  (as a percentage of request):",
        "ValidMetricFound",
        "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)",
    ] {
        ensure!(described.contains(text), "no {text:?} in {described}");
    }
    let target = ["-o", "jsonpath={.spec.targetCPUUtilizationPercentage}"];
    let old = [
        &["get", "horizontalpodautoscalers.v1.autoscaling", "web"][..],
        &target,
    ]
    .concat();
    let old = user.run(&old)?;
    ensure!(old == "50", "{old}");
    Ok(())
}

/// What a spec adds, and what the refusal must say.
const MISTAKES: &[(&str, &str)] = &[
    (
        "minReplicas: 5",
        "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
    ),
    (
        "minReplicas: 0",
        "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
    ),
    (
        "metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization}}}]",
        "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
    ),
    (
        "behavior: {scaleUp: {stabilizationWindowSeconds: 3601}}",
        "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
    ),
];

fn bad_autoscalers_are_refused(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("autoscaler.yaml");
    let path = file.to_string_lossy();
    for (mistake, expected) in MISTAKES {
        let manifest = format!(
            "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: web}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}
  maxReplicas: 3
  {mistake}
"
        );
        std::fs::write(&file, manifest)?;
        let failed = user.fails(&["apply", "-f", &path])?;
        ensure!(failed.stderr.contains(expected), "{mistake}: {failed:?}");
    }
    Ok(())
}
