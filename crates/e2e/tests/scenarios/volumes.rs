//! Volumes: shared directories, paths of the node, files from ConfigMaps and Secrets, images.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use anyhow::ensure;
use e2e::board::Wait;
use e2e::user::User;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "volumes::empty_dir_lives_as_long_as_the_pod",
        empty_dir_lives_as_long_as_the_pod,
    ),
    ("volumes::host_path_types", host_path_types),
    ("volumes::host_path_kinds", host_path_kinds),
    ("volumes::config_and_secret_files", config_and_secret_files),
    ("volumes::images", images),
];

fn empty_dir_lives_as_long_as_the_pod(user: &User) -> anyhow::Result<()> {
    let manifest = r#"
apiVersion: v1
kind: Pod
metadata: {name: scratch}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "echo run >> /disk/runs; test $(wc -l < /disk/runs) -ge 2 || exit 1; sleep 3600"]
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]
"#;
    user.apply(manifest)?;
    user.wait_for(&Wait {
        pod: "scratch".into(),
        status: vec!["Running".into()],
        restarts: Some(1),
        timeout: 40,
        ..Wait::default()
    })?;
    let inside = |command: &str| user.run(&["exec", "scratch", "--", "sh", "-c", command]);
    let runs = "until [ $(wc -l < /disk/runs) -ge 2 ]; do sleep 0.05; done; cat /disk/runs";
    ensure!(
        inside(runs)? == "run\nrun\n",
        "it is kept over restarts of the container"
    );
    ensure!(inside("mount | grep /memory")?.starts_with("tmpfs on /memory type tmpfs"));
    ensure!(
        inside("dd if=/dev/zero of=/memory/x bs=1024 count=2048 2>&1 | grep -c 'No space left'")?
            == "1\n",
        "the limit holds"
    );
    user.run(&["delete", "pod", "scratch"])?;
    user.apply(manifest)?;
    user.wait_for(&Wait {
        pod: "scratch".into(),
        status: vec!["Running".into()],
        restarts: Some(1),
        timeout: 40,
        ..Wait::default()
    })?;
    ensure!(
        inside(runs)? == "run\nrun\n",
        "a new Pod begins with an empty directory"
    );
    Ok(())
}

fn host_path_types(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let base = dir.path().display();
    std::fs::write(dir.path().join("file"), "from the node\n")?;
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: node-paths}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {{name: made, hostPath: {{path: {base}/made, type: DirectoryOrCreate}}}}
  - {{name: file, hostPath: {{path: {base}/file, type: File}}}}
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "cp /file /made/copy; sleep 3600"]
    volumeMounts: [{{name: made, mountPath: /made}}, {{name: file, mountPath: /file, readOnly: true}}]
"#
    ))?;
    user.wait("node-paths", "Running", "1/1")?;
    let refused = user.fails(&["exec", "node-paths", "--", "sh", "-c", "echo x > /file"])?;
    ensure!(
        refused.stderr.contains("Read-only file system"),
        "{}",
        refused.stderr
    );
    // Running says nothing of how far it has come.
    let copied =
        r#"until [ "$(cat /made/copy 2>/dev/null)" = "from the node" ]; do sleep 0.1; done"#;
    user.run(&["exec", "node-paths", "--", "sh", "-c", copied])?;
    ensure!(std::fs::read_to_string(dir.path().join("made/copy"))? == "from the node\n");
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: wrong}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: dir, hostPath: {{path: {base}/file, type: Directory}}}}]
  containers: [{{name: app, image: "busybox:1.36", command: [sleep, "3600"], volumeMounts: [{{name: dir, mountPath: /dir}}]}}]
"#
    ))?;
    user.wait("wrong", "ContainerCreating", "0/1")?;
    user.wait_event(&format!(
        "Warning FailedMount wrong: MountVolume.SetUp failed for volume \"dir\" : hostPath type check failed: {base}/file is not a directory"
    ))
}

/// Each type takes what it names, and says what it does not find.
fn host_path_kinds(user: &User) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let _listener = UnixListener::bind(at("socket"))?;
    for (name, kind, device) in [
        ("zero", FileType::CharacterDevice, makedev(1, 5)),
        ("disk", FileType::BlockDevice, makedev(7, 0)),
    ] {
        mknodat(CWD, at(name), kind, Mode::RUSR | Mode::WUSR, device)?;
    }
    let base = dir.path().display();
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: kinds}}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {{name: any, hostPath: {{path: {base}}}}}
  - {{name: socket, hostPath: {{path: {base}/socket, type: Socket}}}}
  - {{name: zero, hostPath: {{path: {base}/zero, type: CharDevice}}}}
  - {{name: disk, hostPath: {{path: {base}/disk, type: BlockDevice}}}}
  - {{name: fresh, hostPath: {{path: {base}/fresh, type: FileOrCreate}}}}
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "echo written > /fresh; sleep 3600"]
    volumeMounts: [{{name: any, mountPath: /any}}, {{name: socket, mountPath: /socket}}, {{name: zero, mountPath: /zero}}, {{name: disk, mountPath: /disk}}, {{name: fresh, mountPath: /fresh}}]
"#
    ))?;
    user.wait("kinds", "Running", "1/1")?;
    let inside = |command: &str| user.run(&["exec", "kinds", "--", "sh", "-c", command]);
    ensure!(
        inside("test -S /socket && test -c /zero && test -b /disk && cat /any/fresh")?
            == "written\n"
    );
    let mode = std::fs::metadata(at("fresh"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o644, "a file that is made has mode {mode:o}");

    let wrong = [
        ("file", "zero", "File", "is not a file"),
        ("socket", "zero", "Socket", "is not a socket file"),
        ("char", "disk", "CharDevice", "is not a character device"),
        ("block", "zero", "BlockDevice", "is not a block device"),
        ("absent", "nowhere", "Directory", "is not a directory"),
        ("made", "zero", "DirectoryOrCreate", "is not a directory"),
    ];
    for (name, path, kind, _) in wrong {
        user.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: wrong-{name}}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: it, hostPath: {{path: {base}/{path}, type: {kind}}}}}]
  containers: [{{name: app, image: "busybox:1.36", command: [sleep, "3600"], volumeMounts: [{{name: it, mountPath: /it}}]}}]
"#
        ))?;
    }
    for (name, path, _, words) in wrong {
        let says = format!(
            "MountVolume.SetUp failed for volume \"it\" : hostPath type check failed: {base}/{path} {words}"
        );
        user.wait_event(&format!("Warning FailedMount wrong-{name}: {says}"))?;
        ensure!(
            user.rows(&format!("wrong-{name}"))
                .last()
                .is_some_and(|row| row.starts_with("0/1 ContainerCreating"))
        );
    }
    Ok(())
}

fn config_and_secret_files(user: &User) -> anyhow::Result<()> {
    user.run(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=color=green",
        "--from-literal=size=large",
    ])?;
    user.run(&[
        "create",
        "secret",
        "generic",
        "keys",
        "--from-literal=token=s3cret",
    ])?;
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: configured}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: settings, configMap: {name: settings, items: [{key: color, path: deep/color, mode: 0400}]}}
  - {name: keys, secret: {secretName: keys}}
  - {name: absent, configMap: {name: not-there, optional: true}}
  containers:
  - name: app
    image: busybox:1.36
    command: [sleep, "3600"]
    env:
    - {name: SIZE, valueFrom: {configMapKeyRef: {name: settings, key: size}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    envFrom: [{configMapRef: {name: settings}, prefix: CFG_}]
    volumeMounts: [{name: settings, mountPath: /settings}, {name: keys, mountPath: /keys}, {name: absent, mountPath: /absent}]
"#,
    )?;
    user.wait("configured", "Running", "1/1")?;
    let inside = |command: &str| user.run(&["exec", "configured", "--", "sh", "-c", command]);
    ensure!(
        inside("cat /settings/deep/color; echo; stat -L -c %a /settings/deep/color; ls /settings")?
            == "green\n400\ndeep\n"
    );
    ensure!(inside("cat /keys/token; echo; mount | grep -c 'tmpfs on /keys'")? == "s3cret\n1\n");
    ensure!(inside("echo $SIZE $TOKEN $CFG_color; ls /absent")? == "large s3cret green\n");
    Ok(())
}

/// What is in an image is there for those who mount it, and what is not there is told to each of them.
fn images(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: tools}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: tools, image: {reference: "alpine:3.20"}}
  - {name: unused, image: {reference: "busybox:no-such-tag"}}
  initContainers:
  - name: first
    image: busybox:1.36
    command: [grep, -q, Alpine, /tools/etc/os-release]
    volumeMounts: [{name: tools, mountPath: /tools}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sleep, "3600"]
    volumeMounts:
    - {name: tools, mountPath: /tools}
    - {name: tools, mountPath: /part, subPath: etc}
    - {name: tools, mountPath: /etc/release, subPath: etc/os-release}
"#,
    )?;
    user.wait("tools", "Running", "1/1")?;
    let inside = |command: &str| user.run(&["exec", "tools", "--", "sh", "-c", command]);
    let files = "cmp /tools/etc/os-release /part/os-release && cmp /part/os-release /etc/release && grep -c Alpine /etc/release";
    ensure!(inside(files)? == "2\n", "the image and its parts are there");
    let refused = user.fails(&["exec", "tools", "--", "touch", "/tools/new", "/part/new"])?;
    ensure!(
        refused.stderr.matches("Read-only file system").count() == 2,
        "{}",
        refused.stderr
    );
    for start in [
        "Normal Pulled tools: ",
        "Normal Created tools: Container created",
    ] {
        user.wait_event(start)?;
    }
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: lacking}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: absent, image: {reference: "busybox:no-such-tag"}}
  containers:
  - {name: has-all, image: "busybox:1.36", command: [sleep, "3600"]}
  - {name: no-image, image: "busybox:1.36", command: [sleep, "3600"], volumeMounts: [{name: absent, mountPath: /absent}]}
"#,
    )?;
    user.wait("lacking", "ImagePullBackOff", "1/2")?;
    ensure!(
        user.rows("lacking")
            .iter()
            .any(|row| row.contains("ErrImagePull")),
        "{:?}",
        user.rows("lacking")
    );
    for start in [
        "Normal Pulling lacking: Pulling image \"busybox:no-such-tag\"",
        "Warning Failed lacking: Failed to pull image \"busybox:no-such-tag\"",
        "Normal BackOff lacking: Back-off pulling image \"busybox:no-such-tag\"",
    ] {
        user.wait_event(start)?;
    }
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: partless}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: tools, image: {reference: "alpine:3.20", pullPolicy: IfNotPresent}}]
  containers: [{name: app, image: "busybox:1.36", command: [sleep, "3600"], volumeMounts: [{name: tools, mountPath: /x, subPath: no/such}]}]
"#,
    )?;
    user.wait("partless", "CreateContainerError", "0/1")?;
    user.wait_event("Warning Failed partless: Error: ImageVolumeMountFailed: subPath \"no/such\" of image \"alpine:3.20\": no such file or directory")
}
