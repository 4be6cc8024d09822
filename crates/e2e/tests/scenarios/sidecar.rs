//! Sidecars, classic and native.

use std::io::BufRead;

use anyhow::{Context, ensure};
use e2e::board::Wait;
use e2e::user::User;

use crate::Scenario;
use crate::shared::http_get;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "sidecar::classic_follows_the_access_log",
        classic_follows_the_access_log,
    ),
    (
        "sidecar::native_starts_before_and_ends_after",
        native_starts_before_and_ends_after,
    ),
    ("sidecar::crash_restarts_it_alone", crash_restarts_it_alone),
    ("sidecar::adapter_rewrites_lines", adapter_rewrites_lines),
];

fn classic_follows_the_access_log(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: logs, emptyDir: {}}]
  containers:
  - {name: nginx, image: "nginx:latest", volumeMounts: [{name: logs, mountPath: /var/log/nginx}]}
  - {name: tail, image: "busybox:1.36", command: [sh, -c, "tail -n +1 -F /var/log/nginx/access.log"], volumeMounts: [{name: logs, mountPath: /var/log/nginx, readOnly: true}]}
"#,
    )?;
    user.wait("web", "Running", "2/2")?;
    let mut following = user.start(&["logs", "web", "-c", "tail", "--follow"])?;
    let ip = user.pod_ip("web")?;
    http_get(&ip, 80, "/first-request")?;
    let lines = following.stdout()?.lines();
    let seen = lines
        .map_while(Result::ok)
        .find(|line| line.contains("/first-request"));
    seen.context("the sidecar's log ended without the request")?;
    Ok(())
}

fn native_starts_before_and_ends_after(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: native}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  volumes: [{name: order, emptyDir: {}}]
  initContainers:
  - name: outer
    image: busybox:1.36
    restartPolicy: Always
    command: [sh, -c, "echo outer up >> /order/log; trap 'echo outer down; exit 0' TERM; while true; do sleep 0.1; done"]
    startupProbe: {exec: {command: [grep, "outer up", /order/log]}, periodSeconds: 1}
    volumeMounts: [{name: order, mountPath: /order}]
  - name: inner
    image: busybox:1.36
    restartPolicy: Always
    command: [sh, -c, "echo inner up >> /order/log; trap 'echo inner down; exit 0' TERM; while true; do sleep 0.1; done"]
    startupProbe: {exec: {command: [grep, "inner up", /order/log]}, periodSeconds: 1}
    volumeMounts: [{name: order, mountPath: /order}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "echo app up >> /order/log; cat /order/log; until [ -e /order/stop ]; do sleep 0.1; done"]
    volumeMounts: [{name: order, mountPath: /order}]
"#,
    )?;
    user.wait("native", "Running", "3/3")?;
    let mut following = user.start(&["logs", "native", "-c", "app", "-f"])?;
    let order: Vec<String> = following
        .stdout()?
        .lines()
        .take(3)
        .collect::<Result<_, _>>()?;
    ensure!(order == ["outer up", "inner up", "app up"], "{order:?}");
    user.run(&["exec", "native", "-c", "app", "--", "touch", "/order/stop"])?;
    user.wait_phase("native", "Succeeded")?;
    let pod = user.pod("native")?;
    let finished = |index: usize| {
        pod["status"]["initContainerStatuses"][index]["state"]["terminated"]["finishedAt"]
            .as_str()
            .map(str::to_owned)
    };
    ensure!(
        finished(0) >= finished(1),
        "the outer sidecar ends last: {:?} {:?}",
        finished(0),
        finished(1)
    );
    ensure!(user.run(&["logs", "native", "-c", "inner"])? == "inner down\n");
    Ok(())
}

fn crash_restarts_it_alone(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - name: side
    image: busybox:1.36
    restartPolicy: Always
    command: [sh, -c, "echo started >> /data/starts; until [ -e /data/crash ]; do sleep 0.1; done; rm /data/crash; exit 7"]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"], volumeMounts: [{name: data, mountPath: /data}]}
"#,
    )?;
    user.wait("crash", "Running", "2/2")?;
    let before = user.pod("crash")?;
    user.run(&["exec", "crash", "-c", "app", "--", "touch", "/data/crash"])?;
    user.wait_for(&Wait {
        pod: "crash".into(),
        status: vec!["Running".into()],
        ready: Some("2/2".into()),
        restarts: Some(1),
        timeout: 40,
        ..Wait::default()
    })?;
    let after = user.pod("crash")?;
    let app = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0].clone();
    ensure!(
        app(&before)["containerID"] == app(&after)["containerID"],
        "the app was touched"
    );
    ensure!(
        after["status"]["initContainerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 7
    );
    let twice = "until [ $(wc -l < /data/starts) -ge 2 ]; do sleep 0.05; done; cat /data/starts";
    ensure!(
        user.run(&["exec", "crash", "-c", "app", "--", "sh", "-c", twice])? == "started\nstarted\n",
        "the volume keeps its data"
    );
    Ok(())
}

fn adapter_rewrites_lines(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: adapter}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: logs, emptyDir: {}}]
  containers:
  - {name: app, image: "busybox:1.36", command: [sh, -c, "for i in 1 2 3; do echo line $i >> /logs/raw; done; sleep 3600"], volumeMounts: [{name: logs, mountPath: /logs}]}
  - {name: adapter, image: "busybox:1.36", command: [sh, -c, "until [ \"$(cat /logs/raw 2>/dev/null | wc -l)\" = 3 ]; do sleep 0.1; done; sed 's/^/app: /' /logs/raw > /logs/.new; mv /logs/.new /logs/adapted; echo ready; sleep 3600"], volumeMounts: [{name: logs, mountPath: /logs}]}
"#,
    )?;
    user.wait("adapter", "Running", "2/2")?;
    let mut following = user.start(&["logs", "adapter", "-c", "adapter", "-f"])?;
    ensure!(
        following
            .stdout()?
            .lines()
            .next()
            .context("the log ended")??
            == "ready"
    );
    ensure!(
        user.run(&[
            "exec",
            "adapter",
            "-c",
            "app",
            "--",
            "head",
            "-n",
            "1",
            "/logs/raw"
        ])? == "line 1\n"
    );
    ensure!(
        user.run(&[
            "exec",
            "adapter",
            "-c",
            "adapter",
            "--",
            "head",
            "-n",
            "2",
            "/logs/adapted"
        ])? == "app: line 1\napp: line 2\n"
    );
    Ok(())
}
