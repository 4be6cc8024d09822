//! Several nodes: an engine, and a node of its cluster on the other end of a cable.

use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::lan::Lan;
use e2e::user::{Program, User};

use crate::exposed::own_port;
use crate::restart::kill;

/// The engine, whose user this is, and the other node.
struct Cluster {
    user: User,
    node: Engine,
    lan: Lan,
}

/// A cluster with a node named `second`.
fn cluster(outside: &Outside) -> anyhow::Result<Cluster> {
    let lan = Lan::lay()?;
    let mut engine = Engine::prepare(outside)?;
    engine.listen_at(&format!("{}:{}", lan.address(), own_port()));
    engine.settings("nodeName: first\n")?;
    engine.up()?;
    let engine = Arc::new(engine);
    let there = Outside {
        registry: lan.registry(&outside.registry)?,
        ..outside.clone()
    };
    let mut node = Engine::prepare(&there)?;
    node.settings("nodeName: second\n")?;
    node.join(&engine.kubeconfig(), lan.namespace());
    node.up()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let kubectl = Program::Kubectl(outside.kubectl.clone());
    let user = User::new(engine, kubectl, "nodes", Arc::new(runtime))?;
    Ok(Cluster { user, node, lan })
}

impl Cluster {
    /// Ends both, and proves that nothing is left of either.
    fn down(self) -> anyhow::Result<()> {
        let Cluster { user, node, lan } = self;
        let engine = user.shared_engine();
        drop(user);
        let ended = node.down();
        let engine = Arc::into_inner(engine).context("the engine is still held")?;
        let both = ended.and(engine.down());
        drop(lan);
        both
    }
}

/// A Pod that says hello and then sleeps.
fn pod(name: &str, node: &str) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: app, image: "busybox:1.36", command: [sh, -c, "echo hello from $NODE; exec sleep 3600"], env: [{{name: NODE, value: {node}}}]}}
"#
    )
}

const EVERYWHERE: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"]}]
"#;

/// One Pod on each node at most.
const APART: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: apart}
spec:
  replicas: 2
  selector: {matchLabels: {app: apart}}
  template:
    metadata: {labels: {app: apart}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}]}}
      containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"]}]
"#;

/// What an object of the cluster says.
fn get(user: &User, object: &[&str], path: &str) -> anyhow::Result<String> {
    let path = format!("jsonpath={{{path}}}");
    user.run(&[&["get"], object, &["-o", &path]].concat())
}

/// The nodes on which Pods with this label run, in order.
fn nodes_of(user: &User, app: &str) -> anyhow::Result<Vec<String>> {
    let label = format!("app={app}");
    let nodes = get(user, &["pods", "-l", &label], ".items[*].spec.nodeName")?;
    let mut nodes: Vec<String> = nodes.split(' ').map(str::to_owned).collect();
    nodes.sort();
    Ok(nodes)
}

/// A node joins from elsewhere with nothing but a kubeconfig, and runs what is placed there.
pub(crate) fn join(outside: &Outside) -> anyhow::Result<()> {
    let cluster = cluster(outside)?;
    let played = joins(&cluster);
    let ended = cluster.down();
    played.and(ended)
}

fn joins(cluster: &Cluster) -> anyhow::Result<()> {
    let user = &cluster.user;
    user.run(&[
        "wait",
        "--for=condition=Ready",
        "nodes",
        "--all",
        "--timeout=60s",
    ])?;
    let nodes = get(user, &["nodes"], ".items[*].metadata.name")?;
    ensure!(nodes == "first second", "{nodes}");
    let address = ".status.addresses[?(@.type==\"InternalIP\")].address";
    let addresses = [
        get(user, &["node", "first"], address)?,
        get(user, &["node", "second"], address)?,
    ];
    ensure!(
        addresses == [cluster.lan.address(), cluster.lan.other()],
        "{addresses:?}"
    );
    let names = get(user, &["csr"], ".items[*].spec.username")?;
    let states = get(user, &["csr"], ".items[*].status.conditions[*].type")?;
    ensure!(
        (&*names, &*states) == ("kubernetes-admin", "Approved"),
        "{names}: {states}"
    );
    user.apply(&(pod("here", "first") + &pod("there", "second")))?;
    user.wait("here", "Running", "1/1")?;
    user.wait("there", "Running", "1/1")?;
    user.apply(EVERYWHERE)?;
    user.run(&["rollout", "status", "daemonset/everywhere", "--timeout=60s"])?;
    user.apply(APART)?;
    user.run(&["rollout", "status", "deployment/apart", "--timeout=60s"])?;
    for app in ["everywhere", "apart"] {
        let nodes = nodes_of(user, app)?;
        ensure!(nodes == ["first", "second"], "{app}: {nodes:?}");
    }
    // Killed, it finds its Pods again, with the certificate it has.
    kill(&cluster.node)?;
    cluster.node.up()?;
    user.run(&[
        "wait",
        "--for=condition=Ready",
        "node/second",
        "--timeout=60s",
    ])?;
    let restarts = get(
        user,
        &["pod", "there"],
        ".status.containerStatuses[0].restartCount",
    )?;
    ensure!(restarts == "0", "restarted {restarts} times");
    let requests = get(user, &["csr"], ".items[*].metadata.name")?;
    ensure!(!requests.contains(' '), "{requests}");
    user.run(&["delete", "pod", "there"])?;
    user.wait_gone("there")
}
