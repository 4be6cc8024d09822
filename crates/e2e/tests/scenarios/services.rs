//! Traffic through Services: who is reached, from a Pod and from the machine, as endpoints come and go.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::user::User;

use crate::Scenario;
use crate::shared::http_get;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "services::those_that_are_ready_are_reached",
        those_that_are_ready_are_reached,
    ),
    (
        "services::a_client_stays_where_it_was",
        a_client_stays_where_it_was,
    ),
    (
        "services::a_pod_reaches_itself_and_the_api",
        a_pod_reaches_itself_and_the_api,
    ),
];

/// A Pod that serves its name while it is ready.
pub(crate) fn page(name: &str) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "echo {name} > /tmp/name; touch /tmp/ready; exec httpd -f -p 8080 -h /tmp"]
    ports: [{{name: http, containerPort: 8080}}]
    readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}}
"#
    )
}

fn service(more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]{more}}}
"#
    )
}

fn cluster_ip(user: &User) -> anyhow::Result<String> {
    user.run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])
}

/// Who answers, asked from the machine.
fn from_here(ip: &str) -> anyhow::Result<String> {
    let answer = http_get(ip, 80, "/name")?;
    let name = answer.lines().last().context("no answer")?;
    Ok(name.to_owned())
}

/// Who answers when `pod` asks often.
fn from_pod(user: &User, pod: &str, times: u32) -> anyhow::Result<BTreeSet<String>> {
    let ask =
        "until wget -q -O - http://$WEB_SERVICE_HOST:$WEB_SERVICE_PORT/name; do sleep 0.1; done";
    let asks = format!("for i in $(seq {times}); do {ask}; done");
    let said = user.run(&["exec", pod, "--", "sh", "-c", &asks])?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Looks until it is so; a change of the kernel's rules is told by nothing but traffic.
pub(crate) fn until(
    what: &str,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so()? {
        ensure!(Instant::now() < end, "{what}: not so after 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn those_that_are_ready_are_reached(user: &User) -> anyhow::Result<()> {
    user.apply(&service(""))?;
    user.apply(&(page("one") + &page("two")))?;
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"]}]
"#,
    )?;
    for pod in ["one", "two", "client"] {
        user.wait(pod, "Running", "1/1")?;
    }
    let ip = cluster_ip(user)?;
    let both: BTreeSet<String> = ["one", "two"].map(str::to_owned).into();
    let mut seen = BTreeSet::new();
    until("both are reached from here", || {
        // Refused until the redirects follow.
        seen.extend(from_here(&ip));
        Ok(seen == both)
    })?;
    ensure!(from_pod(user, "client", 40)? == both);

    let ready = |pod: &str, verb: &str| user.run(&["exec", pod, "--", verb, "/tmp/ready"]);
    ready("two", "rm")?;
    user.wait("two", "Running", "0/1")?;
    until("only the ready one is reached", || {
        let names: Result<BTreeSet<String>, _> = (0..20).map(|_| from_here(&ip)).collect();
        Ok(names?.into_iter().eq(["one"]))
    })?;
    ensure!(from_pod(user, "client", 20)?.into_iter().eq(["one"]));

    ready("one", "rm")?;
    user.wait("one", "Running", "0/1")?;
    until("nobody is reached", || {
        Ok(match TcpStream::connect((ip.as_str(), 80)) {
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
            Ok(_) => false,
        })
    })?;
    let refused = user.fails(&["exec", "client", "--", "nc", "-v", "-w", "10", &ip, "80"])?;
    ensure!(
        refused.stderr.contains("Connection refused"),
        "{}",
        refused.stderr
    );

    ready("two", "touch")?;
    ensure!(from_here(&ip)? == "two");
    user.run(&["delete", "service", "web"])?;
    until("a Service that is gone leads nowhere", || {
        Ok(TcpStream::connect((ip.as_str(), 80)).is_err())
    })
}

fn a_client_stays_where_it_was(user: &User) -> anyhow::Result<()> {
    user.apply(&service(", sessionAffinity: ClientIP"))?;
    let pods = ["one", "two", "three"];
    user.apply(&pods.map(page).concat())?;
    for pod in pods {
        user.wait(pod, "Running", "1/1")?;
    }
    let ip = cluster_ip(user)?;
    let first = from_here(&ip)?;
    for _ in 0..20 {
        ensure!(from_here(&ip)? == first);
    }
    user.run(&["delete", "pod", &first])?;
    until("another takes its place", || Ok(from_here(&ip)? != first))?;
    let second = from_here(&ip)?;
    for _ in 0..20 {
        ensure!(from_here(&ip)? == second);
    }
    Ok(())
}

fn a_pod_reaches_itself_and_the_api(user: &User) -> anyhow::Result<()> {
    user.apply(&service(""))?;
    user.apply(&page("one"))?;
    user.wait("one", "Running", "1/1")?;
    ensure!(from_pod(user, "one", 5)?.into_iter().eq(["one"]));

    let api = r#"nc -w 10 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" < /dev/null"#;
    user.run(&["exec", "one", "--", "sh", "-c", api])?;
    // The certificate is for that address, too.
    let address = "jsonpath={.spec.clusterIP}";
    let address = user.run(&[
        "get",
        "service",
        "kubernetes",
        "-n",
        "default",
        "-o",
        address,
    ])?;
    let elsewhere = kubeconfig_for(user, &format!("https://{address}:443"))?;
    let output = Command::new(user.command(&[]).get_program())
        .arg("--kubeconfig")
        .arg(elsewhere)
        .args(["-n", user.namespace(), "get", "pods", "-o", "name"])
        .output()?;
    let names = String::from_utf8_lossy(&output.stdout);
    ensure!(names == "pod/one\n", "{output:?}");
    Ok(())
}

/// The user's kubeconfig with another address of the API.
fn kubeconfig_for(user: &User, server: &str) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(user.engine().kubeconfig())?;
    let lines = text.lines().map(|line| match line.split_once("server:") {
        Some((before, _)) => format!("{before}server: {server}\n"),
        None => format!("{line}\n"),
    });
    let path = user.engine().root().join(user.namespace());
    std::fs::write(&path, lines.collect::<String>())?;
    Ok(path)
}
