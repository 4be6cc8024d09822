//! Jobs: Pods that are to succeed so many times.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("jobs::sidecars_hold_no_job_back", sidecars_hold_no_job_back),
    ("jobs::each_index_succeeds_once", each_index_succeeds_once),
    ("jobs::failures_have_a_limit", failures_have_a_limit),
    ("jobs::a_job_rests_and_goes_on", a_job_rests_and_goes_on),
    ("jobs::what_is_over_goes_in_time", what_is_over_goes_in_time),
    ("jobs::a_schedule_makes_jobs", a_schedule_makes_jobs),
    ("jobs::bad_jobs_are_refused", bad_jobs_are_refused),
];

/// A Job whose container runs this script.
fn job(name: &str, spec: &str, init: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {spec}
  template:
    metadata: {{labels: {{of: {name}}}}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      initContainers: [{init}]
      containers: [{{name: work, image: "busybox:1.36", command: [sh, -c, '{script}']}}]
"#
    )
}

/// Waits until the Job's condition of this type is True.
fn wait(user: &User, name: &str, condition: &str) -> anyhow::Result<()> {
    let condition = format!("--for=condition={condition}");
    let job = format!("job/{name}");
    user.run(&["wait", &condition, &job, "--timeout=60s"])
        .map(drop)
}

/// What the Job's status says.
fn status(user: &User, name: &str, path: &str) -> anyhow::Result<String> {
    let path = format!("jsonpath={{.status.{path}}}");
    user.run(&["get", "job", name, "-o", &path])
}

fn pods(user: &User, name: &str) -> anyhow::Result<Vec<String>> {
    let selector = format!("of={name}");
    let pods = user.run(&["get", "pods", "-l", &selector, "-o", "name"])?;
    Ok(pods.lines().map(str::to_owned).collect())
}

fn sidecars_hold_no_job_back(user: &User) -> anyhow::Result<()> {
    let sidecar = r#"{name: side, image: "busybox:1.36", restartPolicy: Always, command: [sh, -c, 'trap "exit 0" TERM; while :; do sleep 1; done']}"#;
    user.apply(&job("j", "completions: 2", sidecar, "echo worked"))?;
    wait(user, "j", "Complete")?;
    ensure!(status(user, "j", "succeeded")? == "2");
    ensure!(
        user.run(&["logs", "-l", "of=j", "-c", "work"])?
            .contains("worked")
    );
    let row = user.run(&["get", "job", "j", "--no-headers"])?;
    ensure!(row.contains("Complete") && row.contains("2/2"), "{row}");
    let pods = pods(user, "j")?;
    ensure!(pods.len() == 2, "{pods:?}");
    // They go with it.
    user.run(&["delete", "job", "j"])?;
    for pod in pods {
        user.wait_gone(pod.trim_start_matches("pod/"))?;
    }
    Ok(())
}

fn each_index_succeeds_once(user: &User) -> anyhow::Result<()> {
    let spec = "completionMode: Indexed\n  completions: 3\n  parallelism: 2";
    user.apply(&job(
        "j",
        spec,
        "",
        "echo index $JOB_COMPLETION_INDEX at $(hostname)",
    ))?;
    wait(user, "j", "Complete")?;
    ensure!(status(user, "j", "completedIndexes")? == "0-2");
    let logs = user.run(&["logs", "-l", "of=j"])?;
    for index in 0..3 {
        let line = format!("index {index} at j-{index}");
        ensure!(logs.lines().filter(|l| *l == line).count() == 1, "{logs}");
    }
    Ok(())
}

fn failures_have_a_limit(user: &User) -> anyhow::Result<()> {
    user.apply(&job("j", "backoffLimit: 0", "", "exit 3"))?;
    wait(user, "j", "Failed")?;
    ensure!(status(user, "j", "failed")? == "1");
    let reason = status(user, "j", r#"conditions[?(@.type=="Failed")].reason"#)?;
    ensure!(reason == "BackoffLimitExceeded", "{reason}");
    user.wait_event("Warning BackoffLimitExceeded j:")?;
    let rule = r#"podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [3]}}]}"#;
    user.apply(&job("policy", rule, "", "exit 3"))?;
    wait(user, "policy", "Failed")?;
    let reason = status(user, "policy", r#"conditions[?(@.type=="Failed")].reason"#)?;
    ensure!(reason == "PodFailurePolicy", "{reason}");
    Ok(())
}

fn a_job_rests_and_goes_on(user: &User) -> anyhow::Result<()> {
    user.apply(&job("j", "suspend: true", "", "echo on"))?;
    wait(user, "j", "Suspended")?;
    ensure!(pods(user, "j")?.is_empty());
    let resume = r#"{"spec":{"suspend":false}}"#;
    user.run(&["patch", "job", "j", "-p", resume])?;
    wait(user, "j", "Complete")?;
    ensure!(status(user, "j", r#"conditions[?(@.type=="Suspended")].status"#)? == "False");
    Ok(())
}

fn what_is_over_goes_in_time(user: &User) -> anyhow::Result<()> {
    let mut watching = user.watch("/apis/batch/v1", "jobs?fieldSelector=metadata.name=j");
    user.apply(&job("j", "ttlSecondsAfterFinished: 1", "", "true"))?;
    watching.until("Complete", |job| {
        let conditions = job["status"]["conditions"].as_array();
        let last = conditions.and_then(|all| all.last());
        last.map_or("", |c| c["type"].as_str().unwrap_or_default())
            .to_owned()
    })?;
    watching.until_gone()?;
    ensure!(pods(user, "j")?.is_empty(), "Pods go before it");
    Ok(())
}

fn a_schedule_makes_jobs(user: &User) -> anyhow::Result<()> {
    let mut watching = user.watch("/apis/batch/v1", "cronjobs?fieldSelector=metadata.name=c");
    user.apply(
        r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: c}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: work, image: "busybox:1.36", command: ["true"]}]
"#,
    )?;
    user.run(&["create", "job", "now", "--from=cronjob/c"])?;
    wait(user, "now", "Complete")?;
    // The next minute makes one by itself.
    watching.until("a time", |cron| {
        let has_come = cron["status"]["lastScheduleTime"].is_string();
        if has_come { "a time" } else { "" }.to_owned()
    })?;
    let jobs = user.run(&["get", "jobs", "-o", "name"])?;
    let made = jobs
        .lines()
        .filter_map(|name| name.strip_prefix("job.batch/c-"));
    let made: Vec<&str> = made.collect();
    ensure!(!made.is_empty(), "{jobs}");
    wait(user, &format!("c-{}", made[0]), "Complete")?;
    user.wait_event("Normal SawCompletedJob c:")?;
    user.run(&["delete", "cronjob", "c"]).map(drop)
}

fn refused(user: &User, manifest: &str, words: &str) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("job.yaml");
    std::fs::write(&file, manifest)?;
    let failure = user.fails(&["apply", "-f", &file.to_string_lossy()])?;
    ensure!(
        failure.code == 1 && failure.stderr.contains(words),
        "{manifest}\nwas refused with {failure:?}"
    );
    Ok(())
}

fn bad_jobs_are_refused(user: &User) -> anyhow::Result<()> {
    let mistakes = [
        (
            "completions: -1",
            "spec.completions: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "completionMode: Indexed\n  parallelism: 2",
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            "backoffLimitPerIndex: 1",
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
    ];
    for (spec, refusal) in mistakes {
        let manifest = job("bad", spec, "", "true");
        refused(user, &manifest, refusal)?;
    }
    let always =
        job("bad", "", "", "true").replace("restartPolicy: Never", "restartPolicy: Always");
    let refusal =
        r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#;
    refused(user, &always, refusal)?;
    ensure!(user.run(&["get", "jobs", "-o", "name"])?.is_empty());
    Ok(())
}
