//! Volumes that a driver mounts, on the real kernel: the driver is the project's own, in this process.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use ports::clock::SystemClock;
use ports::drivers::{AccessMode, DriverEvent, DriverVolume, Drivers, FsGroup};
use ports::volumes::Volumes;
use testdriver::{Driver, is_mounted};
use tokio::sync::mpsc::UnboundedReceiver;
use volumes::LocalVolumes;

const NAME: &str = "d.example.com";

struct Node {
    root: tempfile::TempDir,
    volumes: LocalVolumes,
    events: UnboundedReceiver<DriverEvent>,
}

impl Node {
    fn new() -> Node {
        let root = tempfile::tempdir().expect("a directory");
        let volumes = LocalVolumes::new(root.path().join("kubelet"), Arc::new(SystemClock));
        let events = volumes.follow();
        Node {
            root,
            volumes,
            events,
        }
    }

    /// The same node after a crash.
    fn again(self) -> Node {
        let root = self.root;
        let volumes = LocalVolumes::new(root.path().join("kubelet"), Arc::new(SystemClock));
        let events = volumes.follow();
        Node {
            root,
            volumes,
            events,
        }
    }

    async fn driver(&self) -> Driver {
        let registry = self.root.path().join("kubelet/plugins_registry");
        let data = self.root.path().join("data");
        let started = Driver::start(NAME, &registry, &data).await;
        started.expect("it starts")
    }

    /// Waits for a driver, and says that it is registered.
    async fn welcome(&mut self) -> ports::drivers::Driver {
        match self.events.recv().await {
            Some(DriverEvent::Came { driver, answer }) => {
                answer.send(Ok(())).expect("it waits for that");
                driver
            }
            other => panic!("{other:?}"),
        }
    }
}

fn volume(handle: &str) -> DriverVolume {
    DriverVolume {
        name: format!("pv-{handle}"),
        driver: NAME.to_owned(),
        handle: handle.to_owned(),
        is_ephemeral: false,
        access_mode: AccessMode::ReadWriteOnce,
        fs_type: String::new(),
        options: Vec::new(),
        is_read_only: false,
        attributes: BTreeMap::new(),
        of_pod: BTreeMap::new(),
        attachment: BTreeMap::new(),
        stage_secrets: BTreeMap::new(),
        publish_secrets: BTreeMap::new(),
        fs_group: None,
    }
}

fn mounts_below(root: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the kernel tells");
    let root = root.display().to_string();
    table.lines().filter(|line| line.contains(&root)).count()
}

#[tokio::test]
async fn drivers_come_and_go_with_their_sockets() {
    let mut node = Node::new();
    let driver = node.driver().await;
    let told = node.welcome().await;
    assert_eq!((&*told.name, &*told.node_id), (NAME, "d.example.com-node"));
    assert_eq!(told.max_volumes, Some(17));
    assert_eq!(told.topology.len(), 1);
    drop(driver);
    let gone = node.events.recv().await;
    assert!(matches!(gone, Some(DriverEvent::Gone { name }) if name == NAME));
    let wanted = volume("v");
    let why = node.volumes.mount("a", "data", &wanted).await.unwrap_err();
    assert_eq!(
        why.to_string(),
        "MountVolume.MountDevice failed for volume \"pv-v\" : kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name d.example.com not found in the list of registered CSI drivers"
    );
    // Nothing was asked, so nothing is to be taken back.
    node.volumes.unmount("a").await.expect("there is nothing");
}

#[tokio::test]
async fn pods_share_what_is_on_the_node() {
    let mut node = Node::new();
    let driver = node.driver().await;
    node.welcome().await;
    let mut wanted = volume("v");
    wanted.fs_group = Some(FsGroup {
        gid: 4321,
        is_given: true,
        trusts_root: false,
    });
    let mut places = Vec::new();
    for uid in ["a", "b", "a"] {
        let mounted = node.volumes.mount(uid, "data", &wanted).await;
        places.push(mounted.expect("it is mounted"));
    }
    assert_eq!(places[0], places[2]);
    std::fs::write(places[0].join("file"), "x").expect("it can be written to");
    assert_eq!(
        std::fs::read_to_string(places[1].join("file")).expect("it is the same"),
        "x"
    );
    let about = std::fs::metadata(&places[0]).expect("it is there");
    assert_eq!((about.gid(), about.mode() & 0o2070), (4321, 0o2070));
    let sub = node
        .volumes
        .ensure_sub_path("a", "data", "file", "c", 0)
        .await;
    assert_eq!(
        std::fs::read_to_string(sub.expect("a part of it")).expect("a file"),
        "x"
    );

    // Also what an earlier agent has mounted.
    let mut node = node.again();
    node.welcome().await;
    let staging = driver.calls()[0].staging.clone();
    for (uid, stays) in [("a", true), ("b", false)] {
        node.volumes.unmount(uid).await.expect("it goes");
        node.volumes
            .teardown(uid)
            .await
            .expect("its directory goes");
        assert_eq!(is_mounted(&staging).expect("the kernel tells"), stays);
    }
    let last: Vec<String> = driver.asked("v").into_iter().rev().take(3).collect();
    assert_eq!(
        last,
        [
            "NodeUnstageVolume",
            "NodeUnpublishVolume",
            "NodeUnpublishVolume"
        ]
    );
    assert_eq!(
        driver.asked("v")[..3],
        ["NodeStageVolume", "NodePublishVolume", "NodeStageVolume"]
    );
    assert!(!staging.exists());
    assert_eq!(mounts_below(node.root.path()), 0);
}

#[tokio::test]
async fn what_a_driver_refuses_leaves_nothing() {
    let mut node = Node::new();
    let driver = node.driver().await;
    node.welcome().await;
    driver.fail("NodeStageVolume", "no");
    let why = node
        .volumes
        .mount("a", "data", &volume("v"))
        .await
        .unwrap_err();
    assert_eq!(
        why.to_string(),
        "MountVolume.MountDevice failed for volume \"pv-v\" : rpc error: code = Internal desc = no"
    );
    driver.work();
    driver.fail("NodePublishVolume", "not yet");
    let why = node
        .volumes
        .mount("b", "data", &volume("v"))
        .await
        .unwrap_err();
    assert_eq!(
        why.to_string(),
        "MountVolume.SetUp failed for volume \"pv-v\" : rpc error: code = Internal desc = not yet"
    );
    // It was brought to the node for one, and for the other not even that.
    for (uid, expected) in [("a", 1), ("b", 3)] {
        node.volumes.unmount(uid).await.expect("it goes");
        assert_eq!(driver.asked("v").len(), expected, "{:?}", driver.asked("v"));
    }
    assert_eq!(mounts_below(node.root.path()), 0);
}

#[tokio::test]
async fn volumes_of_one_pod_are_not_staged() {
    let mut node = Node::new();
    let driver = node.driver().await;
    node.welcome().await;
    let mut wanted = volume("v");
    (wanted.is_ephemeral, wanted.is_read_only) = (true, true);
    let place = node.volumes.mount("a", "data", &wanted).await;
    let place = place.expect("it is mounted");
    assert!(
        std::fs::write(place.join("file"), "x").is_err(),
        "it is read-only"
    );
    driver.fail("NodeUnpublishVolume", "busy");
    let why = node.volumes.unmount("a").await.unwrap_err().to_string();
    assert!(
        why.ends_with("rpc error: code = Internal desc = busy"),
        "{why}"
    );
    driver.work();
    node.volumes.unmount("a").await.expect("it goes");
    assert_eq!(
        driver.asked("v"),
        ["NodePublishVolume", "NodeUnpublishVolume"]
    );
    assert!(!place.exists());
}
