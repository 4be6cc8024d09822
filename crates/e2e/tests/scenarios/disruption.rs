//! Disruption budgets: what they allow is counted, and evictions ask them.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("disruption::budgets_are_shown", budgets_are_shown),
    (
        "disruption::shares_are_of_deployments",
        shares_are_of_deployments,
    ),
    (
        "disruption::bad_budgets_are_refused",
        bad_budgets_are_refused,
    ),
];

/// With verbs that stock kubectl alone has.
pub(crate) const KUBECTL: &[(&str, Scenario)] =
    &[("disruption::evictions_ask_budgets", evictions_ask_budgets)];

/// A spec and what the refusal must say.
const MISTAKES: &[(&str, &str)] = &[
    (
        "{minAvailable: 1, maxUnavailable: 1}",
        r#"spec: Invalid value: {"MinAvailable":1,"Selector":null,"MaxUnavailable":1,"UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set"#,
    ),
    (
        "{minAvailable: -1}",
        "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "{maxUnavailable: 120%}",
        r#"spec.maxUnavailable: Invalid value: "120%": must not be greater than 100%"#,
    ),
    (
        "{maxUnavailable: 1, unhealthyPodEvictionPolicy: Never}",
        r#"spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget""#,
    ),
];

/// Two Pods, labelled as their namespace is named, and a budget that keeps one.
fn guarded(user: &User) -> anyhow::Result<()> {
    let app = user.namespace();
    let pod = |name: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: "busybox:1.36", command: [sleep, "3600"]}}]
---"#
        )
    };
    let budget = format!(
        r#"
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web}}
spec: {{minAvailable: 1, selector: {{matchLabels: {{app: {app}}}}}}}
"#
    );
    user.apply(&format!("{}{}{budget}", pod("a"), pod("b")))?;
    for pod in ["a", "b"] {
        user.wait(pod, "Running", "1/1")?;
    }
    wait_for(user, "disruptionsAllowed", 1)
}

fn wait_for(user: &User, count: &str, number: u8) -> anyhow::Result<()> {
    let condition = format!("--for=jsonpath={{.status.{count}}}={number}");
    let wait = ["wait", &condition, "pdb/web", "--timeout=60s"];
    let whole = ["-n", user.namespace()].into_iter().chain(wait);
    user.engine().kubectl(whole).map(drop)
}

fn budgets_are_shown(user: &User) -> anyhow::Result<()> {
    guarded(user)?;
    let table = user.run(&["get", "pdb"])?;
    let mut rows = table.lines();
    let head = rows.next().unwrap_or_default();
    let row: Vec<&str> = rows.next().unwrap_or_default().split_whitespace().collect();
    ensure!(
        head == "NAME   MIN AVAILABLE   MAX UNAVAILABLE   ALLOWED DISRUPTIONS   AGE"
            && row.get(..4) == Some(&["web", "1", "N/A", "1"]),
        "{table}"
    );
    let namespace = user.namespace();
    let described = user.run(&["describe", "pdb", "web"])?;
    let expected = format!(
        "\
Name:           web
Namespace:      {namespace}
Min available:  1
Selector:       app={namespace}
Status:
    Allowed disruptions:  1
    Current:              2
    Desired:              1
    Total:                2
"
    );
    // Events follow: the budget may have been counted before its Pods came.
    ensure!(described.starts_with(&expected), "{described}");
    let stock = [
        "-n",
        namespace,
        "describe",
        "pdb",
        "web",
        "--show-events=false",
    ];
    let stock = user.engine().kubectl(stock)?;
    let ours = user.run(&["describe", "pdb", "web", "--show-events=false"])?;
    ensure!(ours == stock, "{ours}\nis not\n{stock}");
    Ok(())
}

fn shares_are_of_deployments(user: &User) -> anyhow::Result<()> {
    let manifest = |replicas: u8| {
        format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, image: "busybox:1.36", command: [sleep, "3600"]}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web}}
spec: {{maxUnavailable: 50%, selector: {{matchLabels: {{app: web}}}}}}
"#
        )
    };
    user.apply(&manifest(2))?;
    wait_for(user, "disruptionsAllowed", 1)?;
    user.apply(&manifest(4))?;
    wait_for(user, "expectedPods", 4)?;
    wait_for(user, "disruptionsAllowed", 2)
}

fn bad_budgets_are_refused(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("budget.yaml");
    let path = file.to_string_lossy();
    for (spec, words) in MISTAKES {
        let budget = format!(
            "{{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {{name: web}}, spec: {spec}}}"
        );
        std::fs::write(&file, budget)?;
        let refused = user.fails(&["apply", "-f", &path])?;
        let said = format!("The PodDisruptionBudget \"web\" is invalid: {words}");
        ensure!(
            refused.code == 1 && refused.stderr.contains(&said),
            "{spec}\nwas refused with {refused:?}"
        );
    }
    ensure!(
        user.run(&["get", "pdb", "-o", "name"])?.is_empty(),
        "nothing was made"
    );
    Ok(())
}

fn evictions_ask_budgets(user: &User) -> anyhow::Result<()> {
    guarded(user)?;
    let namespace = user.namespace();
    // A dry run asks for both, and takes nothing.
    let node = user.run(&["get", "pod", "a", "-o", "jsonpath={.spec.nodeName}"])?;
    let ours = format!("--pod-selector=app={namespace}");
    let drained = user.run(&["drain", &node, "--dry-run=server", "--force", &ours])?;
    ensure!(drained.contains("drained (server dry run)"), "{drained}");
    wait_for(user, "disruptionsAllowed", 1)?;

    let eviction = |pod: &str| {
        format!(r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}"}}}}"#)
    };
    let path = |pod: &str| format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
    user.pipe(&["create", "--raw", &path("a"), "-f", "-"], &eviction("a"))?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("eviction.json");
    std::fs::write(&file, eviction("b"))?;
    let file = file.to_string_lossy();
    let refused = user.fails(&["create", "--raw", &path("b"), "-f", &file])?;
    let words = "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget.";
    ensure!(refused.stderr.contains(words), "{refused:?}");
    user.wait_gone("a")?;
    wait_for(user, "expectedPods", 1)?;
    wait_for(user, "currentHealthy", 1)?;
    let refused = user.fails(&["create", "--raw", &path("b"), "-f", &file])?;
    ensure!(refused.stderr.contains(words), "{refused:?}");
    ensure!(user.pod("b")?["metadata"]["deletionTimestamp"].is_null());

    user.run(&[
        "patch",
        "pdb",
        "web",
        "--type=merge",
        "-p",
        r#"{"spec":{"minAvailable":0}}"#,
    ])?;
    wait_for(user, "disruptionsAllowed", 1)?;
    user.run(&["create", "--raw", &path("b"), "-f", &file])?;
    user.wait_gone("b")
}
