//! Volumes of a driver (CSI): its own life on a node, and those of claims and Pods that use it.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::client::Api;
use e2e::engine::{Engine, Outside};
use e2e::provisioner::Provisioner;
use e2e::user::{Program, User};
use serde_json::Value;
use testdriver::{Call, Driver, is_mounted};
use tokio::runtime::Runtime;

use crate::services::until;

const NAME: &str = "directories.example.com";

/// The driver and its class. It wants to know of Pods, and needs no attachments.
const INSTALLED: &str = "
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: directories.example.com}
spec: {attachRequired: false, podInfoOnMount: true, fsGroupPolicy: File, volumeLifecycleModes: [Persistent, Ephemeral]}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: directories}
provisioner: directories.example.com
volumeBindingMode: WaitForFirstConsumer
mountOptions: [noatime]
parameters: {tier: gold}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: driven}
spec: {accessModes: [ReadWriteOnce], storageClassName: directories, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: driven}
stringData: {password: open}
";

const ATTACHED: &str = "attached.example.com";

/// A volume that has to be attached, and its claim.
const FIXED: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: fixed}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 1Gi}
  claimRef: {namespace: other, name: data}
  csi: {driver: attached.example.com, volumeHandle: one}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: '', volumeName: fixed, resources: {requests: {storage: 1Gi}}}
";

const INLINE: &str = "csi: {driver: directories.example.com, volumeAttributes: {size: small}, nodePublishSecretRef: {name: key}}";
const CLAIMED: &str = "persistentVolumeClaim: {claimName: data}";

/// A Pod that has such a volume, and belongs to a group.
fn pod(name: &str, volume: &str, command: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsUser: 1000, fsGroup: 2345}}
  volumes: [{{name: data, {volume}}}]
  containers:
  - name: app
    image: busybox:1.36
    command: [sh, -c, "{command}; sleep 3600"]
    volumeMounts: [{{name: data, mountPath: /data}}]
"#
    )
}

/// An engine with a driver beside it.
struct World {
    engine: Arc<Engine>,
    runtime: Arc<Runtime>,
    program: Program,
    data: tempfile::TempDir,
}

impl World {
    fn registry(&self) -> PathBuf {
        self.engine.root().join("state/kubelet/plugins_registry")
    }

    fn driver(&self, name: &str) -> anyhow::Result<Driver> {
        let data = self.data.path().join(name);
        let registry = self.registry();
        Ok(self
            .runtime
            .block_on(Driver::start(name, &registry, &data))?)
    }

    fn provisioner(&self, name: &str) -> anyhow::Result<Provisioner> {
        let kubeconfig = self.engine.kubeconfig();
        let api = self.runtime.block_on(Api::from_kubeconfig(&kubeconfig))?;
        let data = self.data.path().join(name);
        Ok(Provisioner::start(&self.runtime, &api, name, data))
    }

    fn user(&self, namespace: &str) -> anyhow::Result<User> {
        let (engine, program) = (self.engine.clone(), self.program.clone());
        User::new(engine, program, namespace, self.runtime.clone())
    }
}

/// From the driver's registration to its end.
pub(crate) fn mount_volumes(outside: &Outside) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let world = World {
        engine: Arc::new(Engine::start(outside)?),
        runtime: Arc::new(runtime),
        program: Program::Kubectl(outside.kubectl.clone()),
        data: tempfile::tempdir()?,
    };
    let played = play(&world);
    let engine = Arc::into_inner(world.engine).context("somebody still holds the engine")?;
    played?;
    engine.down()
}

fn play(world: &World) -> anyhow::Result<()> {
    let user = world.user("driven")?;
    user.apply(INSTALLED)?;
    let driver = world.driver(NAME)?;
    is_registered(&user)?;
    let provisioner = world.provisioner(NAME)?;
    let volume = claims_get_volumes(world, &user, &driver)?;
    user.leave();
    drop(provisioner);
    world.engine.stop()?;
    world.engine.up()?;
    let _provisioner = world.provisioner(NAME)?;
    let user = world.user("other")?;
    volumes_outlive_engines(world, &user, &driver, &volume)?;
    volumes_of_pods_go_with_them(&user, &driver)?;
    failures_are_told_of(world, &user, &driver)?;
    volumes_are_attached(world, &user)?;
    drop(driver);
    let mut shown = user.start(&[
        "get",
        "csinodes",
        "--watch",
        "--no-headers",
        "--request-timeout=20s",
    ])?;
    let mut lines = shown.stdout()?.lines();
    let gone = lines.any(|line| line.is_ok_and(|line| line.split_whitespace().nth(1) == Some("0")));
    ensure!(gone, "a driver without a socket stays");
    let node = user.run(&[
        "get",
        "nodes",
        "-o",
        "jsonpath={.items[0].metadata.annotations}",
    ])?;
    ensure!(!node.contains("csi.volume.kubernetes.io/nodeid"), "{node}");
    Ok(())
}

fn is_registered(user: &User) -> anyhow::Result<()> {
    let node = user.run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let made = [
        "wait",
        "--for=create",
        &format!("csinode/{node}"),
        "--timeout=20s",
    ];
    user.run(&made)?;
    let shown = user.run(&["get", "csinodes", "-o", "json"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    let found = &shown["items"][0]["spec"]["drivers"][0];
    ensure!(
        found["name"] == NAME
            && found["nodeID"] == "directories.example.com-node"
            && found["allocatable"]["count"] == 17,
        "{shown}"
    );
    let node = user.run(&["get", "nodes", "-o", "json"])?;
    let node: Value = serde_json::from_str(&node)?;
    let meta = &node["items"][0]["metadata"];
    let noted = &meta["annotations"]["csi.volume.kubernetes.io/nodeid"];
    let expected = "{\"directories.example.com\":\"directories.example.com-node\"}";
    ensure!(noted == expected, "{meta}");
    let label = &meta["labels"]["topology.directories.example.com-node/node"];
    ensure!(label == "here", "{meta}");
    Ok(())
}

/// A claim waits for a Pod, then for the driver's volume, which the Pod writes to.
fn claims_get_volumes(world: &World, user: &User, driver: &Driver) -> anyhow::Result<String> {
    user.wait_event("Normal WaitForFirstConsumer data: ")?;
    user.apply(&pod("first", CLAIMED, "echo kept > /data/file"))?;
    user.wait("first", "Running", "1/1")?;
    let inside = |command: &str| user.run(&["exec", "first", "--", "sh", "-c", command]);
    inside("until test -s /data/file; do sleep 0.05; done")?;
    ensure!(inside("stat -c %g /data /data/file")? == "2345\n2345\n");
    let volume = user.run(&["get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}"])?;
    ensure!(driver.asked(&volume) == ["NodeStageVolume", "NodePublishVolume"]);
    let calls = driver.calls();
    let [staged, published] = &calls[..] else {
        anyhow::bail!("{calls:?}")
    };
    let uid = user.run(&["get", "pod", "first", "-o", "jsonpath={.metadata.uid}"])?;
    is_told_right(world.engine.root(), staged, published, &volume, &uid)?;
    ensure!(
        std::fs::read_to_string(world.data.path().join(NAME).join(&volume).join("file"))?
            == "kept\n"
    );
    Ok(volume)
}

fn is_told_right(
    root: &Path,
    staged: &Call,
    published: &Call,
    volume: &str,
    uid: &str,
) -> anyhow::Result<()> {
    let kubelet = root.join("state/kubelet");
    let target = format!("pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount");
    ensure!(published.target == kubelet.join(target), "{published:?}");
    let plugin = kubelet.join("plugins/kubernetes.io/csi").join(NAME);
    ensure!(
        staged.staging.starts_with(&plugin) && staged.staging.ends_with("globalmount"),
        "{staged:?}"
    );
    ensure!(published.staging == staged.staging);
    let attribute = |call: &Call, key: &str| call.attributes.get(key).cloned().unwrap_or_default();
    for call in [staged, published] {
        ensure!(attribute(call, "tier") == "gold", "{call:?}");
        ensure!(
            (call.fs_type.as_str(), call.access_mode) == ("dir", 1),
            "{call:?}"
        );
        ensure!(call.options == ["noatime"], "{call:?}");
    }
    let about = |key: &str| attribute(published, &format!("csi.storage.k8s.io/{key}"));
    ensure!(
        about("pod.name") == "first" && about("pod.uid") == uid,
        "{published:?}"
    );
    ensure!(about("ephemeral") == "false" && about("serviceAccount.name") == "default");
    ensure!(attribute(staged, "csi.storage.k8s.io/pod.name").is_empty());
    Ok(())
}

/// A Pod keeps its volume while the engine is away; another shares it, and the last one gives it back.
fn volumes_outlive_engines(
    world: &World,
    user: &User,
    driver: &Driver,
    volume: &str,
) -> anyhow::Result<()> {
    let engine = &world.engine;
    let kubectl = |arguments: &[&str]| engine.kubectl([&["-n", "driven"][..], arguments].concat());
    let shown = kubectl(&["exec", "first", "--", "cat", "/data/file"])?;
    ensure!(shown == "kept\n", "{shown}");
    let second = pod("second", CLAIMED, "true")
        .replace("{name: second}", "{name: second, namespace: driven}");
    user.pipe(&["-n", "driven", "apply", "-f", "-"], &second)?;
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/second",
        "--timeout=30s",
    ])?;
    ensure!(kubectl(&["exec", "second", "--", "cat", "/data/file"])? == "kept\n");
    kubectl(&["delete", "pod", "first"])?;
    let asked = driver.asked(volume);
    ensure!(
        asked
            .last()
            .is_some_and(|last| last == "NodeUnpublishVolume"),
        "{asked:?}"
    );
    ensure!(
        kubectl(&["exec", "second", "--", "cat", "/data/file"])? == "kept\n",
        "it stays on the node"
    );
    kubectl(&["delete", "pod", "second"])?;
    let asked = driver.asked(volume);
    ensure!(
        asked.ends_with(&["NodeUnpublishVolume".into(), "NodeUnstageVolume".into()]),
        "{asked:?}"
    );
    let calls = driver.calls();
    for place in calls.iter().flat_map(|call| [&call.target, &call.staging]) {
        ensure!(
            place.as_os_str().is_empty() || !place.exists(),
            "{} stays",
            place.display()
        );
    }
    kubectl(&["delete", "pvc", "data"])?;
    kubectl(&[
        "wait",
        "--for=delete",
        &format!("pv/{volume}"),
        "--timeout=20s",
    ])?;
    Ok(())
}

fn volumes_of_pods_go_with_them(user: &User, driver: &Driver) -> anyhow::Result<()> {
    user.run(&[
        "create",
        "secret",
        "generic",
        "key",
        "--from-literal=password=open",
    ])?;
    user.apply(&pod("inline", INLINE, "echo mine > /data/file"))?;
    user.wait("inline", "Running", "1/1")?;
    let calls = driver.calls();
    let published = calls.last().context("it was asked")?;
    ensure!(
        published.method == "NodePublishVolume" && published.volume.starts_with("csi-"),
        "{published:?}"
    );
    ensure!(published.staging.as_os_str().is_empty() && is_mounted(&published.target)?);
    let of = |key: &str| published.attributes.get(key).map(String::as_str);
    ensure!(of("size") == Some("small") && of("csi.storage.k8s.io/ephemeral") == Some("true"));
    ensure!(
        published
            .secrets
            .get("password")
            .is_some_and(|word| word == "open")
    );
    user.run(&["delete", "pod", "inline"])?;
    ensure!(driver.asked(&published.volume) == ["NodePublishVolume", "NodeUnpublishVolume"]);
    ensure!(
        !published.target.exists(),
        "{} stays",
        published.target.display()
    );
    Ok(())
}

/// What a driver says is told of, and what it does at last is enough.
fn failures_are_told_of(world: &World, user: &User, driver: &Driver) -> anyhow::Result<()> {
    driver.fail("NodePublishVolume", "the disk is on fire");
    user.apply(&pod("burning", INLINE, "true"))?;
    user.wait_event("Warning FailedMount burning: MountVolume.SetUp failed for volume \"data\" : rpc error: code = Internal desc = the disk is on fire")?;
    driver.work();
    user.wait("burning", "Running", "1/1")?;
    user.run(&["delete", "pod", "burning"])?;
    let late = "late.example.com";
    let described = INSTALLED.split("---").next().unwrap_or_default();
    user.apply(&described.replace(NAME, late))?;
    user.apply(&pod("early", &INLINE.replace(NAME, late), "true"))?;
    user.wait_event("Warning FailedMount early: MountVolume.SetUp failed for volume \"data\" : kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name late.example.com not found in the list of registered CSI drivers")?;
    let comes = world.driver(late)?;
    user.wait("early", "Running", "1/1")?;
    user.run(&["delete", "pod", "early"])?;
    drop(comes);
    Ok(())
}

/// A volume is attached before it is mounted, and stays so while the node uses it.
fn volumes_are_attached(world: &World, user: &User) -> anyhow::Result<()> {
    let driver = world.driver(ATTACHED)?;
    user.apply(FIXED)?;
    user.apply(&pod("attached", CLAIMED, "true"))?;
    let listed = ["get", "volumeattachments", "-o", "name"];
    let mut shown = user.start(&[&listed[..], &["--watch", "--request-timeout=20s"]].concat())?;
    let mut lines = shown.stdout()?.lines();
    let attachment = lines.next().context("there is an attachment")??;
    let about = user.run(&["get", &attachment, "-o", "jsonpath={.spec}"])?;
    ensure!(
        about.contains(ATTACHED) && about.contains("fixed"),
        "{about}"
    );
    ensure!(driver.calls().is_empty(), "{:?}", driver.calls());
    let _attacher = world.provisioner(ATTACHED)?;
    user.wait("attached", "Running", "1/1")?;
    user.wait_event(
        "Normal SuccessfulAttachVolume attached: AttachVolume.Attach succeeded for volume \"fixed\" ",
    )?;
    let staged = driver.calls();
    let staged = staged.first().context("it was asked")?;
    let path = staged.attachment.get("path");
    ensure!(
        path.is_some_and(|path| attachment.ends_with(path)),
        "{staged:?}"
    );
    let said = |field: &str| {
        let path = format!("jsonpath={{.items[0].status.{field}}}");
        user.run(&["get", "nodes", "-o", &path])
    };
    let unique = format!("kubernetes.io/csi/{ATTACHED}^one");
    ensure!(said("volumesInUse")?.contains(&unique));
    until("the node says what is attached", || {
        Ok(said("volumesAttached")?.contains(&unique))
    })?;
    user.run(&["delete", "pod", "attached"])?;
    user.run(&["wait", "--for=delete", &attachment, "--timeout=20s"])?;
    ensure!(!said("volumesInUse")?.contains(&unique));
    ensure!(
        driver.asked("one").ends_with(&["NodeUnstageVolume".into()]),
        "it was unstaged first"
    );
    user.run(&["delete", "pvc/data", "pv/fixed"])?;
    Ok(())
}
