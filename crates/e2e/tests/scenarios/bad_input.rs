//! Bad input: the API's own words, a non-zero exit code, and nothing half-made.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("bad_input::mistakes_in_manifests", mistakes_in_manifests),
    (
        "bad_input::a_missing_config_map_holds_the_container",
        a_missing_config_map_holds_the_container,
    ),
];

/// A manifest and what the refusal must say.
const MISTAKES: &[(&str, &str)] = &[
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, imagee: x}]}}",
        "unknown field \"spec.containers[0].imagee\"",
    ),
    (
        "{apiVersion: v1, kind: Podd, metadata: {name: p}}",
        "no matches for kind \"Podd\" in version \"v1\"",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: x}, {name: a, image: x}]}}",
        "spec.containers[1].name: Duplicate value: \"a\"",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a}]}}",
        "spec.containers[0].image: Required value",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: x, ports: [{containerPort: 70000}]}]}}",
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: -1, containers: [{name: a, image: x}], activeDeadlineSeconds: 0}}",
        "spec.activeDeadlineSeconds: Invalid value: 0",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: x, volumeMounts: [{name: v, mountPath: /v}]}]}}",
        "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: Bad_Name}, spec: {containers: [{name: a, image: x}]}}",
        "metadata.name: Invalid value: \"Bad_Name\"",
    ),
];

fn mistakes_in_manifests(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for (number, (manifest, words)) in MISTAKES.iter().enumerate() {
        let file = dir.path().join(format!("{number}.yaml"));
        std::fs::write(&file, manifest)?;
        let refused = user.fails(&["apply", "-f", &file.to_string_lossy()])?;
        ensure!(
            refused.code == 1 && refused.stderr.contains(words),
            "{manifest}\nwas refused with {refused:?}"
        );
    }
    let broken = dir.path().join("broken.yaml");
    std::fs::write(
        &broken,
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n bad: [\n",
    )?;
    let refused = user.fails(&["apply", "-f", &broken.to_string_lossy()])?;
    ensure!(
        refused.stderr.contains("line "),
        "a malformed file is told with its line: {refused:?}"
    );
    ensure!(
        user.run(&["get", "pods", "-o", "name"])?.is_empty(),
        "nothing was made"
    );
    Ok(())
}

fn a_missing_config_map_holds_the_container(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: held}
spec:
  restartPolicy: Never
  containers: [{name: main, image: "busybox:1.36", command: [sh, -c, "echo $KEY"], env: [{name: KEY, valueFrom: {configMapKeyRef: {name: late, key: key}}}]}]
"#,
    )?;
    user.wait("held", "CreateContainerConfigError", "0/1")?;
    let message =
        user.pod("held")?["status"]["containerStatuses"][0]["state"]["waiting"]["message"].clone();
    ensure!(message == "configmap \"late\" not found", "{message}");
    user.run(&["create", "configmap", "late", "--from-literal=key=value"])?;
    user.wait("held", "Completed", "0/1")?;
    ensure!(user.run(&["logs", "held"])? == "value\n");
    Ok(())
}
