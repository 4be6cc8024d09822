//! Places made ahead of the Pods that take them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ports::images::ImageConfig;
use ports::runtime::{ContainerRuntime, IdMapping, NamespaceMode};
use tokio::sync::oneshot;

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::world::{POD_IP, World, within};

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        a_pod_lives_in_the_place_made_for_it,
        another_kind_of_pod_leaves_the_place,
        what_a_killed_engine_held_ready_is_given_back,
        a_container_has_the_root_made_for_it,
    ]
}

/// Keeps places ready until the sender is used.
fn keep(world: &World, count: usize) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let runtime = world.runtime().clone();
    let kept = tokio::spawn(runtime.keep_spares(count, async {
        let _ = stopped.await;
    }));
    (stop, kept)
}

async fn a_pod_lives_in_the_place_made_for_it() {
    let mut world = World::new(ImageConfig::default());
    let (stop, kept) = keep(&world, 2);
    // They are made one after another: when the second is on the network, the first can be taken, and maybe both.
    let ahead = world.attached(2).await;
    let mut config = world.sandbox_config();
    config
        .sysctls
        .insert("kernel.shm_rmid_forced".into(), "1".into());
    config.hostname = "ahead".into();
    let sandbox = world.runtime().run_sandbox(config).await.expect("sandbox");
    assert!(ahead.contains(&sandbox.id));
    assert_eq!(sandbox.ips, [POD_IP]);
    let script = "hostname; cat /proc/sys/kernel/shm_rmid_forced /sys/class/net/lo/flags; \
                  cat /proc/sys/net/ipv6/conf/default/accept_dad || echo 0; \
                  for n in net uts ipc; do readlink /proc/self/ns/$n; done";
    let id = world.script(&sandbox.id, "app", script).await;
    assert_eq!(world.exit(&id).await.0, 0);
    let log = world.log(&id).await;
    assert_eq!(
        log[..4],
        ["stdout F ahead", "stdout F 1", "stdout F 0x9", "stdout F 0"],
        "the name, a sysctl, the loopback interface, up, and no probing for addresses"
    );
    let namespaces: BTreeSet<_> = log[4..].iter().cloned().collect();
    let own = ["net", "uts", "ipc"]
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace"))
        .map(|link| format!("stdout F {}", link.display()));
    assert_eq!(namespaces.len(), 3);
    assert!(own.iter().all(|own| !namespaces.contains(own)));
    // The next one is made, and it is not the Pod's.
    let all = world.attached(3).await;
    assert!(ahead.iter().all(|id| all.contains(id)));
    stop.send(()).expect("it is kept");
    within(kept).await.expect("keeping ends");
    assert_eq!(world.attached(1).await, [&*sandbox.id]);
    // Its place is the Pod's, whoever the engine is.
    world.restart_engine().await;
    assert_eq!(world.attached(1).await, [&*sandbox.id]);
    let sandboxes = world.runtime().list_sandboxes(None).await;
    assert_eq!(sandboxes[0].ips, [POD_IP]);
    world.finish().await;
}

async fn another_kind_of_pod_leaves_the_place() {
    let world = World::new(ImageConfig::default());
    let (stop, kept) = keep(&world, 1);
    let ahead = world.attached(1).await;
    let mut config = world.sandbox_config();
    config.namespaces.ipc = NamespaceMode::Node;
    let sandbox = world.runtime().run_sandbox(config).await.expect("sandbox");
    assert_ne!(ahead, [&*sandbox.id]);
    let left = [ahead[0].clone(), sandbox.id];
    assert_eq!(world.attached(2).await, left);
    let mut config = world.sandbox_config();
    config.namespaces.users = Some(IdMapping {
        host_id: 9 << 16,
        length: 1 << 16,
    });
    let sandbox = world.runtime().run_sandbox(config).await.expect("sandbox");
    assert!(!left.contains(&sandbox.id), "its users own its namespaces");
    let id = world
        .script(&sandbox.id, "app", "hostname mine && hostname")
        .await;
    assert_eq!(world.exit(&id).await.0, 1, "not with the default rights");
    let mut config = crate::world::container("master");
    config.command = vec!["hostname".into(), "mine".into()];
    config.security.add_capabilities = vec!["SYS_ADMIN".into()];
    let id = world.start(&sandbox.id, config).await;
    assert_eq!(world.exit(&id).await.0, 0);
    stop.send(()).expect("it is kept");
    within(kept).await.expect("keeping ends");
    world.finish().await;
}

async fn what_a_killed_engine_held_ready_is_given_back() {
    let mut world = World::new(ImageConfig::default());
    let (_stop, kept) = keep(&world, 2);
    world.attached(2).await;
    kept.abort();
    let _ = kept.await;
    let run = || std::fs::read_dir(world.path("run")).expect("list");
    assert_eq!(run().count(), 2, "their run directories");
    world.restart_engine().await;
    world.attached(0).await;
    world.finish().await;
}

/// The inode of a container's writable layer, or of one to come.
fn upper(directory: &Path) -> Option<u64> {
    let metadata = fs::metadata(directory.join("upper")).ok()?;
    Some(metadata.ino())
}

async fn a_container_has_the_root_made_for_it() {
    let mut world = World::new(ImageConfig::default());
    let (stop, kept) = keep(&world, 1);
    let sandbox = world.sandbox().await;
    let roots = world.path("state").join("roots");
    let script = "echo mine > /file; cat /file; stat -c %a /";
    let run = async |attempt: u32| {
        let mut config = crate::world::container(&format!("app{attempt}"));
        config.command = ["sh", "-c", script].map(str::to_owned).into();
        let entries = fs::read_dir(&roots).into_iter().flatten().flatten();
        let ahead: Vec<u64> = entries.filter_map(|e| upper(&e.path())).collect();
        let id = world.start(&sandbox, config).await;
        assert_eq!(world.exit(&id).await.0, 0);
        assert_eq!(world.log(&id).await, ["stdout F mine", "stdout F 755"]);
        let directory = world.path("state").join(&sandbox).join(&id);
        assert_eq!(
            fs::read(directory.join("upper/file")).expect("reads"),
            b"mine\n"
        );
        upper(&directory).is_some_and(|upper| ahead.contains(&upper))
    };
    // They are made a moment after a start.
    within(async {
        let mut attempt = 0;
        while !run(attempt).await {
            attempt += 1;
        }
    })
    .await;
    stop.send(()).expect("it is kept");
    within(kept).await.expect("keeping ends");
    let left = fs::read_dir(&roots).expect("list").count();
    assert_eq!(left, 0, "roots are left");
    fs::create_dir(roots.join("of-a-killed-engine")).expect("makes");
    world.restart_engine().await;
    assert!(!roots.exists());
    world.finish().await;
}
