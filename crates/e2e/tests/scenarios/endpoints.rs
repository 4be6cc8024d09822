//! Who is behind a Service: Pods come and go with their readiness, their end and their liveness.

use anyhow::{Context, ensure};
use e2e::board::Wait;
use e2e::user::{User, Watching};
use serde_json::Value;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "endpoints::members_follow_readiness",
        members_follow_readiness,
    ),
    (
        "endpoints::a_pod_that_ends_is_told_apart_and_leaves",
        a_pod_that_ends_is_told_apart_and_leaves,
    ),
    (
        "endpoints::a_restart_takes_out_and_back",
        a_restart_takes_out_and_back,
    ),
    (
        "endpoints::what_users_keep_is_left_alone",
        what_users_keep_is_left_alone,
    ),
];

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, labels: {team: blue}}
spec: {selector: {app: web}, ports: [{name: w, port: 80, targetPort: http}]}
"#;

const DISCOVERY: &str = "/apis/discovery.k8s.io/v1";

/// A watch of the slices of Service `web`.
fn slices(user: &User) -> Watching {
    user.watch(
        DISCOVERY,
        "endpointslices?labelSelector=kubernetes.io/service-name=web",
    )
}

/// A watch of the Endpoints of Service `web`.
fn endpoints(user: &User) -> Watching {
    user.watch("/api/v1", "endpoints?fieldSelector=metadata.name=web")
}

/// The endpoints of a slice as `POD:ready,serving,terminating`, by Pod.
fn conditions(slice: &Value) -> String {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let mut all: Vec<String> = endpoints
        .map(|endpoint| {
            let pod = endpoint["targetRef"]["name"].as_str().unwrap_or("none");
            let is = |name: &&str| endpoint["conditions"][*name] == true;
            let names = ["ready", "serving", "terminating"];
            let is: Vec<&str> = names.into_iter().filter(is).collect();
            format!("{pod}:{}", is.join(","))
        })
        .collect();
    all.sort();
    all.join(" ")
}

/// What an Endpoints object has as `ready addresses ! others`.
fn addresses(endpoints: &Value) -> String {
    let list = |field: &str| {
        let subsets = endpoints["subsets"].as_array().into_iter().flatten();
        let all = subsets.flat_map(|subset| subset[field].as_array().into_iter().flatten());
        let ips: Vec<&str> = all.filter_map(|address| address["ip"].as_str()).collect();
        ips.join(",")
    };
    format!("{} ! {}", list("addresses"), list("notReadyAddresses"))
}

/// A cell of the only row `get` prints.
fn cell(user: &User, arguments: &[&str], column: usize) -> anyhow::Result<String> {
    let printed = user.run(&[&["get", "--no-headers"], arguments].concat())?;
    let cell = printed.split_whitespace().nth(column);
    Ok(cell.unwrap_or_default().to_owned())
}

/// What `describe service` says behind `Endpoints:`.
fn described(user: &User) -> anyhow::Result<Vec<String>> {
    let text = user.run(&["describe", "service", "web"])?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Endpoints:"));
    let line = line.with_context(|| format!("no endpoints in {text}"))?;
    Ok(in_order(line.split(',').map(|one| one.trim().to_owned())))
}

fn in_order(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    texts.sort();
    texts
}

fn members_follow_readiness(user: &User) -> anyhow::Result<()> {
    let mut slices = slices(user);
    let mut endpoints = endpoints(user);
    user.apply(SERVICE)?;
    // A Service without Pods has an empty slice.
    slices.until("", conditions)?;
    endpoints.until(" ! ", addresses)?;
    let shown = |column| cell(user, &["endpointslices"], column);
    ensure!([shown(1)?, shown(2)?, shown(3)?] == ["IPv4", "<unset>", "<unset>"]);
    ensure!(cell(user, &["endpoints", "web"], 1)? == "<none>");
    ensure!(described(user)?.is_empty());
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: asked, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [httpd, -f, -p, "8080"]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: page, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /index.html, port: http}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 60}
---
apiVersion: v1
kind: Pod
metadata: {name: socket, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: "busybox:1.36"
    command: [httpd, -f, -p, "8080"]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 60}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, labels: {app: other}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"], ports: [{name: http, containerPort: 8080}]}
"#,
    )?;
    user.wait("asked", "Running", "0/1")?;
    user.wait("stranger", "Running", "1/1")?;
    slices.until("asked: page:ready,serving socket:ready,serving", conditions)?;
    let ip = |pod: &str| user.pod_ip(pod);
    let (asked, others) = (ip("asked")?, in_order([ip("page")?, ip("socket")?]));
    let all = in_order([vec![asked.clone()], others.clone()].concat());
    let with_port = |ips: &[String]| in_order(ips.iter().map(|ip| format!("{ip}:8080")));
    let has = |ready: &[String], unready: &str| format!("{} ! {unready}", ready.join(","));
    for _ in 0..2 {
        endpoints.until(&has(&others, &asked), addresses)?;
        let listed = with_port(&others);
        ensure!(cell(user, &["endpoints", "web"], 1)? == listed.join(","));
        ensure!(described(user)? == listed);
        user.run(&["exec", "asked", "--", "touch", "/tmp/ready"])?;
        let ready = "asked:ready,serving page:ready,serving socket:ready,serving";
        slices.until(ready, conditions)?;
        endpoints.until(&has(&all, ""), addresses)?;
        let listed = with_port(&all);
        ensure!(cell(user, &["endpoints", "web"], 1)? == listed.join(","));
        ensure!(described(user)? == listed);
        user.run(&["exec", "asked", "--", "rm", "/tmp/ready"])?;
        slices.until("asked: page:ready,serving socket:ready,serving", conditions)?;
    }
    // With another label it is none of the Service's.
    user.run(&["label", "pod", "page", "app=other", "--overwrite"])?;
    slices.until("asked: socket:ready,serving", conditions)?;
    user.run(&["delete", "service", "web"])?;
    slices.until_gone()?;
    endpoints.until_gone()
}

fn a_pod_that_ends_is_told_apart_and_leaves(user: &User) -> anyhow::Result<()> {
    let mut slices = slices(user);
    let mut endpoints = endpoints(user);
    user.apply(SERVICE)?;
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: polite, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "trap 'touch /tmp/asked' TERM; httpd -p 8080; touch /tmp/ready; until [ -e /tmp/asked ] && [ -e /tmp/done ]; do sleep 0.1; done"]
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}
"#,
    )?;
    slices.until("polite:ready,serving", conditions)?;
    let ip = user.pod_ip("polite")?;
    endpoints.until(&format!("{ip} ! "), addresses)?;
    user.run(&["delete", "pod", "polite", "--wait=false"])?;
    slices.until("polite:serving,terminating", conditions)?;
    // Who knows nothing of that is not told of it.
    endpoints.until(" ! ", addresses)?;
    ensure!(cell(user, &["endpoints", "web"], 1)? == "<none>");
    ensure!(cell(user, &["endpointslices"], 3)? == ip);
    ensure!(described(user)?.is_empty());
    // It is asked on whether it is ready.
    user.run(&["exec", "polite", "--", "rm", "/tmp/ready"])?;
    slices.until("polite:terminating", conditions)?;
    user.run(&["exec", "polite", "--", "touch", "/tmp/ready"])?;
    slices.until("polite:serving,terminating", conditions)?;
    user.run(&["exec", "polite", "--", "touch", "/tmp/done"])?;
    user.wait_gone("polite")?;
    slices.until("", conditions)?;
    ensure!(cell(user, &["endpointslices"], 3)? == "<unset>");
    Ok(())
}

fn a_restart_takes_out_and_back(user: &User) -> anyhow::Result<()> {
    let mut slices = slices(user);
    user.apply(SERVICE)?;
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: sick, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "until [ -e /v/go ]; do sleep 0.1; done; rm /v/go; touch /tmp/well; exec httpd -f -p 8080"]
    volumeMounts: [{name: v, mountPath: /v}]
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {exec: {command: [test, -e, /tmp/well]}, periodSeconds: 1, failureThreshold: 600}
    livenessProbe: {exec: {command: [test, -e, /tmp/well]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}
    readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 60}
"#,
    )?;
    user.wait("sick", "Running", "0/1")?;
    let go = || user.run(&["exec", "sick", "--", "touch", "/v/go"]);
    go()?;
    slices.until("sick:ready,serving", conditions)?;
    user.run(&["exec", "sick", "--", "rm", "/tmp/well"])?;
    slices.until("sick:", conditions)?;
    user.wait_for(&Wait {
        pod: "sick".into(),
        status: vec!["Running".into()],
        ready: Some("0/1".into()),
        restarts: Some(1),
        timeout: 60,
        ..Wait::default()
    })?;
    ensure!(described(user)?.is_empty());
    go()?;
    slices.until("sick:ready,serving", conditions)?;
    ensure!(described(user)? == [format!("{}:8080", user.pod_ip("sick")?)]);
    user.wait_for(&Wait {
        pod: "sick".into(),
        ready: Some("1/1".into()),
        restarts: Some(1),
        timeout: 60,
        ..Wait::default()
    })
}

fn what_users_keep_is_left_alone(user: &User) -> anyhow::Result<()> {
    let mut endpoints = endpoints(user);
    let kept_by = |manager: &str| {
        let label = "endpointslice.kubernetes.io/managed-by";
        user.watch(
            DISCOVERY,
            &format!("endpointslices?labelSelector={label}={manager}"),
        )
    };
    let mut mirrored = kept_by("endpointslicemirroring-controller.k8s.io");
    let mut made = kept_by("endpointslice-controller.k8s.io");
    // The Service has no selector at first, and its endpoints are the user's.
    user.apply(
        r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: w, port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 192.0.2.7}], ports: [{name: w, port: 80}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mine, labels: {kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: me}}
addressType: IPv4
ports: [{name: w, port: 80, protocol: TCP}]
endpoints: [{addresses: [192.0.2.8]}]
"#,
    )?;
    let name = |object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        name.split('-').next().unwrap_or_default().to_owned()
    };
    // What the Endpoints say is mirrored in a slice beside the user's own.
    mirrored.until("web", name)?;
    endpoints.until("192.0.2.7 ! ", addresses)?;
    let described = described(user)?;
    ensure!(
        described == ["192.0.2.7:80", "192.0.2.8:80"],
        "{described:?}"
    );
    let count = || -> anyhow::Result<usize> {
        let names = user.run(&["get", "endpointslices", "-o", "name"])?;
        Ok(names.lines().count())
    };
    // With a selector the Endpoints are another's, and their slice, too.
    user.run(&[
        "patch",
        "service",
        "web",
        "-p",
        r#"{"spec": {"selector": {"app": "web"}}}"#,
    ])?;
    made.until("web", name)?;
    mirrored.until_gone()?;
    endpoints.until(" ! ", addresses)?;
    ensure!(count()? == 2);
    user.run(&["delete", "service", "web"])?;
    made.until_gone()?;
    endpoints.until_gone()?;
    let left = user.run(&["get", "endpointslices", "-o", "name"])?;
    ensure!(left == "endpointslice.discovery.k8s.io/mine\n", "{left}");
    Ok(())
}
