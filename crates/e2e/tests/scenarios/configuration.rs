//! Configuration as files: what an edit changes and what it does not, what a Pod is told of itself, and sidecars that live by it.

use anyhow::{Context, ensure};
use e2e::user::User;
use serde_json::Value;

use crate::Scenario;
use crate::shared::http_get;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("configuration::edits_reach_all", edits_reach_all),
    ("configuration::what_never_changes", what_never_changes),
    ("configuration::of_the_pod_itself", of_the_pod_itself),
    ("configuration::ships_logs", ships_logs),
    ("configuration::exports_metrics", exports_metrics),
];

/// Runs a command in a container.
fn inside(user: &User, pod: &str, container: &str, command: &str) -> anyhow::Result<String> {
    user.run(&["exec", pod, "-c", container, "--", "sh", "-c", command])
}

/// Waits in a container until a file has one line that says so. Upstream takes a minute and more.
fn awaits(user: &User, pod: &str, container: &str, path: &str, line: &str) -> anyhow::Result<()> {
    let until =
        format!("timeout 20 sh -c 'until [ \"$(cat {path})\" = \"{line}\" ]; do sleep 0.01; done'");
    let waited = inside(user, pod, container, &until).map(drop);
    waited.with_context(|| format!("{path} of {container} is never {line:?}"))
}

/// An app and its sidecar see a ConfigMap's new values, both at once, without a restart; what is no file of the volume stays as it was.
fn edits_reach_all(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: green, size: large}
---
apiVersion: v1
kind: Pod
metadata: {name: watcher}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: settings, configMap: {name: settings}}]
  initContainers:
  - name: side
    image: busybox:1.36
    restartPolicy: Always
    command:
    - sh
    - -c
    - while sleep 0.02; do now=$(readlink /settings/..data); [ "$now" = "$seen" ] || echo "now $(cat /settings/color)"; seen=$now; done
    volumeMounts: [{name: settings, mountPath: /settings}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sleep, "3600"]
    env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}]
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: settings, mountPath: /single/color, subPath: color}
"#,
    )?;
    user.wait("watcher", "Running", "2/2")?;
    let before = inside(user, "watcher", "app", "readlink /settings/..data")?;
    let edit = r#"{"data": {"color": "blue", "size": null, "shape": "round"}}"#;
    user.run(&["patch", "configmap", "settings", "--type=merge", "-p", edit])?;
    for container in ["app", "side"] {
        awaits(user, "watcher", container, "/settings/color", "blue")?;
        let all = inside(
            user,
            "watcher",
            container,
            "ls /settings; cat /settings/shape",
        )?;
        ensure!(all == "color\nshape\nround", "{container} sees {all:?}");
    }
    let after = inside(
        user,
        "watcher",
        "app",
        "readlink /settings/..data; ls -A /settings",
    )?;
    ensure!(after.lines().next() != before.lines().next(), "{after}");
    let versions = after.lines().skip(1).filter(|name| name.starts_with("..2"));
    ensure!(versions.count() == 1, "one version is left: {after}");
    let mut log = user.start(&["logs", "watcher", "-c", "side", "-f"])?;
    let lines = std::io::BufRead::lines(log.stdout()?).take(2);
    let lines: Vec<String> = lines.collect::<Result<_, _>>()?;
    ensure!(lines == ["now green", "now blue"], "{lines:?}");

    let kept = inside(
        user,
        "watcher",
        "app",
        "cat /single/color; echo; echo $COLOR",
    )?;
    ensure!(kept == "green\ngreen\n", "{kept}");
    ensure!(user.pod("watcher")?["status"]["containerStatuses"][0]["restartCount"] == 0);
    Ok(())
}

/// What is immutable stays, in the API's words; a key that is not there holds what needs it, and one that is optional does not.
fn what_never_changes(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: fixed}
immutable: true
data: {a: "1"}
---
apiVersion: v1
kind: Pod
metadata: {name: fixed}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - name: all
    projected:
      defaultMode: 0440
      sources:
      - configMap: {name: fixed, items: [{key: a, path: deep/a, mode: 0400}]}
      - configMap: {name: later, optional: true}
  containers:
  - name: app
    image: busybox:1.36
    command: [sleep, "3600"]
    volumeMounts: [{name: all, mountPath: /all}]
"#,
    )?;
    user.wait("fixed", "Running", "1/1")?;
    let refused = user.fails(&[
        "patch",
        "configmap",
        "fixed",
        "--type=merge",
        "-p",
        r#"{"data": {"a": "2"}}"#,
    ])?;
    let words = "data: Forbidden: field is immutable when `immutable` is set";
    ensure!(refused.stderr.contains(words), "{}", refused.stderr);
    user.run(&["create", "configmap", "later", "--from-literal=b=2"])?;
    awaits(user, "fixed", "app", "/all/b", "2")?;
    let modes = inside(
        user,
        "fixed",
        "app",
        "stat -L -c '%n %a' /all/deep/a /all/b; cat /all/deep/a",
    )?;
    ensure!(modes == "/all/deep/a 400\n/all/b 440\n1", "{modes}");
    Ok(())
}

/// Labels, limits and a token, as files; a label that changes is told.
fn of_the_pod_itself(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: itself
  labels: {tier: front}
  annotations: {note: "first\nsecond"}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  volumes:
  - name: facts
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}}
      - {path: memory, resourceFieldRef: {containerName: app, resource: limits.memory, divisor: 1Mi}}
  - name: token
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
  containers:
  - name: app
    image: busybox:1.36
    command: [sleep, "3600"]
    resources: {limits: {memory: 64Mi}}
    volumeMounts: [{name: facts, mountPath: /facts}, {name: token, mountPath: /token}]
"#,
    )?;
    user.wait("itself", "Running", "1/1")?;
    let facts = inside(
        user,
        "itself",
        "app",
        "cd /facts; cat labels; echo; cat note; echo; cat memory",
    )?;
    ensure!(facts == "tier=\"front\"\nfirst\nsecond\n64", "{facts}");
    user.run(&["label", "pod", "itself", "tier=back", "--overwrite"])?;
    awaits(user, "itself", "app", "/facts/labels", "tier=\\\"back\\\"")?;

    let token = inside(user, "itself", "app", "cut -d. -f2 /token/token")?;
    let claims = claims(token.trim())?;
    ensure!(claims["aud"] == serde_json::json!(["vault"]), "{claims}");
    ensure!(
        claims["kubernetes.io"]["pod"]["name"] == "itself",
        "{claims}"
    );
    let rest = inside(
        user,
        "itself",
        "app",
        "cat /token/namespace; head -n 1 /token/ca.crt; mount | grep -c 'tmpfs on /token'",
    )?;
    let expected = format!("{}-----BEGIN CERTIFICATE-----\n1\n", user.namespace());
    ensure!(rest == expected, "{rest}");
    Ok(())
}

/// What a token says, from its middle part.
fn claims(part: &str) -> anyhow::Result<Value> {
    use base64::Engine;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part);
    Ok(serde_json::from_slice(&json.context("base64")?)?)
}

/// A sidecar reads another container's log from a shared directory and ships it, as its ConfigMap says, from the next line on.
fn ships_logs(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: shipper}
data:
  shipper.conf: |
    FILE=/var/log/app/app.log
    PREFIX=first
---
apiVersion: v1
kind: Pod
metadata: {name: shipped}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: logs, emptyDir: {}}, {name: config, configMap: {name: shipper}}]
  initContainers:
  - name: shipper
    image: busybox:1.36
    restartPolicy: Always
    command:
    - sh
    - -c
    - . /etc/shipper/shipper.conf; touch $FILE; tail -f $FILE | while read -r line; do . /etc/shipper/shipper.conf; echo "$PREFIX $line"; done
    volumeMounts: [{name: logs, mountPath: /var/log/app}, {name: config, mountPath: /etc/shipper}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sleep, "3600"]
    volumeMounts: [{name: logs, mountPath: /var/log/app}]
"#,
    )?;
    user.wait("shipped", "Running", "2/2")?;
    let mut follower = user.start(&["logs", "shipped", "-c", "shipper", "-f"])?;
    let mut lines = std::io::BufRead::lines(follower.stdout()?);
    let mut next = |line: &str| -> anyhow::Result<String> {
        inside(
            user,
            "shipped",
            "app",
            &format!("echo {line} >> /var/log/app/app.log"),
        )?;
        lines.next().context("a line")?.context("the log")
    };
    let first = next("one")?;
    ensure!(first == "first one", "{first}");
    let edit = r#"{"data": {"shipper.conf": "FILE=/var/log/app/app.log\nPREFIX=second\n"}}"#;
    user.run(&["patch", "configmap", "shipper", "--type=merge", "-p", edit])?;
    let has_changed =
        "timeout 20 sh -c 'until grep -q second /etc/shipper/shipper.conf; do sleep 0.01; done'";
    inside(user, "shipped", "shipper", has_changed)?;
    let second = next("two")?;
    ensure!(second == "second two", "{second}");
    Ok(())
}

/// A sidecar that shows the machine's figures: the node's /proc and /sys where nobody writes, arguments, a port by its name.
fn exports_metrics(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: exporter, labels: {app: exporter}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: proc, hostPath: {path: /proc, type: Directory}}, {name: sys, hostPath: {path: /sys}}]
  containers:
  - name: exporter
    image: busybox:1.36
    command: [sh, -c, 'mkdir /www && cat $0/meminfo > /www/metrics && ls $1/class/net > /www/links && exec httpd -f -p 9100 -h /www']
    args: [/host/proc, /host/sys]
    ports: [{name: metrics, containerPort: 9100}]
    readinessProbe: {httpGet: {path: /metrics, port: metrics}, periodSeconds: 1}
    volumeMounts:
    - {name: proc, mountPath: /host/proc, readOnly: true}
    - {name: sys, mountPath: /host/sys, readOnly: true}
---
apiVersion: v1
kind: Service
metadata: {name: figures}
spec: {selector: {app: exporter}, ports: [{port: 80, targetPort: metrics}]}
"#,
    )?;
    user.wait("exporter", "Running", "1/1")?;
    let metrics = http_get(&user.pod_ip("exporter")?, 9100, "/metrics")?;
    let here = std::fs::read_to_string("/proc/meminfo")?;
    let total = here.lines().next().context("a line")?;
    ensure!(metrics.contains(total), "metrics: {metrics:?}");
    let links = inside(user, "exporter", "exporter", "cat /www/links")?;
    ensure!(links.contains("lo\n"), "links: {links:?}");
    let fetch = "timeout 20 sh -c 'until wget -q -O /tmp/got http://figures/metrics; do sleep 0.05; done'; head -n 1 /tmp/got";
    let by_name = inside(user, "exporter", "exporter", fetch)?;
    ensure!(by_name.trim_end() == total, "by its name: {by_name:?}");
    for path in ["/host/proc/sys/vm/swappiness", "/host/sys/kernel/profiling"] {
        let write = format!("sh -c 'echo 1 > {path}' 2>&1 || true");
        let refused = inside(user, "exporter", "exporter", &write)?;
        ensure!(
            refused.contains("Read-only file system"),
            "{path}: {refused:?}"
        );
    }
    Ok(())
}
