//! Who may reach whom: NetworkPolicies as they come, change and go, tried by connections from Pod to Pod.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;
use crate::services::{page, until};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "policies::only_what_they_let_in_arrives",
        only_what_they_let_in_arrives,
    ),
    (
        "policies::only_what_they_let_out_leaves",
        only_what_they_let_out_leaves,
    ),
    (
        "policies::pods_are_bound_before_they_start",
        pods_are_bound_before_they_start,
    ),
];

const CLIENT: &str = r#"
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {role: client}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"]}]
"#;

fn policy(spec: &str) -> String {
    format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p}}
spec: {spec}
"#
    )
}

/// Whether a Pod of another namespace, or of this, gets a page.
fn gets(user: &User, namespace: &str, pod: &str, url: &str) -> bool {
    let ask = ["wget", "-q", "-O", "-", url];
    let arguments = [&["exec", "-n", namespace, pod, "--"], &ask[..]].concat();
    user.run(&arguments).is_ok()
}

/// What is asked of the API is carried out soon.
fn soon(what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    until(what, || Ok(is_so()))
}

fn ready(user: &User, pods: &[&str]) -> anyhow::Result<()> {
    pods.iter()
        .try_for_each(|pod| user.wait(pod, "Running", "1/1"))
}

fn only_what_they_let_in_arrives(user: &User) -> anyhow::Result<()> {
    let (here, there) = (user.namespace(), format!("{}-b", user.namespace()));
    user.apply(&(page("web") + CLIENT))?;
    user.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}}",
    )?;
    user.run(&["create", "namespace", &there])?;
    user.pipe(&["apply", "-n", &there, "-f", "-"], CLIENT)?;
    ready(user, &["web", "client"])?;
    let waits = ["wait", "-n", &there, "--for=condition=Ready", "pod/client"];
    user.run(&waits)?;
    let ip = user.pod_ip("web")?;
    let cluster_ip = user.run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let urls = [
        format!("http://{ip}:8080/name"),
        format!("http://{cluster_ip}/name"),
    ];
    let from = |namespace: &str| urls.iter().all(|url| gets(user, namespace, "client", url));
    let none = |namespace: &str| !urls.iter().any(|url| gets(user, namespace, "client", url));
    soon("all is open", || from(here) && from(&there))?;

    user.apply(&policy("{podSelector: {}, policyTypes: [Ingress]}"))?;
    let shown = user.run(&["get", "netpol", "p", "--no-headers"])?;
    ensure!(
        shown.starts_with("p") && shown.contains("<none>"),
        "{shown}"
    );
    soon("all is denied", || none(here) && none(&there))?;
    ensure!(
        crate::shared::http_get(&ip, 8080, "/name").is_ok(),
        "the node is always let in"
    );
    // Those that probe are of the node.
    ready(user, &["web"])?;

    user.apply(&policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}], ports: [{port: http}]}]}",
    ))?;
    soon("the client is let in, by the port's name", || from(here))?;
    ensure!(none(&there), "others are not");
    user.run(&["label", "pod", "client", "role=other", "--overwrite"])?;
    soon("by its label, which is another now", || none(here))?;

    user.apply(&policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}], ports: [{port: 8080}]}]}",
    ))?;
    ensure!(none(&there), "its namespace has no label yet");
    user.run(&["label", "namespace", &there, "team=b"])?;
    soon("let in by the namespace's label", || from(&there))?;
    user.apply(&policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 8081, endPort: 9000}]}]}",
    ))?;
    soon("another port", || none(&there))?;

    let described = user.run(&["describe", "networkpolicy", "p"])?;
    ensure!(
        described.contains("To Port Range: 8081-9000/TCP"),
        "{described}"
    );
    user.run(&["delete", "networkpolicy", "p"])?;
    soon("all is open again", || from(here) && from(&there))?;
    user.run(&["delete", "namespace", &there])?;
    Ok(())
}

fn only_what_they_let_out_leaves(user: &User) -> anyhow::Result<()> {
    user.apply(&(page("one") + &page("two") + CLIENT))?;
    ready(user, &["one", "two", "client"])?;
    let ips = [user.pod_ip("one")?, user.pod_ip("two")?];
    let urls = ips.each_ref().map(|ip| format!("http://{ip}:8080/name"));
    let reaches = |n: usize| gets(user, user.namespace(), "client", &urls[n]);
    soon("all is open", || reaches(0) && reaches(1))?;

    let all_but_two = format!(
        "{{podSelector: {{matchLabels: {{role: client}}}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [{}/32]}}}}]}}]}}",
        ips[1]
    );
    user.apply(&policy(&all_but_two))?;
    soon("the exception is denied", || !reaches(1))?;
    ensure!(reaches(0), "the rest is not");
    user.apply(&policy("{podSelector: {}, policyTypes: [Egress]}"))?;
    soon("nothing leaves", || !reaches(0) && !reaches(1))?;
    // Names are asked of the node, which is always reached.
    user.run(&[
        "exec",
        "client",
        "--",
        "nslookup",
        "kubernetes.default.svc.cluster.local",
    ])?;

    user.apply(&policy(
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 8080, protocol: UDP}]}]}",
    ))?;
    let listen = "nc -u -k -l 8080 < /dev/null > /tmp/heard 2> /dev/null &";
    user.run(&["exec", "one", "--", "sh", "-c", listen])?;
    let say = format!("echo hello | nc -u -w 1 {} 8080", ips[0]);
    let by_udp = || {
        // Whether it was said tells nothing; whether it was heard does.
        let _ = user.run(&["exec", "client", "--", "sh", "-c", &say]);
        let heard = ["exec", "one", "--", "grep", "-q", "hello", "/tmp/heard"];
        user.run(&heard).is_ok()
    };
    soon("datagrams leave", by_udp)?;
    ensure!(!reaches(0), "connections of TCP do not");
    user.run(&["delete", "netpol", "--all"])?;
    soon("all is open again", || reaches(0) && reaches(1))
}

fn pods_are_bound_before_they_start(user: &User) -> anyhow::Result<()> {
    user.apply(&page("web"))?;
    ready(user, &["web"])?;
    user.apply(&policy(
        "{podSelector: {matchLabels: {role: eager}}, policyTypes: [Egress]}",
    ))?;
    let ip = user.pod_ip("web")?;
    let ask = format!("wget -q -O - http://{ip}:8080/name");
    for name in ["free", "bound"] {
        let role = if name == "bound" { "eager" } else { "other" };
        let verdict = if name == "bound" {
            format!("! {ask}")
        } else {
            ask.clone()
        };
        user.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{role: {role}}}}}
spec:
  restartPolicy: Never
  containers: [{{name: app, image: "busybox:1.36", command: [sh, -c, "{verdict}"]}}]
"#
        ))?;
        user.wait_phase(name, "Succeeded")?;
    }
    Ok(())
}
