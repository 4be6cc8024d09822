//! Quotas and limits: what a namespace may have, what its Pods are given that ask for nothing, and that there is room again once
//! something goes.

use anyhow::ensure;
use e2e::user::User;
use serde_json::Value;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("quotas::keep_within_and_follow", keep_within_and_follow),
    ("quotas::hold_workloads_back", hold_workloads_back),
    ("quotas::limits_fill_in_and_bound", limits_fill_in_and_bound),
];

fn pod(name: &str, command: &str, cpu: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "{command}"]
    resources: {{requests: {{cpu: {cpu}}}}}
"#
    )
}

/// Used and hard of a resource, once it has been counted.
fn amounts(resource: &'static str) -> impl Fn(&Value) -> String {
    move |quota| {
        let of = |list: &str| {
            quota["status"][list][resource]
                .as_str()
                .unwrap_or("?")
                .to_owned()
        };
        format!("{}/{}", of("used"), of("hard"))
    }
}

/// A Pod `two` is not made, and why.
fn refused(user: &User, manifest: &str, why: &str) -> anyhow::Result<()> {
    let made = user.pipe(&["apply", "-f", "-"], manifest);
    let told = made.map_or_else(|error| format!("{error:#}"), |told| told);
    let why = format!("pods \"two\" is forbidden: {why}");
    ensure!(told.contains(&why), "{told}");
    Ok(())
}

fn keep_within_and_follow(user: &User) -> anyhow::Result<()> {
    let flags = ["create", "quota", "q", "--hard=pods=2,requests.cpu=1"];
    let told = user.run(&flags)?;
    ensure!(told == "resourcequota/q created\n", "{told}");
    let again = user.fails(&flags)?;
    let exists = "failed to create quota: resourcequotas \"q\" already exists";
    ensure!(again.stderr.contains(exists), "{again:?}");
    let mut quotas = user.watch("/api/v1", "resourcequotas");
    quotas.until("0/1", amounts("requests.cpu"))?;
    user.apply(&pod("one", "sleep 3600", "600m"))?;
    let shown = user.run(&["get", "quota"])?;
    ensure!(shown.contains("pods: 1/2, requests.cpu: 600m/1"), "{shown}");
    let silent = pod("two", "true", "500m").replace("resources: {requests: {cpu: 500m}}", "");
    refused(
        user,
        &silent,
        "failed quota: q: must specify requests.cpu for: app",
    )?;
    refused(
        user,
        &pod("two", "true", "500m"),
        "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1",
    )?;
    user.apply(&pod("two", "true", "400m"))?;
    // A Pod that is over does not count.
    quotas.until("600m/1", amounts("requests.cpu"))?;
    user.run(&["delete", "pod", "one"])?;
    quotas.until("0/1", amounts("requests.cpu"))?;
    for words in [
        ["describe", "quota", "q"],
        ["describe", "namespace", user.namespace()],
    ] {
        let (ours, stock) = (
            user.run(&words)?,
            user.engine()
                .kubectl(["-n", user.namespace(), words[0], words[1], words[2]])?,
        );
        ensure!(ours == stock, "{ours}\nis not\n{stock}");
        ensure!(ours.contains("requests.cpu  0     1"), "{ours}");
    }
    Ok(())
}

fn hold_workloads_back(user: &User) -> anyhow::Result<()> {
    user.run(&[
        "create",
        "quota",
        "q",
        "--hard=count/replicasets.apps=5,pods=1",
    ])?;
    let mut quotas = user.watch("/api/v1", "resourcequotas");
    quotas.until("0/1", amounts("pods"))?;
    user.run(&[
        "create",
        "deployment",
        "web",
        "--image=busybox:1.36",
        "--replicas=2",
        "--",
        "sleep",
        "3600",
    ])?;
    user.wait_event("Warning FailedCreate web-")?;
    let mut deployments = user.watch("/apis/apps/v1", "deployments");
    deployments.until("ReplicaFailure FailedCreate", |deployment| {
        let conditions = deployment["status"]["conditions"].as_array();
        let failure = conditions
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "ReplicaFailure");
        failure.map_or(String::new(), |c| {
            format!(
                "ReplicaFailure {}",
                c["reason"].as_str().unwrap_or_default()
            )
        })
    })?;
    quotas.until("1/5", amounts("count/replicasets.apps"))?;
    user.run(&[
        "patch",
        "quota",
        "q",
        "-p",
        r#"{"spec":{"hard":{"pods":"2"}}}"#,
    ])?;
    quotas.until("2/2", amounts("pods"))?;
    user.run(&["delete", "deployment", "web"])?;
    quotas.until("0/2", amounts("pods"))
}

fn limits_fill_in_and_bound(user: &User) -> anyhow::Result<()> {
    user.apply(
        "
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec:
  limits:
  - {type: Container, max: {cpu: 500m}, defaultRequest: {memory: 16Mi}, default: {memory: 64Mi}}
",
    )?;
    let bare = pod("bare", "sleep 3600", "100m");
    user.apply(&bare)?;
    let made = user.pod("bare")?;
    let resources = serde_json::json!({"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
    let found = &made["spec"]["containers"][0]["resources"];
    ensure!(found == &resources, "{found}");
    // Applying it again changes nothing.
    let told = user.apply(&bare)?;
    ensure!(told == "pod/bare unchanged\n", "{told}");
    let large = user.pipe(&["apply", "-f", "-"], &pod("large", "true", "600m"));
    let told = large.map_or_else(|error| format!("{error:#}"), |told| told);
    let why = "must be less than or equal to cpu limit of 500m";
    ensure!(
        told.contains("Pod \"large\" is invalid") && told.contains(why),
        "{told}"
    );
    let words = ["describe", "limits", "l"];
    let stock = user
        .engine()
        .kubectl(["-n", user.namespace(), words[0], words[1], words[2]])?;
    let ours = user.run(&words)?;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // Upstream's rows come in an order of chance.
        lines.sort();
        lines
    };
    ensure!(sorted(&ours) == sorted(&stock), "{ours}\nis not\n{stock}");
    let shown = user.run(&["get", "limits"])?;
    let head: Vec<&str> = shown
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(head == ["NAME", "CREATED", "AT"], "{shown}");
    Ok(())
}
