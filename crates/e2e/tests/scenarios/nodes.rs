//! Several nodes: an engine, and a node of its cluster on the other end of a cable.

use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User};
use lan::Lan;

use crate::exposed::own_port;
use crate::restart::kill;
use crate::services::until;
use crate::shared::http_get;
use crate::streams::forward;

/// The engine, whose user this is, and the other node.
struct Cluster {
    user: User,
    node: Engine,
    lan: Lan,
    /// Where Pods have their addresses, on the engine's node and on the other.
    ranges: String,
}

/// A cluster with a node named `second`.
fn cluster(outside: &Outside) -> anyhow::Result<Cluster> {
    let lan = Lan::lay()?;
    let mut engine = Engine::prepare(outside)?;
    engine.listen_at(&format!("{}:{}", lan.address(), own_port()));
    // Ranges that no other engine of this machine asks for, nor is given.
    let n = std::process::id() % 100 * 2;
    let ranges = [n, n + 1].map(|n| format!("10.253.{n}.0/24"));
    engine.settings(&format!("nodeName: first\npodRange: {}\n", ranges[0]))?;
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
    Ok(Cluster {
        user,
        node,
        lan,
        ranges: ranges.join(" "),
    })
}

impl Cluster {
    /// Ends both, and proves that nothing is left of either.
    fn down(self) -> anyhow::Result<()> {
        let Cluster {
            user, node, lan, ..
        } = self;
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

/// A Pod that answers with its node's name and the address it was asked from.
fn web(node: &str) -> String {
    let answer = format!("#!/bin/sh\\necho\\necho {node} $REMOTE_ADDR\\n");
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: web-{node}, labels: {{app: web}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "mkdir /tmp/cgi-bin; printf '{answer}' > /tmp/cgi-bin/who; chmod +x /tmp/cgi-bin/who; exec httpd -f -p 8080 -h /tmp"]
    ports: [{{name: http, containerPort: 8080}}]
    readinessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 1}}
"#
    )
}

const SERVICES: &str = r#"
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {internalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"#;

/// Friends only.
const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]
"#;

/// What a command says in a Pod of its own on a node, and the address it said that from; the Pod has this label and is gone afterwards.
fn say(user: &User, node: &str, app: &str, command: &str) -> anyhow::Result<(String, String)> {
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: says, labels: {{app: {app}}}}}
spec:
  nodeName: {node}
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{{name: app, image: "busybox:1.36", command: [sh, -c, "({command}) > /dev/termination-log 2>&1; true"]}}]
"#
    ))?;
    user.run(&[
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        "pod/says",
        "--timeout=60s",
    ])?;
    let said = ".status.containerStatuses[0].state.terminated.message";
    let said = get(user, &["pod", "says"], said)?;
    // As it is shown by who listens at addresses of both families.
    let said = said
        .replace("[::ffff:", "")
        .replace(']', "")
        .trim()
        .to_owned();
    let ip = user.pod_ip("says")?;
    user.run(&["delete", "pod", "says"])?;
    Ok((said, ip))
}

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
    let played = joins(&cluster)
        .and_then(|()| pods_reach_each_other(&cluster))
        .and_then(|()| is_talked_to(&cluster))
        .and_then(|()| survives_a_kill(&cluster))
        .and_then(|()| is_missed(&cluster))
        .and_then(|()| registers_again(&cluster));
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
    Ok(())
}

/// From each node to a Pod of the other: by address, by Service and by name, and what policies have to say of it.
fn pods_reach_each_other(cluster: &Cluster) -> anyhow::Result<()> {
    let user = &cluster.user;
    let ranges = get(user, &["nodes"], ".items[*].spec.podCIDR")?;
    ensure!(ranges == cluster.ranges, "{ranges}");
    user.apply(&(web("first") + &web("second") + SERVICES))?;
    for web in ["web-first", "web-second"] {
        user.wait(web, "Running", "1/1")?;
    }
    let who = |end: &str| format!("timeout 3 wget -qO- http://{end}/cgi-bin/who || echo closed");
    for (from, to) in [("first", "second"), ("second", "first")] {
        let end = format!("{}:8080", user.pod_ip(&format!("web-{to}"))?);
        let (said, ip) = say(user, from, "guest", &who(&end))?;
        ensure!(said == format!("{to} {ip}"), "{from} {to}: {said}");
        let often = format!("for n in $(seq 20); do {}; done | sort -u", who("web"));
        let (said, ip) = say(user, from, "guest", &often)?;
        ensure!(said == format!("first {ip}\nsecond {ip}"), "{from}: {said}");
        let often = format!("for n in $(seq 9); do {}; done | sort -u", who("near"));
        let (said, ip) = say(user, from, "guest", &often)?;
        ensure!(said == format!("{from} {ip}"), "{from}: {said}");
        let api = "nc -w 5 kubernetes.default.svc.cluster.local 443 < /dev/null && echo open";
        let (said, _) = say(user, from, "guest", api)?;
        ensure!(said == "open", "{from}: {said}");
    }
    user.apply(POLICY)?;
    for (from, to) in [("first", "second"), ("second", "first")] {
        let end = format!("{}:8080", user.pod_ip(&format!("web-{to}"))?);
        until("strangers are kept out", || {
            Ok(say(user, from, "guest", &who(&end))?.0.ends_with("closed"))
        })?;
        let (said, ip) = say(user, from, "friend", &who(&end))?;
        ensure!(said == format!("{to} {ip}"), "{from} {to}: {said}");
    }
    user.run(&["delete", "networkpolicy", "friends"]).map(drop)
}

/// Repeats what it is told, once.
const ECHO: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  nodeName: second
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "busybox:1.36", command: [cat], stdin: true, stdinOnce: true}]
"#;

/// What goes between a user and a Pod goes to the other node as well.
fn is_talked_to(cluster: &Cluster) -> anyhow::Result<()> {
    let user = &cluster.user;
    let said = user.run(&["logs", "there"])?;
    ensure!(said == "hello from second\n", "{said}");
    let said = user.run(&["exec", "there", "--", "hostname"])?;
    ensure!(said == "there\n", "{said}");
    let said = user.pipe(&["exec", "-i", "there", "--", "wc", "-c"], "four")?;
    ensure!(said.trim() == "4", "{said}");
    let failed = user.fails(&["exec", "there", "--", "sh", "-c", "exit 7"])?;
    ensure!(failed.code == 7, "{failed:?}");
    user.apply(ECHO)?;
    user.wait("echo", "Running", "1/1")?;
    let said = user.pipe(&["attach", "-i", "echo"], "hello\n")?;
    ensure!(said.contains("hello\n"), "{said}");
    let file = cluster.node.root().join("page");
    std::fs::write(&file, "a page\n")?;
    let file = file.display().to_string();
    user.run(&["cp", &file, "there:/tmp/page"])?;
    let said = user.run(&["exec", "there", "--", "cat", "/tmp/page"])?;
    ensure!(said == "a page\n", "{said}");
    let (client, port) = forward(user, "pod/web-second", "8080")?;
    let page = http_get("127.0.0.1", port, "/cgi-bin/who")?;
    ensure!(page.contains("second "), "{page}");
    drop(client);
    until("its Pods' usage is known", || {
        let top = user.command(&["top", "pod", "there"]).output()?;
        Ok(top.status.success() && String::from_utf8_lossy(&top.stdout).contains("there"))
    })
}

/// Killed, it finds its Pods again, with the certificate and the range it has.
fn survives_a_kill(cluster: &Cluster) -> anyhow::Result<()> {
    let user = &cluster.user;
    kill(&cluster.node)?;
    cluster.node.up()?;
    user.run(&[
        "wait",
        "--for=condition=Ready",
        "node/second",
        "--timeout=60s",
    ])?;
    let restarts = ".status.containerStatuses[0].restartCount";
    let restarts = get(user, &["pod", "there"], restarts)?;
    ensure!(restarts == "0", "restarted {restarts} times");
    let requests = get(user, &["csr"], ".items[*].metadata.name")?;
    ensure!(!requests.contains(' '), "{requests}");
    Ok(())
}

/// Stays for a moment where nothing is heard of a node.
const LEAVES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: leaves}
spec:
  nodeName: second
  terminationGracePeriodSeconds: 1
  tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}]
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"]}]
"#;

/// A node that has gone is found missing, its Pods are not ready and leave in their time; when it comes back, those that stayed go on.
fn is_missed(cluster: &Cluster) -> anyhow::Result<()> {
    let user = &cluster.user;
    user.apply(LEAVES)?;
    user.wait("leaves", "Running", "1/1")?;
    cluster.node.stop()?;
    let is_ready = |condition: &str| format!("--for=condition=Ready={condition}");
    user.run(&["wait", &is_ready("Unknown"), "node/second", "--timeout=90s"])?;
    user.run(&["wait", &is_ready("False"), "pod/there", "--timeout=30s"])?;
    user.wait("leaves", "Terminating", "1/1")?;
    let taints = get(user, &["node", "second"], ".spec.taints[*].effect")?;
    ensure!(taints == "NoSchedule NoExecute", "{taints}");
    let why = ".status.conditions[?(@.type==\"Ready\")].reason";
    let why = get(user, &["node", "second"], why)?;
    ensure!(why == "NodeStatusUnknown", "{why}");
    cluster.node.up()?;
    user.run(&["wait", &is_ready("True"), "node/second", "--timeout=60s"])?;
    user.run(&["wait", &is_ready("True"), "pod/there", "--timeout=30s"])?;
    user.wait_gone("leaves")?;
    let restarts = ".status.containerStatuses[0].restartCount";
    let restarts = get(user, &["pod", "there"], restarts)?;
    ensure!(restarts == "0", "restarted {restarts} times");
    until("nothing keeps Pods away", || {
        Ok(get(user, &["node", "second"], ".spec.taints")?.is_empty())
    })
}

/// A Node that is deleted while its agent is there comes back, with its range.
fn registers_again(cluster: &Cluster) -> anyhow::Result<()> {
    let user = &cluster.user;
    let uid = || get(user, &["nodes"], ".items[1].metadata.uid");
    let before = uid()?;
    user.run(&["delete", "node", "second"])?;
    until("it is there again", || {
        let now = uid()?;
        Ok(!now.is_empty() && now != before)
    })?;
    user.run(&[
        "wait",
        "--for=condition=Ready",
        "node/second",
        "--timeout=60s",
    ])?;
    let ranges = get(user, &["nodes"], ".items[*].spec.podCIDR")?;
    ensure!(ranges == cluster.ranges, "{ranges}");
    user.run(&["delete", "pod", "there"])?;
    user.wait_gone("there")
}
