//! Services at all their addresses, asked from the machine, from a Pod, and from the Pod that is behind them.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::user::User;

use crate::Scenario;
use crate::services::{page, until};
use crate::shared::http_get;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "exposed::every_address_leads_there_from_everywhere",
        every_address_leads_there_from_everywhere,
    ),
    (
        "exposed::a_port_of_the_machine_is_one_balancers",
        a_port_of_the_machine_is_one_balancers,
    ),
    (
        "exposed::host_ports_lead_to_their_pod",
        host_ports_lead_to_their_pod,
    ),
    (
        "exposed::bad_node_ports_are_refused",
        bad_node_ports_are_refused,
    ),
];

/// `carob` has no verb `expose`.
pub(crate) const KUBECTL: &[(&str, Scenario)] = &[("exposed::a_pod_is_exposed", a_pod_is_exposed)];

const CLIENT: &str = r#"
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"]}]
"#;

/// Services, and where each can be asked: `cluster:PORT`, `node:PORT`, `balancer:PORT`, with `nodePort` for the port it was given and `OWN`
/// for one that no other scenario asks for.
const SERVICES: &[(&str, &str, &[&str])] = &[
    (
        "a cluster address",
        "selector: {app: web}, ports: [{port: 80, targetPort: 8080}]",
        &["cluster:80"],
    ),
    (
        "a node port and a named target",
        "type: NodePort, selector: {app: web}, ports: [{port: 81, targetPort: http}]",
        &["cluster:81", "node:nodePort"],
    ),
    (
        "for local traffic, by one client's affinity",
        "type: NodePort, sessionAffinity: ClientIP, externalTrafficPolicy: Local, internalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]",
        &["cluster:80", "node:nodePort"],
    ),
    (
        "addresses of others",
        "externalIPs: [198.51.100.7, 198.51.100.8], selector: {app: web}, ports: [{port: OWN, targetPort: 8080}]",
        &["cluster:OWN", "198.51.100.7:OWN", "198.51.100.8:OWN"],
    ),
    (
        "a balancer",
        "type: LoadBalancer, selector: {app: web}, ports: [{port: OWN, targetPort: 8080}]",
        &["cluster:OWN", "node:OWN", "node:nodePort", "balancer:OWN"],
    ),
    (
        "a balancer for everybody by name, without node ports",
        "type: LoadBalancer, allocateLoadBalancerNodePorts: false, loadBalancerSourceRanges: [0.0.0.0/0], selector: {app: web}, ports: [{port: OWN, targetPort: 8080}]",
        &["balancer:OWN"],
    ),
];

/// A port of the machine for one scenario: they run side by side, and engines do, too.
pub(crate) fn own_port() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    10_000 + std::process::id() % 100 * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100
}

fn get(user: &User, object: &[&str], path: &str) -> anyhow::Result<String> {
    let path = format!("jsonpath={{{path}}}");
    user.run(&[&["get"], object, &["-o", &path]].concat())
}

fn node_ip(user: &User) -> anyhow::Result<String> {
    get(user, &["nodes"], ".items[0].status.addresses[0].address")
}

/// The address a Service is balanced at, as soon as it has one.
fn balancer_ip(user: &User, service: &str) -> anyhow::Result<String> {
    let mut ip = String::new();
    until("a balancer", || {
        ip = get(
            user,
            &["service", service],
            ".status.loadBalancer.ingress[*].ip",
        )?;
        Ok(!ip.is_empty())
    })?;
    Ok(ip)
}

/// What the words of [`SERVICES`] stand for.
fn address(user: &User, service: &str, words: &str) -> anyhow::Result<(String, u16)> {
    let (ip, port) = words.split_once(':').context("an address and a port")?;
    let service = ["service", service];
    let ip = match ip {
        "cluster" => get(user, &service, ".spec.clusterIP")?,
        "node" => node_ip(user)?,
        "balancer" => balancer_ip(user, service[1])?,
        ip => ip.to_owned(),
    };
    let port = match port {
        "nodePort" => get(user, &service, ".spec.ports[0].nodePort")?,
        port => port.to_owned(),
    };
    Ok((ip, port.parse()?))
}

/// Whether the machine is refused there.
fn is_refused(ip: &str, port: u16) -> anyhow::Result<bool> {
    let end = std::net::SocketAddr::new(ip.parse()?, port);
    let refused = TcpStream::connect_timeout(&end, Duration::from_secs(10)).err();
    Ok(refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}

fn every_address_leads_there_from_everywhere(user: &User) -> anyhow::Result<()> {
    user.apply(&(page("one") + CLIENT))?;
    user.wait("one", "Running", "1/1")?;
    user.wait("client", "Running", "1/1")?;
    let mut asked = Vec::new();
    for (n, (what, spec, addresses)) in SERVICES.iter().enumerate() {
        let name = format!("s{n}");
        let own = own_port().to_string();
        let spec = spec.replace("OWN", &own);
        user.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        ))?;
        for words in *addresses {
            let (ip, port) = address(user, &name, &words.replace("OWN", &own)).context(*what)?;
            asked.push((format!("{what}, {words}"), ip, port));
        }
    }
    for (what, ip, port) in &asked {
        until(what, || {
            let answer = http_get(ip, *port, "/name");
            Ok(answer.is_ok_and(|answer| answer.ends_with("one\n")))
        })?;
        let url = format!("http://{ip}:{port}/name");
        for pod in ["client", "one"] {
            let answer = user.run(&["exec", pod, "--", "wget", "-q", "-O", "-", &url]);
            ensure!(answer? == "one\n", "{what}, from {pod}");
        }
    }
    user.run(&["exec", "one", "--", "rm", "/tmp/ready"])?;
    user.wait("one", "Running", "0/1")?;
    for (what, ip, port) in &asked {
        until(what, || is_refused(ip, *port))?;
        let port = port.to_string();
        let refused = user.fails(&["exec", "client", "--", "nc", "-v", "-w", "10", ip, &port])?;
        ensure!(
            refused.stderr.contains("Connection refused"),
            "{what}: {}",
            refused.stderr
        );
    }
    Ok(())
}

fn a_port_of_the_machine_is_one_balancers(user: &User) -> anyhow::Result<()> {
    let port = own_port();
    let balancer = |name: &str, more: &str| {
        user.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, ports: [{{port: {port}}}]{more}}}\n"
        ))
    };
    balancer("first", "")?;
    let ip = balancer_ip(user, "first")?;
    ensure!(ip == node_ip(user)?);
    balancer("second", "")?;
    balancer("other", ", loadBalancerClass: example.com/mine")?;
    user.wait_event("Warning SyncLoadBalancerFailed")?;
    let rows = user.run(&["get", "services", "--no-headers"])?;
    let address = |name: &str| -> anyhow::Result<String> {
        let row = rows.lines().find(|row| row.starts_with(name));
        let column = row.and_then(|row| row.split_whitespace().nth(3));
        Ok(column.with_context(|| rows.clone())?.to_owned())
    };
    ensure!(address("first")? == ip, "{rows}");
    ensure!(address("second")? == "<pending>", "{rows}");
    ensure!(address("other")? == "<pending>", "{rows}");
    user.run(&["delete", "service", "first"])?;
    ensure!(balancer_ip(user, "second")? == ip);
    user.run(&[
        "patch",
        "service",
        "second",
        "-p",
        r#"{"spec": {"type": "ClusterIP"}}"#,
    ])?;
    let left = get(user, &["service", "second"], ".status")?;
    ensure!(left == r#"{"loadBalancer":{}}"#, "{left}");
    Ok(())
}

fn host_ports_lead_to_their_pod(user: &User) -> anyhow::Result<()> {
    let (everywhere, inside) = (own_port() as u16, own_port() as u16);
    let ports = format!(
        "ports: [{{containerPort: 8080, hostPort: {everywhere}}}, {{containerPort: 8080, hostPort: {inside}, hostIP: 127.0.0.1}}]"
    );
    let pod = page("one").replace("ports: [{name: http, containerPort: 8080}]", &ports);
    ensure!(pod.contains(&ports));
    user.apply(&(pod.clone() + CLIENT))?;
    user.wait("one", "Running", "1/1")?;
    user.wait("client", "Running", "1/1")?;
    let ip = node_ip(user)?;
    for (ip, port) in [
        (ip.as_str(), everywhere),
        ("127.0.0.1", everywhere),
        ("127.0.0.1", inside),
    ] {
        let what = format!("{ip}:{port}");
        until(&what, || {
            let answer = http_get(ip, port, "/name");
            Ok(answer.is_ok_and(|answer| answer.ends_with("one\n")))
        })?;
    }
    ensure!(is_refused(&ip, inside)?, "only on loopback");
    let url = format!("http://{ip}:{everywhere}/name");
    for pod in ["client", "one"] {
        let answer = user.run(&["exec", pod, "--", "wget", "-q", "-O", "-", &url])?;
        ensure!(answer == "one\n", "from {pod}: {answer}");
    }
    // A second Pod has to wait for the port.
    user.apply(&pod.replace("name: one", "name: two"))?;
    user.wait_event("Warning FailedScheduling")?;
    let told = user.events()?;
    let why = "didn't have free ports for the requested pod ports";
    ensure!(told.iter().any(|line| line.contains(why)), "{told:?}");
    user.run(&["delete", "pod", "one"])?;
    user.wait("two", "Running", "1/1")?;
    until("the other has the port", || {
        let answer = http_get(&ip, everywhere, "/name");
        Ok(answer.is_ok_and(|answer| answer.ends_with("one\n")))
    })?;
    user.run(&["delete", "pod", "two"])?;
    until("nobody has the port", || is_refused(&ip, everywhere))
}

fn bad_node_ports_are_refused(user: &User) -> anyhow::Result<()> {
    let service = |name: &str, port: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, ports: [{{port: 80, nodePort: {port}}}]}}\n"
        )
    };
    user.apply(&service("first", "0"))?;
    let taken = get(user, &["service", "first"], ".spec.ports[0].nodePort")?;
    let file = user.engine().root().join(user.namespace());
    for (port, text) in [
        (
            "80",
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (taken.as_str(), "provided port is already allocated"),
    ] {
        std::fs::write(&file, service("second", port))?;
        let path = file.to_string_lossy();
        let refused = user.fails(&["apply", "-f", &path])?;
        ensure!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    Ok(())
}

fn a_pod_is_exposed(user: &User) -> anyhow::Result<()> {
    user.apply(&page("one"))?;
    user.wait("one", "Running", "1/1")?;
    let exposed = [
        "expose",
        "pod",
        "one",
        "--port=80",
        "--target-port=8080",
        "--type=NodePort",
    ];
    ensure!(user.run(&exposed)? == "service/one exposed\n");
    let (ip, port) = address(user, "one", "node:nodePort")?;
    ensure!(http_get(&ip, port, "/name")?.ends_with("one\n"));
    let row = user.run(&["get", "service", "one", "--no-headers"])?;
    ensure!(row.contains(&format!("80:{port}/TCP")), "{row}");
    user.run(&["delete", "service", "one"])?;
    until("a Service that is gone leads nowhere", || {
        is_refused(&ip, port)
    })
}
