//! Init containers: order, failure, data for the app, logs.

use anyhow::ensure;
use e2e::board::Wait;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("init::run_in_order", run_in_order),
    (
        "init::failing_is_retried_with_back_off",
        failing_is_retried_with_back_off,
    ),
    (
        "init::failing_under_never_fails_the_pod",
        failing_under_never_fails_the_pod,
    ),
    ("init::prepares_a_volume", prepares_a_volume),
    ("init::runs_once_per_sandbox", runs_once_per_sandbox),
    ("init::logs_of_every_state", logs_of_every_state),
];

fn run_in_order(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: out, emptyDir: {}}]
  initContainers:
  - {name: first, image: "busybox:1.36", command: [sh, -c, "echo first >> /out/order; sleep 0.3"], volumeMounts: [{name: out, mountPath: /out}]}
  - {name: second, image: "busybox:1.36", command: [sh, -c, "echo second >> /out/order; sleep 0.3"], volumeMounts: [{name: out, mountPath: /out}]}
  - {name: third, image: "busybox:1.36", command: [sh, -c, "echo third >> /out/order; sleep 0.3"], volumeMounts: [{name: out, mountPath: /out}]}
  containers:
  - {name: app, image: "busybox:1.36", command: [sh, -c, "echo app >> /out/order; sleep 3600"], volumeMounts: [{name: out, mountPath: /out}]}
"#,
    )?;
    user.wait("ordered", "Running", "1/1")?;
    let all = "until grep app /out/order > /dev/null; do sleep 0.05; done; cat /out/order";
    let order = user.run(&["exec", "ordered", "-c", "app", "--", "sh", "-c", all])?;
    ensure!(
        order == "first\nsecond\nthird\napp\n",
        "they ran as {order:?}"
    );
    let rows = user.rows("ordered");
    let states: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.split(' ').nth(1))
        .collect();
    let wanted = ["Init:0/3", "Init:1/3", "Init:2/3", "Running"];
    let places: Vec<_> = wanted
        .iter()
        .map(|state| states.iter().position(|seen| seen == state))
        .collect();
    ensure!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "the watch showed {rows:?}"
    );
    let reasons = user.run(&[
        "get",
        "pod",
        "ordered",
        "-o",
        "jsonpath={.status.initContainerStatuses[*].state.terminated.reason}",
    ])?;
    ensure!(reasons == "Completed Completed Completed", "{reasons}");
    Ok(())
}

fn failing_is_retried_with_back_off(user: &User) -> anyhow::Result<()> {
    user.apply(&failing("retried", "Always"))?;
    user.wait_for(&Wait {
        pod: "retried".into(),
        status: vec!["Init:CrashLoopBackOff".into()],
        restarts: Some(1),
        timeout: 40,
        ..Wait::default()
    })?;
    let pod = user.pod("retried")?;
    ensure!(pod["status"]["phase"] == "Pending");
    ensure!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing",
        "the app must not have started"
    );
    ensure!(
        user.rows("retried")
            .iter()
            .any(|row| row.contains("Init:Error")),
        "{:?}",
        user.rows("retried")
    );
    let events = user.events()?;
    ensure!(
        events.iter().any(|event| event
            .starts_with("Warning BackOff retried: Back-off restarting failed container")),
        "{events:?}"
    );
    Ok(())
}

fn failing_under_never_fails_the_pod(user: &User) -> anyhow::Result<()> {
    user.apply(&failing("never", "Never"))?;
    user.wait("never", "Init:Error", "0/1")?;
    user.wait_phase("never", "Failed")?;
    let pod = user.pod("never")?;
    ensure!(pod["status"]["phase"] == "Failed", "{}", pod["status"]);
    ensure!(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3);
    ensure!(pod["status"]["initContainerStatuses"][0]["restartCount"] == 0);
    Ok(())
}

fn failing(name: &str, policy: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 1
  initContainers: [{{name: fails, image: "busybox:1.36", command: [sh, -c, "echo trying; exit 3"]}}]
  containers: [{{name: app, image: "busybox:1.36", command: [sleep, "3600"]}}]
"#
    )
}

fn prepares_a_volume(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: prepared}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: site, emptyDir: {}}]
  initContainers:
  - name: write
    image: busybox:1.36
    env: [{name: GREETING, value: "hello from $(WHO)"}, {name: WHO, value: init}]
    command: [sh, -c, "echo $GREETING > /site/index.html; mkdir /site/private; chmod 700 /site/private; chown 33:33 /site/index.html"]
    resources: {limits: {memory: 64Mi, cpu: 200m}}
    volumeMounts: [{name: site, mountPath: /site}]
  containers:
  - name: web
    image: nginx:latest
    volumeMounts: [{name: site, mountPath: /usr/share/nginx/html}]
"#,
    )?;
    user.wait("prepared", "Running", "1/1")?;
    let page = crate::shared::http_get(&user.pod_ip("prepared")?, 80, "/")?;
    ensure!(
        page.ends_with("hello from $(WHO)\n"),
        "a variable defined later is not expanded: {page}"
    );
    let listing = user.run(&[
        "exec",
        "prepared",
        "--",
        "ls",
        "-ln",
        "/usr/share/nginx/html",
    ])?;
    ensure!(
        listing.contains("33       33") || listing.contains("33 33"),
        "{listing}"
    );
    ensure!(listing.contains("drwx------"), "{listing}");
    Ok(())
}

fn runs_once_per_sandbox(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: out, emptyDir: {}}]
  initContainers:
  - {name: init, image: "busybox:1.36", command: [sh, -c, "echo ran >> /out/runs"], volumeMounts: [{name: out, mountPath: /out}]}
  containers:
  - {name: app, image: "busybox:1.36", command: [sh, -c, "sleep 1; test -e /out/stop || { touch /out/stop; exit 1; }; sleep 3600"], volumeMounts: [{name: out, mountPath: /out}]}
"#,
    )?;
    user.wait_for(&Wait {
        pod: "once".into(),
        status: vec!["Running".into()],
        restarts: Some(1),
        timeout: 40,
        ..Wait::default()
    })?;
    let runs = user.run(&["exec", "once", "--", "cat", "/out/runs"])?;
    ensure!(runs == "ran\n", "the init container ran as {runs:?}");
    Ok(())
}

fn logs_of_every_state(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: talk}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: gate, emptyDir: {}}]
  initContainers:
  - {name: done, image: "busybox:1.36", command: [echo, finished]}
  - {name: waits, image: "busybox:1.36", command: [sh, -c, "echo waiting; until [ -e /gate/open ]; do sleep 0.1; done"], volumeMounts: [{name: gate, mountPath: /gate}]}
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"]}
"#,
    )?;
    user.wait("talk", "Init:1/2", "0/1")?;
    // The row reads so from the end of the first, before the second has started.
    user.engine().kubectl([
        "-n",
        user.namespace(),
        "wait",
        "--for=jsonpath={.status.initContainerStatuses[1].state.running.startedAt}",
        "pod/talk",
        "--timeout=30s",
    ])?;
    ensure!(user.run(&["logs", "talk", "-c", "done"])? == "finished\n");
    let refused = user.fails(&["logs", "talk", "-c", "app"])?;
    ensure!(
        refused
            .stderr
            .contains("container \"app\" in pod \"talk\" is waiting to start: PodInitializing"),
        "{}",
        refused.stderr
    );
    let running = user.pod("talk")?;
    ensure!(running["status"]["initContainerStatuses"][1]["state"]["running"].is_object());
    user.run(&["exec", "talk", "-c", "waits", "--", "touch", "/gate/open"])?;
    user.wait("talk", "Running", "1/1")?;
    ensure!(user.run(&["logs", "talk", "-c", "waits"])? == "waiting\n");
    let refused = user.fails(&["logs", "talk", "-c", "done", "--previous"])?;
    ensure!(
        refused
            .stderr
            .contains("previous terminated container \"done\" in pod \"talk\" not found"),
        "{}",
        refused.stderr
    );
    Ok(())
}
