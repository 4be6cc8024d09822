//! Debugging: ephemeral containers, copies; and what only our own client has words for.

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::board::Wait;
use e2e::user::User;

use crate::Scenario;
use crate::terminal::Terminal;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("debug::beside_the_app", beside_the_app),
    ("debug::a_copy", a_copy),
];

/// With verbs that kubectl lacks.
pub(crate) const OWN: &[(&str, Scenario)] = &[
    ("debug::ends_a_container", ends_a_container),
    ("debug::retries_at_once", retries_at_once),
];

const APP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: app, labels: {app: app}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "busybox:1.36", command: [sh, -c, "mkdir /www; echo page > /www/page; exec httpd -f -p 127.0.0.1:8080 -h /www"]}
  - {name: other, image: "busybox:1.36", command: [sleep, "12345"]}
"#;

fn state(user: &User, container: &str) -> anyhow::Result<serde_json::Value> {
    let pod = user.pod("app")?;
    let statuses = pod["status"]["ephemeralContainerStatuses"].as_array();
    let mut statuses = statuses.into_iter().flatten();
    let status = statuses.find(|status| status["name"] == container);
    Ok(status.context("it has no status")?["state"].clone())
}

fn beside_the_app(user: &User) -> anyhow::Result<()> {
    user.apply(APP)?;
    user.wait("app", "Running", "2/2")?;
    let mut terminal = Terminal::new(40, 150)?;
    let debug = [
        "debug",
        "-it",
        "app",
        "--image=alpine",
        "--target=web",
        "-c",
        "look",
        "--",
        "sh",
    ];
    let mut client = terminal.run(user.command(&debug))?;
    terminal
        .type_in("echo lo''oking; ps | grep -c '[h]ttpd -f'; ps | grep -c '[s]leep 12345'\n")?;
    terminal.shows("looking\r\n1\r\n0\r\n")?;
    terminal.type_in(
        "wget -q -O - http://127.0.0.1:8080/page; cat /proc/1/root/www/page; hostname\n",
    )?;
    terminal.shows("page\r\npage\r\napp\r\n")?;
    terminal.type_in("exit 3\n")?;
    ensure!(client.wait()?.success(), "{}", terminal.seen);
    user.run(&[
        "wait",
        "pod/app",
        "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}=3",
        "--timeout=30s",
    ])?;
    let pod = user.pod("app")?;
    ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
    ensure!(pod["status"]["ephemeralContainerStatuses"][0]["restartCount"] == 0);
    let row = user.run(&["get", "pod", "app", "--no-headers"])?;
    ensure!(
        row.split_whitespace()
            .skip(1)
            .take(3)
            .eq(["2/2", "Running", "0"]),
        "{row}"
    );
    let log = user.run(&["logs", "app", "-c", "look"])?;
    ensure!(log.contains("looking"), "{log}");

    // Another, whose name is chosen, which nobody waits for.
    let said = user.run(&[
        "debug",
        "app",
        "--image=busybox",
        "--",
        "sh",
        "-c",
        "echo seen; sleep 1000",
    ])?;
    let name = said
        .split_once("Defaulting debug container name to ")
        .and_then(|(_, rest)| rest.split_once(".\n"));
    let name = name.with_context(|| said.clone())?.0;
    // Statuses are in the order of names.
    let started = "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running}";
    user.run(&["wait", "pod/app", started, "--timeout=30s"])?;
    let described = user.run(&["describe", "pod", "app"])?;
    ensure!(
        described.contains("Ephemeral Containers:\n  look:")
            && described.contains(&format!("\n  {name}:")),
        "{described}"
    );

    for (arguments, words) in [
        (
            &["debug", "app"][..],
            "error: you must specify --image when not using --copy-to.",
        ),
        (
            &["debug", "app", "--image=b", "--target=nobody"],
            "spec.ephemeralContainers[2].targetContainerName: Not found: \"nobody\"",
        ),
        (
            &["debug", "app", "--image=b", "-c", "web"],
            "Duplicate value: \"web\"",
        ),
        (
            &["debug", "nobody", "--image=b"],
            "pods \"nobody\" not found",
        ),
        (
            &["debug", "app", "-t", "--image=b"],
            "error: -i/--stdin is required for containers with -t/--tty=true",
        ),
    ] {
        let refused = user.fails(arguments)?;
        ensure!(
            refused.code == 1 && refused.stderr.contains(words),
            "{refused:?}"
        );
    }
    Ok(())
}

fn a_copy(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: broken, labels: {app: broken}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: "busybox:1.36", command: [sh, -c, "exit 1"]}
  - {name: side, image: "busybox:1.36", command: [sleep, "54321"]}
"#,
    )?;
    user.run(&[
        "debug",
        "broken",
        "--copy-to=fixed",
        "--container=main",
        "--profile=general",
        "--",
        "sleep",
        "1000",
    ])?;
    user.wait("fixed", "Running", "2/2")?;
    let seen = user.run(&["exec", "fixed", "-c", "main", "--", "ps"])?;
    ensure!(seen.contains("sleep 54321"), "processes are shared: {seen}");
    let labels = user.run(&["get", "pod", "fixed", "-o", "jsonpath={.metadata.labels}"])?;
    ensure!(labels.is_empty(), "{labels}");

    let images = "--set-image=main=alpine:3.20,side=alpine:3.19";
    user.run(&[
        "debug",
        "broken",
        "--copy-to=other",
        images,
        "--share-processes=false",
        "--profile=general",
    ])?;
    let images = user.run(&[
        "get",
        "pod",
        "other",
        "-o",
        "jsonpath={.spec.containers[*].image}",
    ])?;
    ensure!(images == "alpine:3.20 alpine:3.19", "{images}");

    user.run(&[
        "debug",
        "broken",
        "--copy-to=tools",
        "--image=nginx",
        "-c",
        "web",
        "--share-processes=false",
        "--profile=netadmin",
        "--replace",
    ])?;
    user.wait_gone("broken")?;
    let capabilities = user.run(&["get", "pod", "tools", "-o", "jsonpath={.spec.containers[2].name} {.spec.containers[2].securityContext.capabilities.add}"])?;
    ensure!(
        capabilities == "web [\"NET_ADMIN\",\"NET_RAW\"]",
        "{capabilities}"
    );
    let taken = user.fails(&["debug", "fixed", "--copy-to=tools", "--image=nginx"])?;
    ensure!(
        taken.stderr.contains("pods \"tools\" already exists"),
        "{taken:?}"
    );
    Ok(())
}

fn ends_a_container(user: &User) -> anyhow::Result<()> {
    user.apply(APP)?;
    user.wait("app", "Running", "2/2")?;
    let forever = "trap 'echo told to end; exit 0' TERM; echo begun; while :; do sleep 0.1; done";
    user.run(&[
        "debug",
        "app",
        "--image=busybox",
        "-c",
        "look",
        "--",
        "sh",
        "-c",
        forever,
    ])?;
    user.run(&[
        "wait",
        "pod/app",
        "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running}",
        "--timeout=30s",
    ])?;
    let mut following = user.start(&["logs", "app", "-c", "look", "-f"])?;
    let first = following.stdout()?.lines().next();
    ensure!(first.context("the log ended")?? == "begun");
    let said = user.run(&["debug", "rm", "app", "look"])?;
    ensure!(said == "pod/app container look stopped\n", "{said}");
    ensure!(
        state(user, "look")?["terminated"]["exitCode"] == 0,
        "{}",
        state(user, "look")?
    );
    ensure!(user.run(&["logs", "app", "-c", "look"])? == "begun\ntold to end\n");
    ensure!(user.pod("app")?["status"]["phase"] == "Running");
    let refused = user.fails(&["debug", "rm", "app", "web"])?;
    ensure!(
        refused
            .stderr
            .contains("container web is not an ephemeral container of pod app"),
        "{refused:?}"
    );
    Ok(())
}

fn retries_at_once(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: gate, emptyDir: {}}]
  containers:
  - {name: main, image: "busybox:1.36", command: [sh, -c, "test -e /gate/open && exec sleep 3600; exit 1"], volumeMounts: [{name: gate, mountPath: /gate}]}
  - {name: side, image: "busybox:1.36", command: [sleep, "3600"], volumeMounts: [{name: gate, mountPath: /gate}]}
"#,
    )?;
    // Three failures: the next try is 20 s away, for most of which the last exit is shown.
    user.wait_for(&Wait {
        pod: "waits".into(),
        status: vec!["Error".into()],
        restarts: Some(2),
        timeout: 60,
        ..Wait::default()
    })?;
    user.run(&["exec", "waits", "-c", "side", "--", "touch", "/gate/open"])?;
    let asked = Instant::now();
    ensure!(user.run(&["retry", "waits", "-c", "main"])? == "pod/waits container main retried\n");
    user.wait("waits", "Running", "2/2")?;
    ensure!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}",
        asked.elapsed()
    );
    let refused = user.fails(&["retry", "waits", "-c", "nobody"])?;
    ensure!(
        refused
            .stderr
            .contains("container nobody is not valid for pod waits out of: main, side"),
        "{refused:?}"
    );
    Ok(())
}
