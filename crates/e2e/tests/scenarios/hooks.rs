//! Probes and hooks: who may have them, and what they do.

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::board::Wait;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "hooks::a_plain_init_container_has_none",
        a_plain_init_container_has_none,
    ),
    ("hooks::a_sidecar_has_all", a_sidecar_has_all),
    (
        "hooks::pre_stop_delays_within_the_grace",
        pre_stop_delays_within_the_grace,
    ),
    ("hooks::probes_of_every_kind", probes_of_every_kind),
    (
        "hooks::a_failing_liveness_restarts",
        a_failing_liveness_restarts,
    ),
    ("hooks::readiness_comes_and_goes", readiness_comes_and_goes),
];

fn a_plain_init_container_has_none(user: &User) -> anyhow::Result<()> {
    let handler = "exec: {command: [\"true\"]}";
    for (field, path) in [
        (format!("readinessProbe: {{{handler}}}"), "readinessProbe"),
        (format!("livenessProbe: {{{handler}}}"), "livenessProbe"),
        (format!("startupProbe: {{{handler}}}"), "startupProbe"),
        (
            format!("lifecycle: {{preStop: {{{handler}}}}}"),
            "lifecycle",
        ),
        (
            format!("lifecycle: {{postStart: {{{handler}}}}}"),
            "lifecycle",
        ),
    ] {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(
            file.path(),
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: refused}}, spec: {{containers: [{{name: a, image: b}}], \
                 initContainers: [{{name: first, image: b, {field}}}]}}}}"
            ),
        )?;
        let refused = user.fails(&["apply", "-f", &file.path().to_string_lossy()])?;
        let words = format!(
            "spec.initContainers[0].{path}: Forbidden: may not be set for init containers without restartPolicy=Always"
        );
        ensure!(
            refused.code == 1 && refused.stderr.contains(&words),
            "{refused:?}"
        );
    }
    let none = user.run(&["get", "pods", "--ignore-not-found"])?;
    ensure!(none.is_empty(), "{none}");
    Ok(())
}

fn a_sidecar_has_all(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: with-sidecar}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 20
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - name: side
    image: "busybox:1.36"
    restartPolicy: Always
    command: [sh, -c, "trap 'echo ended; exit 0' TERM; echo begun; touch /v/up; while :; do sleep 0.1; done"]
    volumeMounts: [{name: v, mountPath: /v}]
    startupProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1}
    readinessProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1}
    lifecycle:
      postStart: {exec: {command: [touch, /v/post-start]}}
      preStop: {exec: {command: [sh, -c, "echo pre-stop > /proc/1/fd/1"]}}
  containers:
  - {name: app, image: "busybox:1.36", command: [sh, -c, "ls /v; while [ ! -e /v/go ]; do sleep 0.1; done"], volumeMounts: [{name: v, mountPath: /v}]}
"#,
    )?;
    user.wait("with-sidecar", "Running", "2/2")?;
    let mut following = user.start(&["logs", "with-sidecar", "-c", "app", "-f"])?;
    let seen: Vec<String> = following
        .stdout()?
        .lines()
        .take(2)
        .collect::<Result<_, _>>()?;
    ensure!(seen == ["post-start", "up"], "{seen:?}");
    user.run(&["exec", "with-sidecar", "-c", "app", "--", "touch", "/v/go"])?;
    user.wait("with-sidecar", "Completed", "0/2")?;
    let log = user.run(&["logs", "with-sidecar", "-c", "side"])?;
    ensure!(log == "begun\npre-stop\nended\n", "{log}");
    Ok(())
}

fn pre_stop_delays_within_the_grace(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: polite}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.1; done"]
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo asked > /proc/1/fd/1; sleep 3; echo waited > /proc/1/fd/1"]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "trap '' TERM; echo up; while :; do sleep 0.1; done"]
    lifecycle: {preStop: {exec: {command: [sleep, "1000"]}}}
"#,
    )?;
    user.wait("polite", "Running", "1/1")?;
    user.wait("stubborn", "Running", "1/1")?;
    // It goes on reading while the Pod ends.
    let mut following = user.start(&["logs", "-f", "polite"])?;
    let mut log = following.stdout()?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut log, &mut line)?;
    ensure!(line == "up\n", "{line}");
    let begun = Instant::now();
    user.run(&["delete", "pod", "polite", "--wait=false"])?;
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut log, &mut rest)?;
    ensure!(rest == "asked\nwaited\nterm\n", "{rest}");
    user.wait_gone("polite")?;
    let took = begun.elapsed();
    ensure!(
        took >= Duration::from_secs(3) && took < Duration::from_secs(25),
        "{took:?}"
    );
    // A hook that does not end has the grace period, and two seconds more for the program.
    let begun = Instant::now();
    user.run(&["delete", "pod", "stubborn"])?;
    let took = begun.elapsed();
    ensure!(
        took >= Duration::from_secs(3) && took < Duration::from_secs(20),
        "{took:?}"
    );
    Ok(())
}

fn probes_of_every_kind(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: exec
    image: "busybox:1.36"
    command: [sleep, "3600"]
    volumeMounts: [{name: v, mountPath: /v}]
    startupProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1, failureThreshold: 300}
    readinessProbe: {exec: {command: [test, -e, /v/ready]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1, failureThreshold: 30}
  - name: http
    image: "nginx:latest"
    ports: [{name: web, containerPort: 80}]
    readinessProbe: {httpGet: {path: /, port: web, httpHeaders: [{name: X-Probe, value: "1"}]}, periodSeconds: 1}
    livenessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1, failureThreshold: 30}
  - name: tcp
    image: "busybox:1.36"
    command: [httpd, -f, -p, "8090"]
    readinessProbe: {tcpSocket: {port: 8090}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 8090}, periodSeconds: 1, failureThreshold: 30}
  - name: grpc
    image: "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
    args: [grpc-health-checking]
    readinessProbe: {grpc: {port: 5000}, periodSeconds: 1}
    livenessProbe: {grpc: {port: 5000}, periodSeconds: 1, failureThreshold: 30}
"#,
    )?;
    // What has not started is not asked whether it is ready.
    user.wait("probed", "Running", "3/4")?;
    let started = "jsonpath={.status.containerStatuses[?(@.name=='exec')].started}";
    ensure!(user.run(&["get", "pod", "probed", "-o", started])? == "false");
    let touch = |file: &str| user.run(&["exec", "probed", "-c", "exec", "--", "touch", file]);
    touch("/v/ready")?;
    touch("/v/up")?;
    user.wait("probed", "Running", "4/4")?;
    ensure!(user.run(&["get", "pod", "probed", "-o", started])? == "true");
    let counts = "jsonpath={.status.containerStatuses[*].restartCount}";
    ensure!(user.run(&["get", "pod", "probed", "-o", counts])? == "0 0 0 0");
    Ok(())
}

fn a_failing_liveness_restarts(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: sick}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "touch /tmp/well; exec sleep 3600"]
    startupProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, failureThreshold: 60}
    livenessProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, failureThreshold: 1}
  - {name: other, image: "busybox:1.36", command: [sleep, "3600"]}
"#,
    )?;
    user.wait("sick", "Running", "2/2")?;
    user.run(&["exec", "sick", "-c", "app", "--", "rm", "/tmp/well"])?;
    user.wait_for(&Wait {
        pod: "sick".into(),
        status: vec!["Running".into()],
        ready: Some("2/2".into()),
        restarts: Some(1),
        timeout: 60,
        ..Wait::default()
    })?;
    user.wait_event("Warning Unhealthy sick: Liveness probe failed: cat: can't open '/tmp/well'")?;
    user.wait_event("Normal Killing sick: Container app failed liveness probe, will be restarted")?;
    let others = "jsonpath={.status.containerStatuses[?(@.name=='other')].restartCount}";
    ensure!(user.run(&["get", "pod", "sick", "-o", others])? == "0");
    Ok(())
}

fn readiness_comes_and_goes(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: moody}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sleep, "3600"]
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
"#,
    )?;
    user.wait("moody", "Running", "0/1")?;
    let condition = |status: &str| {
        let wanted = format!("--for=condition=Ready={status}");
        user.run(&["wait", "pod/moody", &wanted, "--timeout=60s"])
    };
    for _ in 0..2 {
        user.run(&["exec", "moody", "--", "touch", "/tmp/ready"])?;
        user.wait("moody", "Running", "1/1")?;
        condition("true")?;
        user.run(&["exec", "moody", "--", "rm", "/tmp/ready"])?;
        user.wait("moody", "Running", "0/1")?;
        condition("false")?;
    }
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    ensure!(user.run(&["get", "pod", "moody", "-o", restarts])? == "0");
    Ok(())
}
