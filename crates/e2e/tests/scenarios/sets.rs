//! StatefulSets, whose Pods have names of their own.

use anyhow::{Context, ensure};
use e2e::user::{User, Watching};
use serde_json::Value;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("sets::pods_keep_their_names", pods_keep_their_names),
    ("sets::sizes_change_from_the_end", sizes_change_from_the_end),
    (
        "sets::the_last_pod_is_updated_first",
        the_last_pod_is_updated_first,
    ),
    ("sets::deletions_are_waited_for", deletions_are_waited_for),
    ("sets::pods_need_not_wait", pods_need_not_wait),
    ("sets::pods_keep_their_claims", pods_keep_their_claims),
];

pub(crate) const OLD: &str = "busybox:1.36";
pub(crate) const NEW: &str = "busybox:1.37";
const WITHIN: &str = "--timeout=60s";

/// Pods that end as soon as they are told to.
pub(crate) fn template(label: &str, image: &str) -> String {
    format!(
        r#"
  selector: {{matchLabels: {{app: {label}}}}}
  template:
    metadata: {{labels: {{app: {label}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: "{image}"
        command: [sh, -c, 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done']
"#
    )
}

/// A StatefulSet `db` of Service `peers`.
pub(crate) fn db(spec: &str, image: &str) -> String {
    let (head, template) = (
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: peers",
        template("db", image),
    );
    format!("{head}\n  {spec}{template}")
}

/// The Service, and a Pod that asks for names.
const PEERS: &str = r#"
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: db}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: "debian:12", command: [sleep, "3600"]}]
"#;

/// `db-0 new` before it is bound, `db-0 ready`, `db-0 going` when its deletion was asked for; otherwise its name.
pub(crate) fn state(pod: &Value) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let word = if !pod["metadata"]["deletionTimestamp"].is_null() {
        " going"
    } else if pod["spec"]["nodeName"].is_null() {
        " new"
    } else if conditions.any(|c| c["type"] == "Ready" && c["status"] == "True") {
        " ready"
    } else {
        ""
    };
    format!("{name}{word}")
}

/// Follows the set's Pods: each of the states comes after the one before it, or is not found.
fn follow(pods: &mut Watching, states: &[&str]) -> anyhow::Result<()> {
    for wanted in states {
        pods.until(wanted, state)
            .with_context(|| format!("{wanted} in {states:?}"))?;
    }
    Ok(())
}

pub(crate) fn get(user: &User, objects: &str, path: &str) -> anyhow::Result<String> {
    let output = format!("jsonpath={path}");
    user.run(&["get", objects, "-o", &output])
}

/// Waits until a field of an object is this.
pub(crate) fn until(user: &User, object: &str, field: &str, value: &str) -> anyhow::Result<()> {
    let condition = format!("--for=jsonpath={{{field}}}={value}");
    user.run(&["wait", &condition, object, WITHIN]).map(drop)
}

/// UIDs of all Pods, in the order of their names; those that are going say since when.
pub(crate) fn uids(user: &User) -> anyhow::Result<String> {
    let each = "{range .items[*]}{.metadata.uid}{.metadata.deletionTimestamp} {end}";
    get(user, "pods", each)
}

/// Images of all Pods, in the order of their names.
pub(crate) fn images(user: &User) -> anyhow::Result<String> {
    get(user, "pods", "{.items[*].spec.containers[0].image}")
}

/// The rollout is over, and its last line is this.
pub(crate) fn rolled_out(user: &User, set: &str, done: &str) -> anyhow::Result<()> {
    let said = user.run(&["rollout", "status", set, WITHIN])?;
    ensure!(said.lines().last() == Some(done), "{said}");
    Ok(())
}

pub(crate) fn says(user: &User, arguments: &[&str], line: &str) -> anyhow::Result<()> {
    let said = user.run(arguments)?;
    ensure!(said.trim_end() == line, "{arguments:?}: {said}");
    Ok(())
}

fn refused(user: &User, arguments: &[&str], words: &str) -> anyhow::Result<()> {
    let refused = user.fails(arguments)?;
    ensure!(
        refused.code == 1 && refused.stderr.trim_end() == format!("error: {words}"),
        "{arguments:?} was refused with {refused:?}"
    );
    Ok(())
}

/// The numbers that `rollout history` tells.
pub(crate) fn revisions(user: &User, set: &str) -> anyhow::Result<Vec<String>> {
    let history = user.run(&["rollout", "history", set])?;
    let rows = history.lines().filter(|line| !line.is_empty()).skip(2);
    let numbers = rows.filter_map(|row| row.split_whitespace().next());
    Ok(numbers.map(str::to_owned).collect())
}

fn pods_keep_their_names(user: &User) -> anyhow::Result<()> {
    let mut pods = user.watch("/api/v1", "pods");
    let made = user.apply(&(db("replicas: 2", OLD) + PEERS))?;
    ensure!(
        made == "statefulset.apps/db created\nservice/peers created\npod/client created\n",
        "{made}"
    );
    follow(&mut pods, &["db-0 ready", "db-1 new", "db-1 ready"])?;
    until(user, "sts/db", ".status.availableReplicas", "2")?;
    let row = user.run(&["get", "sts", "db", "--no-headers"])?;
    ensure!(row.starts_with("db ") && row.contains(" 2/2 "), "{row}");
    user.wait_event("Normal SuccessfulCreate db: Create Pod db-1 in StatefulSet db successful")?;
    for (ordinal, pod) in ["db-0", "db-1"].iter().enumerate() {
        let revision = get(user, "sts/db", "{.status.currentRevision}")?;
        let labels = &user.pod(pod)?["metadata"]["labels"];
        ensure!(
            labels["statefulset.kubernetes.io/pod-name"] == *pod
                && labels["apps.kubernetes.io/pod-index"] == ordinal.to_string()
                && labels["controller-revision-hash"] == revision,
            "{labels}"
        );
        says(user, &["exec", pod, "--", "hostname"], pod)?;
    }
    user.wait("client", "Running", "1/1")?;
    let whole = format!("db-1.peers.{}.svc.cluster.local", user.namespace());
    for name in ["db-1.peers", &whole] {
        leads_to(user, name, &user.pod_ip("db-1")?)?;
    }

    let before = user.pod("db-0")?;
    // kubectl looks for the Pod and then follows its name: whoever takes that in between would be waited for.
    user.run(&["delete", "pod", "db-0", "--wait=false"])?;
    follow(&mut pods, &["db-0 going", "db-0 new", "db-0 ready"])?;
    let after = user.pod("db-0")?;
    ensure!(before["metadata"]["uid"] != after["metadata"]["uid"]);
    says(user, &["exec", "db-0", "--", "hostname"], "db-0")?;
    leads_to(user, "db-0.peers", &user.pod_ip("db-0")?)
}

/// Waits until the name leads to the address: the name server hears of changes on watches of its own.
fn leads_to(user: &User, name: &str, address: &str) -> anyhow::Result<()> {
    let asks = format!("until getent ahostsv4 {name} | grep -qwF {address}; do sleep 0.1; done");
    let asks = ["exec", "client", "--", "timeout", "20", "sh", "-c", &asks];
    user.run(&asks).map(drop)
}

fn sizes_change_from_the_end(user: &User) -> anyhow::Result<()> {
    let mut pods = user.watch("/api/v1", "pods");
    user.apply(&db("replicas: 1", OLD))?;
    follow(&mut pods, &["db-0 ready"])?;
    let first = uids(user)?;
    let scale = ["scale", "sts/db", "--replicas=3", WITHIN];
    says(user, &scale, "statefulset.apps/db scaled")?;
    follow(&mut pods, &["db-1 ready", "db-2 new", "db-2 ready"])?;
    says(
        user,
        &["scale", "sts", "db", "--replicas=1"],
        "statefulset.apps/db scaled",
    )?;
    follow(&mut pods, &["db-2 going"])?;
    pods.until_gone()?;
    follow(&mut pods, &["db-1 going"])?;
    pods.until_gone()?;
    until(user, "sts/db", ".status.replicas", "1")?;
    ensure!(uids(user)? == first, "the first stays as it was");
    let wrong = ["scale", "sts/db", "--replicas=2", "--current-replicas=5"];
    refused(user, &wrong, "Expected replicas to be 5, was 1")
}

/// With a partition, then without.
fn the_last_pod_is_updated_first(user: &User) -> anyhow::Result<()> {
    let mut pods = user.watch("/api/v1", "pods");
    user.apply(&db("replicas: 3", OLD))?;
    let done =
        |pods: i32| format!("partitioned roll out complete: {pods} new pods have been updated...");
    rolled_out(user, "sts/db", &done(3))?;
    follow(&mut pods, &["db-0 ready", "db-1 ready", "db-2 ready"])?;
    let partition = |first: i32| {
        format!(r#"{{"spec":{{"updateStrategy":{{"rollingUpdate":{{"partition":{first}}}}}}}}}"#)
    };
    user.run(&["patch", "sts", "db", "-p", &partition(2)])?;
    let main = format!("main={NEW}");
    let image = ["set", "image", "sts/db", &main];
    says(user, &image, "statefulset.apps/db image updated")?;
    rolled_out(user, "sts/db", &done(1))?;
    let seen = images(user)?;
    ensure!(seen == format!("{OLD} {OLD} {NEW}"), "{seen}");
    // Those before the partition stay what they were.
    user.run(&["delete", "pod", "db-1", "--wait=false"])?;
    let last = ["db-2 going", "db-2 new", "db-2 ready"];
    follow(&mut pods, &last)?;
    follow(&mut pods, &["db-1 going", "db-1 new", "db-1 ready"])?;
    let seen = images(user)?;
    ensure!(seen == format!("{OLD} {OLD} {NEW}"), "{seen}");

    user.run(&["patch", "sts", "db", "-p", &partition(0)])?;
    rolled_out(user, "sts/db", &done(3))?;
    let others = ["db-1 going", "db-1 new", "db-1 ready"];
    follow(&mut pods, &others)?;
    follow(&mut pods, &["db-0 going", "db-0 new", "db-0 ready"])?;
    until(user, "sts/db", ".status.currentReplicas", "3")?;
    ensure!(revisions(user, "sts/db")? == ["1", "2"]);
    let shown = user.run(&["rollout", "history", "sts/db", "--revision=1"])?;
    let image = format!("    Image:\t{OLD}\n");
    ensure!(
        shown.starts_with("statefulset.apps/db with revision #1\n") && shown.contains(&image),
        "{shown}"
    );

    let undo = ["rollout", "undo", "sts/db"];
    says(user, &undo, "statefulset.apps/db rolled back")?;
    rolled_out(user, "sts/db", &done(3))?;
    follow(&mut pods, &last)?;
    follow(&mut pods, &others)?;
    follow(&mut pods, &["db-0 going", "db-0 new", "db-0 ready"])?;
    ensure!(images(user)? == [OLD; 3].join(" "));
    // What is there again has another number.
    ensure!(revisions(user, "sts/db")? == ["2", "3"]);
    Ok(())
}

fn deletions_are_waited_for(user: &User) -> anyhow::Result<()> {
    let spec = "replicas: 2\n  updateStrategy: {type: OnDelete}";
    user.apply(&db(spec, OLD))?;
    until(user, "sts/db", ".status.readyReplicas", "2")?;
    let before = uids(user)?;
    user.apply(&db(spec, NEW))?;
    until(user, "sts/db", ".status.observedGeneration", "2")?;
    ensure!(revisions(user, "sts/db")? == ["1", "2"]);
    refused(
        user,
        &["rollout", "status", "sts/db"],
        "rollout status is only available for RollingUpdate strategy type",
    )?;
    ensure!(uids(user)? == before, "nobody has deleted them");
    user.run(&["delete", "pod", "db-0", "--wait=false"])?;
    until(user, "sts/db", ".status.updatedReplicas", "1")?;
    until(user, "sts/db", ".status.readyReplicas", "2")?;
    let seen = images(user)?;
    ensure!(seen == format!("{NEW} {OLD}"), "{seen}");
    let (before, after) = (before, uids(user)?);
    ensure!(
        before.split(' ').nth(1) == after.split(' ').nth(1),
        "{before} became {after}"
    );
    Ok(())
}

/// None of them can start, and all of them are there.
fn pods_need_not_wait(user: &User) -> anyhow::Result<()> {
    let mut pods = user.watch("/api/v1", "pods");
    let spec = "replicas: 3\n  podManagementPolicy: Parallel";
    let set = db(spec, "busybox:no-such-tag");
    user.apply(&set)?;
    until(user, "sts/db", ".status.replicas", "3")?;
    ensure!(get(user, "sts/db", "{.status.readyReplicas}")?.is_empty());
    for pod in ["db-0", "db-1", "db-2"] {
        user.pod(pod)?;
    }
    let none = ["scale", "sts/db", "--replicas=0"];
    says(user, &none, "statefulset.apps/db scaled")?;
    for _ in 0..3 {
        pods.until_gone()?;
    }
    until(user, "sts/db", ".status.replicas", "0")?;
    ensure!(uids(user)?.is_empty());
    Ok(())
}

/// The claim of a Pod is there before it, and stays for the next Pod of its name, unless the set says otherwise.
fn pods_keep_their_claims(user: &User) -> anyhow::Result<()> {
    let sized = |replicas: usize, scaled: &str| {
        let policy = format!("{{whenScaled: {scaled}, whenDeleted: Delete}}");
        let spec = format!(
            "replicas: {replicas}\n  persistentVolumeClaimRetentionPolicy: {policy}\n  volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}]"
        );
        let mount =
            format!("image: \"{OLD}\"\n        volumeMounts: [{{name: data, mountPath: /data}}]");
        db(&spec, OLD).replace(&format!("image: \"{OLD}\""), &mount)
    };
    let in_pod = |pod: &str, command: &str| user.run(&["exec", pod, "--", "sh", "-c", command]);
    let claims = || user.run(&["get", "pvc", "--output=jsonpath={.items[*].metadata.name}"]);
    let gone = |what: &str| user.run(&["wait", "--for=delete", what, WITHIN]);
    user.apply(&sized(2, "Retain"))?;
    user.run(&["rollout", "status", "sts/db", WITHIN])?;
    ensure!(claims()? == "data-db-0 data-db-1");
    user.wait_event(
        "Normal SuccessfulCreate db: Create Claim data-db-0 Pod db-0 in StatefulSet db success",
    )?;
    in_pod("db-1", "echo kept > /data/file")?;

    user.run(&["scale", "sts/db", "--replicas=1"])?;
    gone("pod/db-1")?;
    ensure!(claims()? == "data-db-0 data-db-1", "kept for another");
    user.run(&["scale", "sts/db", "--replicas=2"])?;
    user.run(&["rollout", "status", "sts/db", WITHIN])?;
    ensure!(in_pod("db-1", "cat /data/file")? == "kept\n");

    user.apply(&sized(1, "Delete"))?;
    gone("pvc/data-db-1")?;
    ensure!(claims()? == "data-db-0");
    user.apply(&sized(2, "Delete"))?;
    user.run(&["rollout", "status", "sts/db", WITHIN])?;
    ensure!(
        in_pod("db-1", "ls /data")?.is_empty(),
        "it is another claim"
    );

    user.run(&["delete", "sts", "db"])?;
    for claim in ["pvc/data-db-0", "pvc/data-db-1"] {
        gone(claim)?;
    }
    Ok(())
}
