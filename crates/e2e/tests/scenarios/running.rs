//! Running, watching, asking.

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::board::Wait;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("running::apply_says_what_it_did", apply_says_what_it_did),
    ("running::get_in_every_format", get_in_every_format),
    ("running::one_of_two_ends", one_of_two_ends),
    ("running::a_bad_image_is_healed", a_bad_image_is_healed),
    ("running::command_and_args", command_and_args),
    ("running::logs_with_options", logs_with_options),
    ("running::logs_of_the_run_before", logs_of_the_run_before),
    ("running::exec_pipes_and_codes", exec_pipes_and_codes),
    ("running::delete_waits_for_grace", delete_waits_for_grace),
];

/// A Pod with one container that sleeps.
fn sleeper(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: main, image: \"busybox:1.36\", command: [sleep, \"3600\"]}}]}}}}"
    )
}

fn apply_says_what_it_did(user: &User) -> anyhow::Result<()> {
    let one = sleeper("one");
    ensure!(user.apply(&one)? == "pod/one created\n");
    ensure!(user.apply(&one)? == "pod/one unchanged\n");
    ensure!(user.apply(&one.replace("app: one", "app: changed"))? == "pod/one configured\n");
    let two = format!("{}\n---\n{}\n", sleeper("two"), sleeper("three"));
    ensure!(user.apply(&two)? == "pod/two created\npod/three created\n");
    let label = user.run(&["get", "pod", "one", "-o", "jsonpath={.metadata.labels.app}"])?;
    ensure!(label == "changed");
    Ok(())
}

fn get_in_every_format(user: &User) -> anyhow::Result<()> {
    user.apply(&sleeper("shown"))?;
    user.wait("shown", "Running", "1/1")?;
    let table = user.run(&["get", "pods"])?;
    let mut lines = table.lines();
    ensure!(
        lines.next().is_some_and(|head| head
            .split_whitespace()
            .eq(["NAME", "READY", "STATUS", "RESTARTS", "AGE"])),
        "{table}"
    );
    ensure!(
        lines
            .next()
            .is_some_and(|row| row.starts_with("shown   1/1     Running   0")),
        "{table}"
    );
    let ip = user.pod_ip("shown")?;
    ensure!(
        user.run(&["get", "pod", "shown", "-o", "wide"])?
            .contains(&ip)
    );
    ensure!(user.run(&["get", "pods", "-o", "name"])? == "pod/shown\n");
    ensure!(user.run(&["get", "pod", "shown", "-o", "jsonpath={.status.phase}"])? == "Running");
    let columns = user.run(&[
        "get",
        "pods",
        "-o",
        "custom-columns=NAME:.metadata.name,IP:.status.podIP",
    ])?;
    ensure!(
        columns == format!("NAME    IP\nshown   {ip}\n"),
        "{columns}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&user.run(&["get", "pod", "shown", "-o", "json"])?)?;
    ensure!(json["kind"] == "Pod" && json["spec"]["containers"][0]["name"] == "main");
    ensure!(
        user.run(&["get", "pod", "shown", "-o", "yaml"])?
            .starts_with("apiVersion: v1\nkind: Pod\n")
    );
    ensure!(
        user.run(&["get", "pods", "-l", "app=shown", "--no-headers"])?
            .starts_with("shown ")
    );
    let missing = user.fails(&["get", "pod", "absent"])?;
    ensure!(
        missing.code == 1
            && missing.stderr == "Error from server (NotFound): pods \"absent\" not found\n",
        "{missing:?}"
    );
    let described = user.run(&["describe", "pod", "shown"])?;
    for section in [
        "Name:             shown",
        "Status:           Running",
        "Containers:\n  main:",
        "Conditions:",
        "QoS Class:",
        "Events:",
        "Successfully assigned",
    ] {
        ensure!(
            described.contains(section),
            "describe lacks {section:?}:\n{described}"
        );
    }
    Ok(())
}

fn one_of_two_ends(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: half}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{name: gate, emptyDir: {}}]
  containers:
  - {name: ends, image: "busybox:1.36", command: ["true"]}
  - {name: goes-on, image: "busybox:1.36", command: [sh, -c, "until [ -e /gate/open ]; do sleep 0.1; done; exit 4"], volumeMounts: [{name: gate, mountPath: /gate}]}
"#,
    )?;
    user.wait("half", "NotReady", "1/2")?;
    user.run(&["exec", "half", "-c", "goes-on", "--", "touch", "/gate/open"])?;
    user.wait("half", "Error", "0/2")?;
    user.wait_phase("half", "Failed")
}

fn a_bad_image_is_healed(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: healed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: good, image: "busybox:1.36", command: [sleep, "3600"]}
  - {name: bad, image: "busybox:no-such-tag", command: [sleep, "3600"]}
"#,
    )?;
    user.wait("healed", "ImagePullBackOff", "1/2")?;
    ensure!(
        user.rows("healed")
            .iter()
            .any(|row| row.contains("ErrImagePull")),
        "{:?}",
        user.rows("healed")
    );
    // Events come after the status they go with.
    for start in [
        "Normal Pulling healed: Pulling image \"busybox:no-such-tag\"",
        "Warning Failed healed: Failed to pull image \"busybox:no-such-tag\"",
        "Normal BackOff healed: Back-off pulling image",
    ] {
        user.wait_event(start)?;
    }
    let asked = Instant::now();
    user.run(&[
        "patch",
        "pod",
        "healed",
        "-p",
        r#"{"spec":{"containers":[{"name":"bad","image":"busybox:1.36"}]}}"#,
    ])?;
    user.wait("healed", "Running", "2/2")?;
    ensure!(
        asked.elapsed() < Duration::from_secs(8),
        "another image starts at once, not after the old one's back-off"
    );
    Ok(())
}

fn command_and_args(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: words, labels: {tier: front}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: both, image: "busybox:1.36", command: [echo, command], args: ["$(GREETING)", "$$(GREETING)", "$(ABSENT)"], env: [{name: GREETING, value: hello}]}
  - {name: fields, image: "busybox:1.36", command: [sh, -c, "echo $NAME $TIER $LIMIT $(WHERE)"], env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}, {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}, {name: WHERE, value: here}], resources: {limits: {memory: 64Mi}}}
  - {name: args-only, image: "busybox:1.36", args: [echo, from-args]}
"#,
    )?;
    user.wait("words", "Completed", "0/3")?;
    ensure!(user.run(&["logs", "words", "-c", "both"])? == "command hello $(GREETING) $(ABSENT)\n");
    ensure!(user.run(&["logs", "words", "-c", "fields"])? == "words front 64 here\n");
    ensure!(
        user.run(&["logs", "words", "-c", "args-only"])? == "from-args\n",
        "args replace the image's CMD"
    );
    Ok(())
}

fn logs_with_options(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: talks, labels: {app: talks}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: counts, image: "busybox:1.36", command: [sh, -c, "for i in 1 2 3 4 5; do echo line $i; done; sleep 0.3; echo err >&2; sleep 3600"]}
  - {name: quiet, image: "busybox:1.36", command: [sh, -c, "echo quiet; sleep 3600"]}
"#,
    )?;
    user.wait("talks", "Running", "2/2")?;
    let mut following = user.start(&["logs", "talks", "-c", "counts", "-f"])?;
    let last = following
        .stdout()?
        .lines()
        .map_while(Result::ok)
        .take(6)
        .last();
    ensure!(
        last.as_deref() == Some("err"),
        "stderr is part of the log: {last:?}"
    );
    ensure!(user.run(&["logs", "talks", "-c", "counts", "--tail=2"])? == "line 5\nerr\n");
    let stamped = user.run(&["logs", "talks", "-c", "counts", "--timestamps", "--tail=1"])?;
    ensure!(
        stamped.ends_with("Z err\n")
            && stamped.len() == "2026-01-01T00:00:00.000000000Z err\n".len(),
        "{stamped}"
    );
    ensure!(
        user.run(&[
            "logs",
            "talks",
            "-c",
            "counts",
            "--since=1h",
            "--limit-bytes=7"
        ])? == "line 1\n"
    );
    ensure!(
        user.run(&[
            "logs",
            "talks",
            "-c",
            "counts",
            "--since-time=2100-01-01T00:00:00Z"
        ])?
        .is_empty()
    );
    let mut following = user.start(&["logs", "talks", "-c", "quiet", "-f"])?;
    let first = following.stdout()?.lines().next();
    ensure!(first.context("no line")?? == "quiet");
    let all = user.run(&["logs", "talks", "--all-containers", "--prefix"])?;
    ensure!(
        all.contains("[pod/talks/counts] line 1\n") && all.contains("[pod/talks/quiet] quiet\n"),
        "{all}"
    );
    ensure!(user.run(&["logs", "-l", "app=talks", "-c", "quiet"])? == "quiet\n");
    let missing = user.fails(&["logs", "talks", "-c", "absent"])?;
    ensure!(
        missing
            .stderr
            .contains("container absent is not valid for pod talks"),
        "{missing:?}"
    );
    Ok(())
}

fn logs_of_the_run_before(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: count, emptyDir: {}}]
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "echo x >> /count/runs; run=$(wc -l < /count/runs); echo run $run begins; [ $run -ge 3 ] && exec sleep 3600; sleep 0.3; echo run $run fails >&2; exit $run"]
    volumeMounts: [{name: count, mountPath: /count}]
"#,
    )?;
    let wait = |status: &str, restarts| {
        user.wait_for(&Wait {
            pod: "again".into(),
            status: vec![status.into()],
            restarts: Some(restarts),
            timeout: 60,
            ..Wait::default()
        })
    };
    // For most of the back-off, the run that has ended is the current one.
    wait("Error", 1)?;
    for (logs, run) in [
        (&["logs", "again"][..], 2),
        (&["logs", "again", "--previous"], 1),
    ] {
        let said = user.run(logs)?;
        ensure!(
            said == format!("run {run} begins\nrun {run} fails\n"),
            "{logs:?}: {said:?}"
        );
    }
    wait("Running", 2)?;
    let mut following = user.start(&["logs", "again", "-f"])?;
    let first = following.stdout()?.lines().next();
    ensure!(first.context("no line")?? == "run 3 begins");
    ensure!(user.run(&["logs", "again", "-p", "--tail=1"])? == "run 2 fails\n");
    let before =
        user.pod("again")?["status"]["containerStatuses"][0]["lastState"]["terminated"].clone();
    ensure!(before["exitCode"] == 2, "{before}");
    Ok(())
}

fn exec_pipes_and_codes(user: &User) -> anyhow::Result<()> {
    user.apply(&sleeper("shell"))?;
    user.wait("shell", "Running", "1/1")?;
    ensure!(user.run(&["exec", "shell", "--", "ls", "/bin/sh"])? == "/bin/sh\n");
    ensure!(
        user.pipe(
            &[
                "exec",
                "-i",
                "shell",
                "--",
                "sh",
                "-c",
                "tr a-z A-Z; echo done"
            ],
            "one\ntwo\n"
        )? == "ONE\nTWO\ndone\n"
    );
    let failed = user.fails(&["exec", "shell", "--", "sh", "-c", "echo oops >&2; exit 42"])?;
    ensure!(
        failed.code == 42 && failed.stderr.starts_with("oops\n"),
        "{failed:?}"
    );
    let missing = user.fails(&["exec", "shell", "--", "no-such-program"])?;
    ensure!(missing.stderr.contains("no-such-program"), "{missing:?}");
    user.apply(&sleeper("imageless").replace("1.36", "no-such-tag"))?;
    user.wait("imageless", "ImagePullBackOff", "0/1")?;
    let early = user.fails(&["exec", "imageless", "--", "true"])?;
    ensure!(
        early.code == 1
            && early.stderr
                == "error: unable to upgrade connection: container not found (\"main\")\n",
        "{early:?}"
    );
    let large = user.run(&[
        "exec",
        "shell",
        "--",
        "sh",
        "-c",
        "head -c 1000000 /dev/zero | tr '\\0' x",
    ])?;
    ensure!(large.len() == 1_000_000, "{} bytes came", large.len());
    Ok(())
}

fn delete_waits_for_grace(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 3
  containers: [{name: main, image: "busybox:1.36", command: [sh, -c, "trap '' TERM; while true; do sleep 0.1; done"]}]
"#,
    )?;
    user.wait("stubborn", "Running", "1/1")?;
    let asked = Instant::now();
    let said = user.run(&["delete", "pod", "stubborn"])?;
    ensure!(said.starts_with("pod \"stubborn\" deleted"), "{said}");
    let took = asked.elapsed();
    ensure!(
        (Duration::from_secs(2)..Duration::from_secs(8)).contains(&took),
        "SIGKILL comes after the grace: {took:?}"
    );
    ensure!(
        user.rows("stubborn")
            .iter()
            .any(|row| row.contains("Terminating")),
        "{:?}",
        user.rows("stubborn")
    );

    user.apply(&sleeper("forced"))?;
    user.wait("forced", "Running", "1/1")?;
    user.run(&["delete", "pod", "forced", "--grace-period=0", "--force"])?;
    ensure!(
        user.apply(&sleeper("forced"))? == "pod/forced created\n",
        "the name is free at once"
    );
    user.wait_for(&Wait {
        pod: "forced".into(),
        status: vec!["Running".into()],
        timeout: 30,
        ..Wait::default()
    })?;
    user.run(&["delete", "pods", "-l", "app=forced", "--wait=false"])?;
    user.wait_gone("forced").context("delete by label")
}
