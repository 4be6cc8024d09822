//! Storage that outlives Pods: claims, the volumes they get, and what becomes of these.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("storage::outlives_pods", outlives_pods),
    ("storage::pods_wait_for_claims", pods_wait_for_claims),
    ("storage::claims_grow", claims_grow),
    ("storage::claims_come_with_pods", claims_come_with_pods),
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

fn claims_grow(user: &User) -> anyhow::Result<()> {
    user.apply(CLAIM)?;
    let bound = "--for=jsonpath={.status.phase}=Bound";
    user.run(&["wait", bound, "pvc/data", "--timeout=20s"])?;
    user.apply(&CLAIM.replace("1Gi", "3Gi"))?;
    let grown = "--for=jsonpath={.status.capacity.storage}=3Gi";
    user.run(&["wait", grown, "pvc/data", "--timeout=20s"])?;
    user.wait_event("Normal VolumeResizeSuccessful data: ExpandVolume succeeded for volume ")?;
    let shown = user.run(&["get", "pv"])?;
    ensure!(shown.contains(" 3Gi "), "{shown}");

    let class = format!("fixed-{}", user.namespace());
    user.apply(&format!(
        "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {class}}}
provisioner: carob.dev/directory
"
    ))?;
    let fixed = CLAIM.replace("name: data", "name: fixed");
    user.apply(&fixed.replace("spec: {", &format!("spec: {{storageClassName: {class}, ")))?;
    user.run(&["wait", bound, "pvc/fixed", "--timeout=20s"])?;
    let more = r#"--patch={"spec":{"resources":{"requests":{"storage":"3Gi"}}}}"#;
    let refused = user.fails(&["patch", "pvc", "fixed", more])?.stderr;
    let why = "persistentvolumeclaims \"fixed\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    ensure!(refused.contains(why), "{refused}");
    user.run(&["delete", "pvc/data", "pvc/fixed", &format!("sc/{class}")])?;
    Ok(())
}

/// A claim that a Pod brings along goes with it, and is nobody else's.
fn claims_come_with_pods(user: &User) -> anyhow::Result<()> {
    let template = "{spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    let brought = |name: &str| {
        let pod = pod(name, "echo kept > /data/file", false);
        let named = "persistentVolumeClaim: {claimName: data, readOnly: false}";
        pod.replace(
            named,
            &format!("ephemeral: {{volumeClaimTemplate: {template}}}"),
        )
    };
    user.apply(&brought("own"))?;
    user.wait("own", "Running", "1/1")?;
    let shown = user.run(&[
        "get",
        "pvc",
        "own-data",
        "--output=jsonpath={.metadata.ownerReferences[0].name} {.status.phase}",
    ])?;
    ensure!(shown == "own Bound", "{shown}");
    user.run(&["delete", "pod", "own"])?;
    user.run(&["wait", "--for=delete", "pvc/own-data", "--timeout=20s"])?;

    user.apply(&CLAIM.replace("name: data", "name: other-data"))?;
    user.apply(&brought("other"))?;
    user.wait_event("Warning FailedBinding other: ephemeral volume data: PVC ")?;
    user.wait_event("Warning FailedScheduling other: 0/1 nodes are available: PVC ")?;
    user.run(&["delete", "pvc/other-data", "--wait=false"])?;
    user.wait("other", "Running", "1/1")?;
    Ok(())
}
