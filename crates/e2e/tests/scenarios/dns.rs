//! Names: what a Pod's resolver finds under them, and how soon.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::user::User;

use crate::Scenario;
use crate::data_tier::says_that_it_waits;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("dns::services_have_names", services_have_names),
    ("dns::endpoints_have_names", endpoints_have_names),
    (
        "dns::a_pod_on_the_nodes_network_may_ask",
        a_pod_on_the_nodes_network_may_ask,
    ),
    (
        "dns::an_init_container_waits_for_a_name",
        an_init_container_waits_for_a_name,
    ),
    ("dns::a_name_is_there_at_once", a_name_is_there_at_once),
];

/// Within what a name must be there after `apply`; how long it took is printed. A person does not notice a second, and this machine
/// does other things at the same time.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A Pod with BusyBox's `nslookup`, and with glibc's resolver.
const CLIENT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: busybox, image: "busybox:1.36", command: [sleep, "3600"]}
  - {name: glibc, image: "debian:12", command: [sleep, "3600"]}
"#;

const SERVICES: &str = r#"
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: www.example.org}
"#;

/// The name of something in the user's namespace, whole.
fn whole(user: &User, name: &str) -> String {
    format!("{name}.{}.svc.cluster.local", user.namespace())
}

/// What a command in the client's container prints, whether it succeeds or not.
fn in_client(user: &User, container: &str, command: &str) -> anyhow::Result<String> {
    let command = format!("{command} 2>&1 || true");
    user.run(&[
        "exec", "client", "-c", container, "--", "sh", "-c", &command,
    ])
}

/// What `nslookup` finds, without who has answered: addresses, names, or `NXDOMAIN`.
fn lookup(user: &User, question: &str) -> anyhow::Result<BTreeSet<String>> {
    let said = in_client(user, "busybox", &format!("nslookup {question}"))?;
    let found = said.lines().skip(2).filter(|line| !line.is_empty());
    let found = found.filter(|line| !line.starts_with("Name:"));
    let values = found.map(|line| {
        line.rsplit_once([':', '='])
            .map_or(line, |(_, value)| value)
    });
    Ok(values.map(|value| value.trim().to_owned()).collect())
}

fn cluster_ip(user: &User, namespace: &str, service: &str) -> anyhow::Result<String> {
    let field = "jsonpath={.spec.clusterIP}";
    user.run(&["get", "service", service, "-n", namespace, "-o", field])
}

fn services_have_names(user: &User) -> anyhow::Result<()> {
    user.apply(&(CLIENT.to_owned() + SERVICES))?;
    user.wait("client", "Running", "2/2")?;
    let namespace = user.namespace();
    let dns = cluster_ip(user, "kube-system", "kube-dns")?;
    let resolver = in_client(user, "busybox", "cat /etc/resolv.conf")?;
    let search = format!("search {namespace}.svc.cluster.local svc.cluster.local cluster.local");
    for line in [&search, &format!("nameserver {dns}\n"), "options ndots:5\n"] {
        ensure!(resolver.contains(line), "no {line:?} in {resolver}");
    }

    let (ip, web) = (cluster_ip(user, namespace, "web")?, whole(user, "web"));
    for (question, found) in [
        ("web", ip.as_str()),
        (&web, &ip),
        (&ip, &web),
        (
            &format!("-type=srv _dns._udp.{web}"),
            &format!("0 100 53 {web}"),
        ),
        (
            &format!("-type=cname {}", whole(user, "out")),
            "www.example.org",
        ),
        ("nothing", "NXDOMAIN"),
        (&whole(user, "nothing"), "NXDOMAIN"),
    ] {
        let said = lookup(user, question)?;
        ensure!(
            said == BTreeSet::from([found.to_owned()]),
            "{question}: {said:?}"
        );
    }
    let over_tcp = "RES_OPTIONS=use-vc getent ahostsv4";
    let api = cluster_ip(user, "default", "kubernetes")?;
    for (command, found) in [
        ("getent ahostsv4 web", &ip),
        (&format!("getent ahostsv4 web.{namespace}"), &ip),
        (&format!("{over_tcp} web.{namespace}.svc"), &ip),
        ("getent ahostsv4 kubernetes.default", &api),
        (&format!("getent hosts {ip}"), &web),
    ] {
        let said = in_client(user, "glibc", command)?;
        ensure!(
            said.split_whitespace().any(|word| word == found),
            "{command}: {said}"
        );
    }

    user.run(&["delete", "service", "web"])?;
    let is_gone = BTreeSet::from(["NXDOMAIN".to_owned()]);
    ensure!(
        lookup_until(user, &web, &is_gone)?,
        "the name goes with its Service"
    );
    Ok(())
}

fn endpoints_have_names(user: &User) -> anyhow::Result<()> {
    let pod = |name: &str, more: &str| {
        format!(
            r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: db}}}}
spec:
  terminationGracePeriodSeconds: 0
  {more}
  containers: [{{name: app, image: "busybox:1.36", command: [sleep, "3600"], ports: [{{name: sql, containerPort: 5432}}]}}]
"#
        )
    };
    let service = r#"
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}
"#;
    let named = pod("db-0", "hostname: first\n  subdomain: db");
    user.apply(&(CLIENT.to_owned() + service + &named + &pod("db-1", "")))?;
    for (pod, ready) in [("client", "2/2"), ("db-0", "1/1"), ("db-1", "1/1")] {
        user.wait(pod, "Running", ready)?;
    }
    let (first, other) = (user.pod_ip("db-0")?, user.pod_ip("db-1")?);
    let (db, dashed) = (whole(user, "db"), other.replace('.', "-"));
    let both = BTreeSet::from([first.clone(), other.clone()]);
    ensure!(
        lookup_until(user, &db, &both)?,
        "both have the Service's name"
    );

    let (one, two) = (format!("first.{db}"), format!("{dashed}.{db}"));
    let itself = format!(
        "{}.{}.pod.cluster.local",
        first.replace('.', "-"),
        user.namespace()
    );
    for (question, found) in [
        (&one, vec![first.clone()]),
        (&two, vec![other.clone()]),
        (
            &format!("-type=srv _sql._tcp.{db}"),
            vec![format!("0 100 5432 {one}"), format!("0 100 5432 {two}")],
        ),
        (&first, vec![one.clone()]),
        (&itself, vec![first.clone()]),
    ] {
        let said = lookup(user, question)?;
        ensure!(said == found.into_iter().collect(), "{question}: {said:?}");
    }
    let full = user.run(&["exec", "db-0", "--", "hostname", "-f"])?;
    ensure!(full.trim() == one, "{full}");
    Ok(())
}

/// Whether the answer becomes this: the name server hears of changes on watches of its own.
fn lookup_until(user: &User, question: &str, wanted: &BTreeSet<String>) -> anyhow::Result<bool> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if lookup(user, question)? == *wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn a_pod_on_the_nodes_network_may_ask(user: &User) -> anyhow::Result<()> {
    let asks = format!("until nslookup {}; do sleep 0.1; done", whole(user, "web"));
    let pod = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: agent}}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  restartPolicy: Never
  containers: [{{name: app, image: "busybox:1.36", command: [sh, -c, "{asks}"]}}]
"#
    );
    user.apply(&(pod + SERVICES))?;
    user.wait("agent", "Completed", "0/1")?;
    let said = user.run(&["logs", "agent"])?;
    let ip = cluster_ip(user, user.namespace(), "web")?;
    ensure!(said.contains(&format!("Address: {ip}")), "{said}");
    Ok(())
}

/// The manifest that everyone copies from the documentation of init containers.
fn an_init_container_waits_for_a_name(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: myapp-pod}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: myapp-container, image: "busybox:1.36", command: [sh, -c, "echo The app is running! && sleep 3600"]}
  initContainers:
  - {name: init-myservice, image: "busybox:1.36", command: [sh, -c, "until nslookup myservice; do echo waiting for myservice; sleep 2; done"]}
"#,
    )?;
    user.wait("myapp-pod", "Init:0/1", "0/1")?;
    says_that_it_waits(user, "myapp-pod", "init-myservice")?;
    let service =
        "{apiVersion: v1, kind: Service, metadata: {name: myservice}, spec: {ports: [{port: 80}]}}";
    user.apply(service)?;
    user.wait("myapp-pod", "Running", "1/1")?;
    let asks = "nslookup myservice && ! nslookup nothing 2>&1";
    let said = user.run(&["exec", "myapp-pod", "--", "sh", "-c", asks])?;
    ensure!(said.contains("NXDOMAIN"), "{said}");
    Ok(())
}

fn a_name_is_there_at_once(user: &User) -> anyhow::Result<()> {
    user.apply(CLIENT)?;
    user.wait("client", "Running", "2/2")?;
    let name = whole(user, "late");
    let asks = format!("echo asks; until getent ahostsv4 {name}.; do :; done; echo found");
    let mut asking = user.start(&["exec", "client", "-c", "glibc", "--", "sh", "-c", &asks])?;
    let mut lines = asking.stdout()?.lines();
    lines.next().context("it begins")??;
    user.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: late}, spec: {ports: [{port: 80}]}}",
    )?;
    let applied = Instant::now();
    let found = lines.find(|line| matches!(line, Ok(line) if line == "found"));
    found.context("it ends")??;
    let took = applied.elapsed();
    println!("a name was found {took:?} after its Service was applied");
    ensure!(took < AT_ONCE, "it took {took:?}");
    Ok(())
}
