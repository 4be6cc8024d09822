//! Who has to leave a node that is tainted.

use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: leaves, finalizers: [example.com/seen]}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: leaves-later}
spec:
  terminationGracePeriodSeconds: 0
  tolerations: [{key: example.com/out, operator: Exists, effect: NoExecute, tolerationSeconds: 1}]
  containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: is-spared}
spec:
  terminationGracePeriodSeconds: 0
  tolerations: [{key: example.com/out, operator: Exists, effect: NoExecute, tolerationSeconds: 3600}]
  containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: stays}
spec:
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers: [{name: c, image: "busybox:1.36", command: [sleep, "3600"]}]
"#;

/// Pods leave at once, later, or not at all; one that waits is spared when the taint goes.
pub(crate) fn evict(outside: &Outside) -> anyhow::Result<()> {
    let engine = Arc::new(Engine::start(outside)?);
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let kubectl = Program::Kubectl(outside.kubectl.clone());
    let user = User::new(engine.clone(), kubectl, "tainted", runtime)?;
    user.apply(PODS)?;
    for pod in ["leaves", "leaves-later", "is-spared", "stays"] {
        user.wait(pod, "Running", "1/1")?;
    }
    let node = user.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    user.run(&["taint", "nodes", &node, "example.com/out=now:NoExecute"])?;
    for pod in ["leaves", "leaves-later"] {
        let told = "Marking for deletion Pod tainted";
        user.wait_event(&format!("Normal TaintManagerEviction {pod}: {told}/{pod}"))?;
    }
    user.wait_gone("leaves-later")?;
    // Its finalizer lets it be seen.
    let is_told =
        "--for=jsonpath={.status.conditions[?(@.type==\"DisruptionTarget\")].status}=True";
    user.run(&["wait", is_told, "pod/leaves", "--timeout=60s"])?;
    let leaves = user.pod("leaves")?;
    let conditions = leaves["status"]["conditions"].as_array();
    let target = conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "DisruptionTarget");
    let reason = target.map(|c| (&c["reason"], &c["message"]));
    let (reason, message) = reason.context("no condition")?;
    ensure!(
        reason == "DeletionByTaintManager"
            && message == "Taint manager: deleting due to NoExecute taint",
        "{leaves}"
    );
    user.run(&[
        "patch",
        "pod",
        "leaves",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    user.wait_gone("leaves")?;
    user.run(&["taint", "nodes", &node, "example.com/out-"])?;
    user.wait_event(
        "Normal TaintManagerEviction is-spared: Cancelling deletion of Pod tainted/is-spared",
    )?;
    for pod in ["is-spared", "stays"] {
        ensure!(
            user.rows(pod)
                .last()
                .is_some_and(|row| row == "1/1 Running 0"),
            "{pod}"
        );
    }
    drop(user);
    Arc::into_inner(engine)
        .context("the engine is still held")?
        .down()
}
