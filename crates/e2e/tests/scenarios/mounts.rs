//! How volumes are mounted: read-only, parts of them, and what is mounted later, on which side.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use e2e::user::User;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("mounts::parts_by_the_pods_name", parts_by_the_pods_name),
    ("mounts::propagation", propagation),
];

fn inside(user: &User, container: &str, command: &str) -> anyhow::Result<String> {
    user.run(&["exec", "mounts", "-c", container, "--", "sh", "-c", command])
}

/// Each container has its own part of one volume; a part that leads out is refused, and nobody writes to what is read-only.
fn parts_by_the_pods_name(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: mounts}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - name: prepare
    image: busybox:1.36
    command: [sh, -c, "mkdir /data/fixed && echo kept > /data/fixed/file && ln -s /etc /data/out"]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: own
    image: busybox:1.36
    command: [sh, -c, "echo $POD > /own/name; sleep 3600"]
    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts: [{name: data, mountPath: /own, subPathExpr: logs/$(POD)}]
  - name: reader
    image: busybox:1.36
    command: [sleep, "3600"]
    volumeMounts:
    - {name: data, mountPath: /data, readOnly: true}
    - {name: data, mountPath: /file, subPath: fixed/file}
"#,
    )?;
    user.wait("mounts", "Running", "2/2")?;
    let name = "timeout 20 sh -c 'until [ -s /data/logs/mounts/name ]; do sleep 0.01; done'; cat /data/logs/mounts/name /file";
    ensure!(inside(user, "reader", name)? == "mounts\nkept\n");
    let refused = inside(user, "reader", "sh -c 'echo x > /data/new' 2>&1 || true")?;
    ensure!(refused.contains("Read-only file system"), "{refused}");
    inside(user, "reader", "echo changed > /file")?;
    ensure!(inside(user, "reader", "cat /data/fixed/file")? == "changed\n");

    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: escape}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - name: prepare
    image: busybox:1.36
    command: [ln, -s, /etc, /data/out]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sleep, "3600"]
    volumeMounts: [{name: data, mountPath: /stolen, subPath: out}]
"#,
    )?;
    user.wait("escape", "CreateContainerConfigError", "0/1")?;
    user.wait_event(
        "Warning Failed escape: Error: failed to prepare subPath for volumeMount \"data\"",
    )
}

/// Mounts of this test, gone with it.
struct Mounted(Vec<PathBuf>);

impl Mounted {
    fn tmpfs(&mut self, place: &Path) -> anyhow::Result<()> {
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), None)
            .with_context(|| format!("mount {}", place.display()))?;
        self.0.push(place.to_owned());
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for place in self.0.iter().rev() {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
}

/// What is mounted on the node later is seen by those who ask for that, and what a container mounts is seen on the node by its leave only.
fn propagation(user: &User) -> anyhow::Result<()> {
    let shared = tempfile::tempdir()?;
    let place = shared.path();
    let mut mounted = Mounted(Vec::new());
    mounted.tmpfs(place)?;
    mount_change(place, MountPropagationFlags::SHARED)?;
    std::fs::create_dir(place.join("node"))?;
    std::fs::create_dir(place.join("pod"))?;
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: mounts}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: shared, hostPath: {{path: {}, type: Directory}}}}]
  containers:
  - name: both
    image: busybox:1.36
    command: [sleep, "3600"]
    securityContext: {{privileged: true}}
    volumeMounts: [{{name: shared, mountPath: /shared, mountPropagation: Bidirectional}}]
  - name: from-node
    image: busybox:1.36
    command: [sleep, "3600"]
    volumeMounts: [{{name: shared, mountPath: /shared, mountPropagation: HostToContainer}}]
  - name: alone
    image: busybox:1.36
    command: [sleep, "3600"]
    volumeMounts: [{{name: shared, mountPath: /shared, mountPropagation: None}}]
"#,
        place.display()
    ))?;
    user.wait("mounts", "Running", "3/3")?;
    mounted.tmpfs(&place.join("node"))?;
    std::fs::write(place.join("node/seen"), "")?;
    inside(
        user,
        "both",
        "mount -t tmpfs tmpfs /shared/pod && touch /shared/pod/seen",
    )?;
    mounted.0.push(place.join("pod"));
    ensure!(place.join("pod/seen").exists(), "on the node");
    for (container, expected) in [
        ("both", "seen\nseen\n"),
        ("from-node", "seen\nseen\n"),
        ("alone", ""),
    ] {
        let seen = inside(user, container, "ls /shared/node; ls /shared/pod")?;
        ensure!(seen == expected, "{container} sees {seen:?}");
    }
    user.run(&["delete", "pod", "mounts"])?;
    ensure!(place.join("pod/seen").exists(), "what is on the node stays");

    let refused = user.pipe(
        &["apply", "-f", "-"],
        r#"
apiVersion: v1
kind: Pod
metadata: {name: meek}
spec:
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: app
    image: busybox:1.36
    volumeMounts: [{name: shared, mountPath: /shared, mountPropagation: Bidirectional}]
"#,
    );
    let words = format!("{:#}", refused.err().context("it was taken")?);
    ensure!(
        words
            .contains("Bidirectional mount propagation is available only to privileged containers"),
        "{words}"
    );
    Ok(())
}
