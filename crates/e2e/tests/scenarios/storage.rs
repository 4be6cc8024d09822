//! Storage that outlives Pods: claims, the volumes they get, and what becomes of these.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("storage::outlives_pods", outlives_pods),
    ("storage::pods_wait_for_claims", pods_wait_for_claims),
];

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

/// A Pod that mounts the claim and runs a command.
fn pod(name: &str, command: &str, is_read_only: bool) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data, readOnly: {is_read_only}}}}}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "{command}; sleep 3600"]
    securityContext: {{runAsUser: 1000}}
    volumeMounts: [{{name: data, mountPath: /data}}]
"#
    )
}

fn outlives_pods(user: &User) -> anyhow::Result<()> {
    user.apply(CLAIM)?;
    let mut claims = user.watch("/api/v1", "persistentvolumeclaims");
    claims.until("Bound", |claim| {
        claim["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    })?;
    let shown = user.run(&["get", "pvc", "data"])?;
    let cells: Vec<&str> = shown
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(cells.len() == 8, "{shown}");
    let volume = cells[2].to_owned();
    ensure!(
        cells[1] == "Bound" && cells[3..6] == ["1Gi", "RWO", "standard"],
        "{shown}"
    );
    let place = user.engine().root().join("state/volumes").join(&volume);
    ensure!(place.is_dir(), "{} is not there", place.display());

    user.apply(&pod("first", "echo kept > /data/file", false))?;
    user.wait("first", "Running", "1/1")?;
    let inside = |name: &str, command: &str| user.run(&["exec", name, "--", "sh", "-c", command]);
    inside("first", "until test -s /data/file; do sleep 0.05; done")?;
    user.run(&["delete", "pod", "first"])?;
    user.apply(&pod("second", "true", true))?;
    user.wait("second", "Running", "1/1")?;
    ensure!(inside("second", "cat /data/file")? == "kept\n");
    ensure!(inside("second", "touch /data/new 2>&1 || true")?.contains("Read-only file system"));
    let told = user.run(&["describe", "pvc", "data"])?;
    ensure!(told.contains("Used By:       second"), "{told}");
    ensure!(told.contains("ProvisioningSucceeded"), "{told}");

    user.run(&["delete", "pvc", "data", "--wait=false"])?;
    let told = user.run(&["describe", "pvc", "data"])?;
    ensure!(told.contains("Status:        Terminating"), "{told}");
    ensure!(
        inside("second", "cat /data/file")? == "kept\n",
        "what is used stays"
    );
    let shown = user.run(&["get", "pv", &volume])?;
    ensure!(shown.contains("Bound"), "{shown}");
    user.run(&["delete", "pod", "second"])?;
    user.run(&["wait", "--for=delete", "pvc/data", "--timeout=20s"])?;
    user.run(&[
        "wait",
        "--for=delete",
        &format!("pv/{volume}"),
        "--timeout=20s",
    ])?;
    ensure!(!place.exists(), "its directory went before it");
    Ok(())
}

fn pods_wait_for_claims(user: &User) -> anyhow::Result<()> {
    user.apply(&pod("early", "true", false))?;
    user.wait_event("Warning FailedScheduling early: 0/1 nodes are available: persistentvolumeclaim \"data\" not found.")?;
    user.wait("early", "Pending", "0/1")?;
    user.apply(CLAIM)?;
    user.wait("early", "Running", "1/1")?;
    user.run(&["delete", "pod/early", "pvc/data"])?;
    Ok(())
}
