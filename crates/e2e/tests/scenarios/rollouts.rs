//! Rollouts of Deployments: followed, undone, restarted, paused, and one that cannot go on.

use anyhow::{Context, ensure};
use e2e::user::User;
use serde_json::Value;

use crate::Scenario;
use crate::shared::http_get;
use crate::streams::forward;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("rollouts::new_images_come_and_go", new_images_come_and_go),
    (
        "rollouts::changes_wait_for_a_resume",
        changes_wait_for_a_resume,
    ),
    ("rollouts::sizes_are_changed", sizes_are_changed),
    (
        "rollouts::one_that_cannot_go_on_fails",
        one_that_cannot_go_on_fails,
    ),
    (
        "rollouts::recreation_ends_all_first",
        recreation_ends_all_first,
    ),
    ("rollouts::deleted_pods_come_back", deleted_pods_come_back),
    ("rollouts::workloads_are_described", workloads_are_described),
    ("rollouts::pods_are_chosen", pods_are_chosen),
    ("rollouts::flags_make_a_site", flags_make_a_site),
    ("rollouts::flags_make_jobs", flags_make_jobs),
];

/// A Deployment `web` whose Pods have an init container and a sidecar.
fn web(spec: &str, image: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  {spec}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      volumes: [{{name: work, emptyDir: {{}}}}]
      initContainers:
      - {{name: prepare, image: "busybox:1.36", command: [sh, -c, "hostname > /site/index.html"], volumeMounts: [{{name: work, mountPath: /site}}]}}
      - {{name: helper, image: "busybox:1.36", command: [sleep, "3600"], restartPolicy: Always}}
      containers:
      - name: main
        image: "{image}"
        command: [sh, -c, "echo serving; exec httpd -f -p 8080 -h /site"]
        ports: [{{name: http, containerPort: 8080}}]
        volumeMounts: [{{name: work, mountPath: /site}}]
"#
    )
}

const OLD: &str = "busybox:1.36";
const NEW: &str = "busybox:1.37";
const DONE: &str = "deployment \"web\" successfully rolled out\n";
const WITHIN: &str = "--timeout=60s";
/// Each ReplicaSet's image and size.
const SETS: &str =
    "{range .items[*]}{.spec.template.spec.containers[0].image}={.status.replicas} {end}";

fn rolled_out(user: &User) -> anyhow::Result<String> {
    let said = user.run(&["rollout", "status", "deploy/web", WITHIN])?;
    ensure!(said.ends_with(DONE), "{said}");
    Ok(said)
}

/// What a JSONPath template makes of objects, its words in order.
fn look(user: &User, objects: &str, template: &str) -> anyhow::Result<Vec<String>> {
    let output = format!("jsonpath={template}");
    let text = user.run(&["get", objects, "-o", &output])?;
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.sort_unstable();
    Ok(words)
}

/// Names of the Pods that are to stay.
fn pods(user: &User) -> anyhow::Result<Vec<String>> {
    let list: Value = serde_json::from_str(&user.run(&["get", "pods", "-o", "json"])?)?;
    let pods = list["items"].as_array().context("a list")?;
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let name = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
    Ok(pods.iter().filter(stays).filter_map(name).collect())
}

fn change_image(user: &User, image: &str) -> anyhow::Result<()> {
    let main = format!("main={image}");
    let said = user.run(&["set", "image", "deploy/web", &main])?;
    ensure!(said == "deployment.apps/web image updated\n", "{said}");
    Ok(())
}

/// The lines of `rollout history` below its head.
fn revisions(user: &User) -> anyhow::Result<Vec<String>> {
    let history = user.run(&["rollout", "history", "deployment", "web"])?;
    let mut lines = history.lines();
    // A blank stands behind the name, where a revision would be told.
    ensure!(
        lines.next() == Some("deployment.apps/web ")
            && lines.next() == Some("REVISION  CHANGE-CAUSE"),
        "{history:?}"
    );
    let rows = lines.filter(|line| !line.is_empty());
    Ok(rows.map(str::to_owned).collect())
}

/// What stock kubectl says.
fn stock(user: &User, arguments: &[&str]) -> anyhow::Result<String> {
    let own = ["-n", user.namespace()];
    user.engine().kubectl(own.iter().chain(arguments))
}

fn same_as_stock(user: &User, arguments: &[&str]) -> anyhow::Result<String> {
    let (ours, stock) = (user.run(arguments)?, stock(user, arguments)?);
    ensure!(ours == stock, "{ours}\nis not\n{stock}");
    Ok(ours)
}

fn refused(user: &User, arguments: &[&str], words: &str) -> anyhow::Result<()> {
    let refused = user.fails(arguments)?;
    ensure!(
        refused.code == 1 && refused.stderr.ends_with(&format!("{words}\n")),
        "{arguments:?} was refused with {refused:?}"
    );
    Ok(())
}

fn new_images_come_and_go(user: &User) -> anyhow::Result<()> {
    let made = user.apply(&web("replicas: 3", OLD))?;
    ensure!(made == "deployment.apps/web created\n", "{made}");
    rolled_out(user)?;
    ensure!(revisions(user)? == ["1         <none>"]);
    ensure!(pods(user)?.len() == 3);
    let cause = "kubernetes.io/change-cause=a newer image";
    user.run(&["annotate", "deploy/web", cause])?;
    change_image(user, NEW)?;
    rolled_out(user)?;
    user.run(&["wait", "--for=condition=Available", "deploy/web", WITHIN])?;
    // A cause stays until another is told, so the first has it, too.
    let seen = revisions(user)?;
    ensure!(
        seen == ["1         a newer image", "2         a newer image"],
        "{seen:?}"
    );
    let of_first = ["rollout", "history", "deploy/web", "--revision=1"];
    let first = same_as_stock(user, &of_first)?;
    ensure!(
        first.starts_with("deployment.apps/web with revision #1\nPod Template:\n  Labels:\tapp=web\n\tpod-template-hash=")
            && first.contains("   main:\n    Image:\tbusybox:1.36\n"),
        "{first:?}"
    );
    let seventh = ["rollout", "history", "deploy/web", "--revision=7"];
    refused(
        user,
        &seventh,
        "error: unable to find the specified revision",
    )?;

    let undone = user.run(&["rollout", "undo", "deploy/web"])?;
    ensure!(undone == "deployment.apps/web rolled back\n", "{undone}");
    rolled_out(user)?;
    let numbers = |rows: Vec<String>| -> Vec<String> {
        rows.iter()
            .filter_map(|row| row.split(' ').next().map(str::to_owned))
            .collect()
    };
    ensure!(numbers(revisions(user)?) == ["2", "3"]);
    let sets = look(user, "rs", SETS)?;
    ensure!(sets == ["busybox:1.36=3", "busybox:1.37=0"], "{sets:?}");
    let skipped = user.run(&["rollout", "undo", "deploy/web", "--to-revision=3"])?;
    ensure!(
        skipped
            == "deployment.apps/web skipped rollback (current template already matches revision 3)\n",
        "{skipped}"
    );
    let ninth = ["rollout", "undo", "deploy/web", "--to-revision=9"];
    refused(
        user,
        &ninth,
        "error: unable to find specified revision 9 in history",
    )?;
    user.run(&["rollout", "undo", "deploy/web", "--to-revision=2"])?;
    rolled_out(user)?;
    let fourth = user.run(&["rollout", "status", "deploy/web", "--revision=4"])?;
    ensure!(fourth == DONE, "{fourth}");
    refused(
        user,
        &["rollout", "status", "deploy/web", "--revision=1"],
        "error: desired revision (1) is different from the running revision (4)",
    )
}

fn changes_wait_for_a_resume(user: &User) -> anyhow::Result<()> {
    user.apply(&web("replicas: 1", OLD))?;
    rolled_out(user)?;
    let before = pods(user)?;
    let said = user.run(&["rollout", "pause", "deploy/web"])?;
    ensure!(said == "deployment.apps/web paused\n", "{said}");
    change_image(user, NEW)?;
    for (verb, words) in [
        ("pause", "deployments.apps \"web\" is already paused"),
        (
            "restart",
            "deployments.apps \"web\" can't restart paused deployment (run rollout resume first)",
        ),
    ] {
        let words = format!("error: {words}");
        refused(user, &["rollout", verb, "deploy/web"], &words)?;
    }
    user.run(&[
        "wait",
        "--for=jsonpath={.status.conditions[?(@.type==\"Progressing\")].reason}=DeploymentPaused",
        "deploy/web",
        WITHIN,
    ])?;
    ensure!(pods(user)? == before, "nothing is changed");
    let said = user.run(&["rollout", "resume", "deploy/web"])?;
    ensure!(said == "deployment.apps/web resumed\n", "{said}");
    refused(
        user,
        &["rollout", "resume", "deploy/web"],
        "error: deployments.apps \"web\" is not paused",
    )?;
    rolled_out(user)?;
    let images = look(user, "pods", "{.items[*].spec.containers[0].image}")?;
    ensure!(images.contains(&NEW.to_owned()), "{images:?}");
    let before = pods(user)?;
    let said = user.run(&["rollout", "restart", "deploy/web"])?;
    ensure!(said == "deployment.apps/web restarted\n", "{said}");
    rolled_out(user)?;
    let after = pods(user)?;
    ensure!(
        after.len() == 1 && after != before,
        "{before:?} became {after:?}"
    );
    Ok(())
}

fn sizes_are_changed(user: &User) -> anyhow::Result<()> {
    user.apply(&web("replicas: 1", OLD))?;
    rolled_out(user)?;
    let three = ["scale", "deploy/web", "--replicas=3", "--timeout=60s"];
    let said = user.run(&three)?;
    ensure!(said == "deployment.apps/web scaled\n", "{said}");
    rolled_out(user)?;
    ensure!(pods(user)?.len() == 3);
    refused(
        user,
        &[
            "scale",
            "deploy/web",
            "--replicas=5",
            "--current-replicas=2",
        ],
        "error: Expected replicas to be 2, was 3",
    )?;
    refused(
        user,
        &["scale", "deploy/web"],
        "error: required flag(s) \"replicas\" not set",
    )?;
    let said = user.run(&[
        "scale",
        "deployment",
        "web",
        "--replicas=0",
        "--current-replicas=3",
    ])?;
    ensure!(said == "deployment.apps/web scaled\n", "{said}");
    rolled_out(user)?;
    ensure!(pods(user)?.is_empty());
    // A ReplicaSet's number is its Deployment's to say.
    let set = user.run(&["get", "rs", "-o", "name"])?;
    user.run(&["scale", set.trim(), "--replicas=2"])?;
    user.run(&[
        "wait",
        "--for=jsonpath={.spec.replicas}=0",
        set.trim(),
        WITHIN,
    ])?;
    Ok(())
}

fn one_that_cannot_go_on_fails(user: &User) -> anyhow::Result<()> {
    user.apply(&web("replicas: 2", OLD))?;
    rolled_out(user)?;
    let spec = "replicas: 2\n  progressDeadlineSeconds: 2";
    user.apply(&web(spec, "busybox:no-such-tag"))?;
    refused(
        user,
        &["rollout", "status", "deploy/web", WITHIN],
        "error: deployment \"web\" exceeded its progress deadline",
    )?;
    user.run(&["wait", "--for=condition=Available", "deploy/web", WITHIN])?;
    ensure!(user.run(&["rollout", "undo", "deploy/web"])? == "deployment.apps/web rolled back\n");
    rolled_out(user)?;
    Ok(())
}

fn recreation_ends_all_first(user: &User) -> anyhow::Result<()> {
    let spec = "replicas: 2\n  strategy: {type: Recreate}";
    user.apply(&web(spec, OLD))?;
    rolled_out(user)?;
    let mut watching = user.watch("/apis/apps/v1", "deployments");
    change_image(user, NEW)?;
    // All are gone before the first new one comes.
    watching.until("0", |object| {
        object["status"]["replicas"]
            .as_i64()
            .unwrap_or(0)
            .to_string()
    })?;
    rolled_out(user)?;
    let sets = look(user, "rs", SETS)?;
    ensure!(sets == ["busybox:1.36=0", "busybox:1.37=2"], "{sets:?}");
    Ok(())
}

fn deleted_pods_come_back(user: &User) -> anyhow::Result<()> {
    user.apply(&web("replicas: 2", OLD))?;
    rolled_out(user)?;
    let before = pods(user)?;
    let first = before.first().context("a Pod")?;
    user.run(&["delete", "pod", first])?;
    let two = "--for=jsonpath={.status.availableReplicas}=2";
    user.run(&["wait", two, "deploy/web", WITHIN])?;
    let after = pods(user)?;
    ensure!(
        after.len() == 2 && !after.contains(first),
        "{before:?} became {after:?}"
    );
    let owners = look(user, "pods", "{.items[*].metadata.ownerReferences[0].kind}")?;
    ensure!(owners == ["ReplicaSet", "ReplicaSet"], "{owners:?}");
    Ok(())
}

fn workloads_are_described(user: &User) -> anyhow::Result<()> {
    user.apply(&web("replicas: 2", OLD))?;
    rolled_out(user)?;
    for kind in ["deployment", "replicaset"] {
        let said = same_as_stock(user, &["describe", kind, "--show-events=false"])?;
        ensure!(
            said.contains("Pod Template:") && said.contains("  Init Containers:\n   prepare:\n"),
            "{said}"
        );
    }
    let said = user.run(&["describe", "deploy", "web"])?;
    ensure!(said.contains("Scaled up replica set web-"), "{said}");
    Ok(())
}

fn pods_are_chosen(user: &User) -> anyhow::Result<()> {
    user.apply(&web("replicas: 2", OLD))?;
    rolled_out(user)?;
    let names = pods(user)?;
    let served = user.run(&["exec", "deploy/web", "--", "cat", "/site/index.html"])?;
    ensure!(names.contains(&served.trim().to_owned()), "{served}");
    let log = user.run(&["logs", "deploy/web"])?;
    ensure!(log == "serving\n", "{log}");
    let all = user.run(&["logs", "deploy/web", "--all-pods", "-c", "main"])?;
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = names
        .iter()
        .map(|name| format!("[pod/{name}/main] serving"))
        .collect();
    expected.sort_unstable();
    ensure!(lines == expected, "{all}");
    let labelled = user.run(&["logs", "-l", "app=web", "-c", "main"])?;
    ensure!(labelled == "serving\nserving\n", "{labelled}");
    Ok(())
}

/// The name that is served behind a port that a client forwards.
fn forwarded(user: &User, target: &str, port: &str) -> anyhow::Result<String> {
    let (_client, local) = forward(user, target, port)?;
    let answer = http_get("127.0.0.1", local, "/name")?;
    let body = answer.split_once("\r\n\r\n").context("an answer")?.1;
    Ok(body.trim().to_owned())
}

fn flags_make_a_site(user: &User) -> anyhow::Result<()> {
    let serves = "hostname > /tmp/name; exec httpd -f -p 8080 -h /tmp";
    let made = user.run(&[
        "create",
        "deployment",
        "web",
        "--image=busybox:1.36",
        "--port=8080",
        "--replicas=2",
        "--",
        "sh",
        "-c",
        serves,
    ])?;
    ensure!(made == "deployment.apps/web created\n", "{made}");
    rolled_out(user)?;
    let exposed = user.run(&["expose", "deploy/web", "--port=80", "--target-port=8080"])?;
    ensure!(exposed == "service/web exposed\n", "{exposed}");
    let set = user.run(&["get", "rs", "-o", "name"])?;
    for (target, port) in [
        ("deploy/web", "8080"),
        (set.trim(), "8080"),
        ("svc/web", "80"),
    ] {
        let name = forwarded(user, target, port)?;
        ensure!(pods(user)?.contains(&name), "{target} is {name}");
    }
    for (change, said) in [
        (&["A=1", "B=2"][..], "deployment.apps/web env updated\n"),
        (&["A=1"], ""),
        (
            &["--list"],
            "# Deployment web, container busybox\nA=1\nB=2\n",
        ),
        (&["A-"], "deployment.apps/web env updated\n"),
        (&["--list"], "# Deployment web, container busybox\nB=2\n"),
    ] {
        let seen = user.run(&[&["set", "env", "deploy/web"], change].concat())?;
        ensure!(seen == said, "{change:?}: {seen}");
    }
    rolled_out(user)?;
    let prints = ["exec", "deploy/web", "--", "sh", "-c", "echo $B"];
    let value = user.run(&prints)?;
    ensure!(value == "2\n", "{value}");
    refused(
        user,
        &["set", "env", "deploy/web", "B=3", "--overwrite=false"],
        "error: deployments/web 'B' already has a value (2), and --overwrite is false",
    )
}

fn flags_make_jobs(user: &User) -> anyhow::Result<()> {
    for arguments in [
        &["job", "once", "--image=busybox:1.36"][..],
        &["cronjob", "hourly", "--image=x", "--schedule=@hourly"],
    ] {
        let shown = ["--dry-run=client", "-o", "json", "--", "sh", "-c", "true"];
        let whole = [&["create"], arguments, &shown].concat();
        let parse = |text: String| serde_json::from_str::<Value>(&text);
        let (ours, stock) = (parse(user.run(&whole)?)?, parse(stock(user, &whole)?)?);
        ensure!(ours == stock, "{ours}\nis not\n{stock}");
    }
    Ok(())
}
