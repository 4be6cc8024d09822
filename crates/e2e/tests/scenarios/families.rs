//! Addresses of both families, and of IPv6 alone: Pods, Services and names, on engines of their own.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User};

use crate::exposed::own_port;
use crate::services::until;

/// Ranges that hardly another engine asks for, of both families or of IPv6 alone.
fn ranges(with_v4: bool) -> String {
    let n = 120 + std::process::id() % 50 * 2;
    let of = |n: u32, v4: &str, v6: &str| match with_v4 {
        true => format!("10.{n}.0.0/{v4},fd00:{n}::/{v6}"),
        false => format!("fd00:{n}:1::/{v6}"),
    };
    let (pods, services) = (of(n, "16", "64"), of(n + 1, "16", "112"));
    format!("podRange: {pods}\nserviceRange: {services}\n")
}

/// A page at port 8080 of every address, also at a port of the machine; and a client.
fn pods(host_port: u32) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: one, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "echo one $IPS $HOSTS > /tmp/name; exec httpd -f -p '[::]:8080' -h /tmp"]
    ports: [{{name: http, containerPort: 8080, hostPort: {host_port}}}]
    readinessProbe: {{httpGet: {{path: /name, port: http}}, periodSeconds: 1}}
    env:
    - {{name: IPS, valueFrom: {{fieldRef: {{fieldPath: status.podIPs}}}}}}
    - {{name: HOSTS, valueFrom: {{fieldRef: {{fieldPath: status.hostIPs}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: app, image: "busybox:1.36", command: [sleep, "3600"]}}]
"#
    )
}

fn service(policy: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, ipFamilyPolicy: {policy}, selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
"#
    )
}

const DENY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"#;

/// An engine with addresses of both families, and one with those of IPv6 alone.
pub(crate) fn are_served(outside: &Outside) -> anyhow::Result<()> {
    on_an_engine(outside, &ranges(true), both_families)?;
    on_an_engine(outside, &ranges(false), ipv6_alone)
}

fn on_an_engine(
    outside: &Outside,
    ranges: &str,
    scenario: fn(&User) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let engine = Engine::prepare(outside)?;
    let config = engine.root().join("config.yaml");
    fs::write(&config, fs::read_to_string(&config)? + ranges)?;
    engine.up()?;
    let engine = Arc::new(engine);
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let kubectl = Program::Kubectl(outside.kubectl.clone());
    let played =
        User::new(engine.clone(), kubectl, "families", runtime).and_then(|user| scenario(&user));
    let ended = Arc::into_inner(engine)
        .context("the engine is still held")
        .and_then(Engine::down);
    played.and(ended)
}

fn both_families(user: &User) -> anyhow::Result<()> {
    let host_port = own_port();
    user.apply(&(pods(host_port) + "---" + &service("RequireDualStack")))?;
    for (pod, ready) in [("one", "1/1"), ("client", "1/1")] {
        user.wait(pod, "Running", ready)?;
    }
    let ips = get(user, &["pod", "one"], ".status.podIPs[*].ip")?;
    let hosts = get(user, &["pod", "one"], ".status.hostIPs[*].ip")?;
    is_of(&ips, &[".", ":"])?;
    is_of(&hosts, &[".", ":"])?;
    let page = format!("one {} {}", ips.replace(' ', ","), hosts.replace(' ', ","));
    let cluster = get(user, &["service", "web"], ".spec.clusterIPs[*]")?;
    is_of(&cluster, &[".", ":"])?;
    let port = get(user, &["service", "web"], ".spec.ports[0].nodePort")?;
    let mut ends: Vec<String> = cluster.split(' ').map(|ip| end(ip, "80")).collect();
    for host in hosts.split(' ') {
        ends.extend([end(host, &port), end(host, &host_port.to_string())]);
    }
    for end in &ends {
        until(
            &format!("the page at {end}"),
            || Ok(from_here(end)? == page),
        )?;
        ensure!(from_pod(user, end)? == page, "from a Pod, at {end}");
    }
    let name = format!("web.{}.svc.cluster.local", user.namespace());
    for ip in cluster.split(' ') {
        ensure!(lookup(user, &name)?.contains(ip), "{name} is not {ip}");
        let names = lookup(user, ip)?;
        ensure!(names.contains(&name), "{ip} is not {name}: {names}");
    }
    policies_hold_in_both(user, &cluster)?;
    families_come_and_go(user, &cluster)
}

/// What a policy keeps out is kept out at both addresses.
fn policies_hold_in_both(user: &User, cluster: &str) -> anyhow::Result<()> {
    user.apply(DENY)?;
    for ip in cluster.split(' ') {
        until(&format!("{ip} is closed"), || {
            Ok(from_pod(user, &end(ip, "80"))?.is_empty())
        })?;
    }
    user.run(&["delete", "networkpolicy", "deny"])?;
    for ip in cluster.split(' ') {
        until(&format!("{ip} is open"), || {
            Ok(!from_pod(user, &end(ip, "80"))?.is_empty())
        })?;
    }
    Ok(())
}

/// A Service loses its second address and gets one again, and keeps its first.
fn families_come_and_go(user: &User, cluster: &str) -> anyhow::Result<()> {
    let first = cluster.split(' ').next().unwrap_or_default();
    user.apply(&service("SingleStack"))?;
    let one = get(user, &["service", "web"], ".spec.clusterIPs[*]")?;
    ensure!(one == first, "{one}");
    user.apply(&service("PreferDualStack"))?;
    let two = get(user, &["service", "web"], ".spec.clusterIPs[*]")?;
    is_of(&two, &[".", ":"])?;
    ensure!(two.starts_with(first), "{two}");
    let slices = || {
        let label = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
        get(user, &label, ".items[*].addressType")
    };
    until("slices of both families", || {
        let slices = slices()?;
        let mut families: Vec<&str> = slices.split(' ').collect();
        families.sort_unstable();
        Ok(families == ["IPv4", "IPv6"])
    })
}

fn ipv6_alone(user: &User) -> anyhow::Result<()> {
    user.apply(&(pods(own_port()) + "---" + &service("PreferDualStack")))?;
    for (pod, ready) in [("one", "1/1"), ("client", "1/1")] {
        user.wait(pod, "Running", ready)?;
    }
    let cluster = get(user, &["service", "web"], ".spec.clusterIPs[*]")?;
    for ips in [
        &cluster,
        &get(user, &["pod", "one"], ".status.podIPs[*].ip")?,
        &get(
            user,
            &["nodes"],
            ".items[0].status.addresses[?(@.type==\"InternalIP\")].address",
        )?,
    ] {
        is_of(ips, &[":"])?;
    }
    let end = end(&cluster, "80");
    until("the page", || Ok(from_here(&end)?.starts_with("one ")))?;
    // By its name, which the name server tells at an address of IPv6.
    for end in [end.as_str(), "web:80"] {
        ensure!(
            from_pod(user, end)?.starts_with("one "),
            "from a Pod, at {end}"
        );
    }
    let refused = user.fails(&[
        "patch",
        "service",
        "web",
        "-p",
        r#"{"spec":{"ipFamilyPolicy":"RequireDualStack"}}"#,
    ])?;
    let why = "this cluster is not configured for dual-stack services";
    ensure!(refused.stderr.contains(why), "{}", refused.stderr);
    Ok(())
}

fn get(user: &User, object: &[&str], path: &str) -> anyhow::Result<String> {
    let path = format!("jsonpath={{{path}}}");
    user.run(&[&["get"], object, &["-o", &path]].concat())
}

/// Whether there are as many addresses as signs, and each has its sign: a dot or a colon.
fn is_of(ips: &str, signs: &[&str]) -> anyhow::Result<()> {
    let mut pairs = ips.split(' ').zip(signs);
    let is_so = ips.split(' ').count() == signs.len() && pairs.all(|(ip, sign)| ip.contains(sign));
    ensure!(is_so, "{ips:?} are not of {signs:?}");
    Ok(())
}

fn end(ip: &str, port: &str) -> String {
    match ip.contains(':') {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    }
}

/// What the machine reads there.
fn from_here(end: &str) -> anyhow::Result<String> {
    let (ip, port) = end.rsplit_once(':').context("an address and a port")?;
    let ip = ip.trim_matches(['[', ']']);
    let answer = crate::shared::http_get(ip, port.parse()?, "/name")?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

/// What the client reads there; nothing if it gets no answer.
fn from_pod(user: &User, end: &str) -> anyhow::Result<String> {
    let command = format!("wget -q -O - http://{end}/name 2>/dev/null || true");
    let said = user.run(&["exec", "client", "--", "sh", "-c", &command])?;
    Ok(said.trim().to_owned())
}

/// All that the client's `nslookup` says.
fn lookup(user: &User, question: &str) -> anyhow::Result<String> {
    let command = format!("nslookup {question} 2>&1 || true");
    user.run(&["exec", "client", "--", "sh", "-c", &command])
}
