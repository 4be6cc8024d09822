//! Limits changed in place: what the kernel has, what the container sees, what a later engine knows.

use std::collections::BTreeMap;

use ports::images::ImageConfig;
use ports::runtime::{ContainerConfig, ContainerRuntime, Resources, RuntimeError};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::world::{World, container};

const POD: &str = "burstable/poduid-1";
const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
const QUOTA: [&str; 2] = ["cpu.cfs_quota_us", "cpu.max"];
const SHARES: [&str; 2] = ["cpu.shares", "cpu.weight"];

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        limits_change_while_a_container_runs,
        what_was_changed_outlives_the_engine,
        an_ended_container_holds_no_limit_up,
        limits_of_what_is_gone_are_refused,
        a_container_sees_its_own_limits_and_no_other_hierarchy,
    ]
}

fn limits(milli: i64, mebibytes: i64) -> Resources {
    Resources {
        cpu_period_us: Some(100_000),
        cpu_quota_us: Some(milli * 100),
        cpu_shares: Some(milli.unsigned_abs() * 1024 / 1000),
        memory_limit_bytes: Some(mebibytes << 20),
        ..Resources::default()
    }
}

fn sleeper(resources: Resources) -> ContainerConfig {
    ContainerConfig {
        command: vec!["sleep".into(), "1000".into()],
        resources,
        ..container("app")
    }
}

/// Memory limit and quota of a group, as the kernel has them.
fn kernel(world: &World, group: &str) -> (String, String) {
    let quota = world.kernel(group, &QUOTA);
    let quota = quota.split(' ').next().unwrap_or_default().to_owned();
    (world.kernel(group, &MEMORY), quota)
}

fn shown(milli: i64, mebibytes: i64) -> (String, String) {
    ((mebibytes << 20).to_string(), (milli * 100).to_string())
}

fn note(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("note".to_owned(), value.to_owned())])
}

async fn limits_change_while_a_container_runs() {
    let world = World::new(ImageConfig::default());
    let mut config = world.sandbox_config();
    config.resources = limits(100, 64);
    let runtime = world.runtime();
    let sandbox = runtime.run_sandbox(config).await.expect("run sandbox").id;
    let id = world.start(&sandbox, sleeper(limits(100, 64))).await;
    let group = format!("{POD}/{id}");
    assert_eq!(kernel(&world, &group), shown(100, 64));
    let change = async |milli, mebibytes| {
        let to = limits(milli, mebibytes);
        let pod = runtime
            .update_sandbox_resources(&sandbox, to.clone(), BTreeMap::new())
            .await
            .expect("update the pod");
        assert_eq!(pod.resources, to);
        let app = runtime
            .update_container_resources(&id, to.clone(), note("grown"))
            .await
            .expect("update the container");
        assert_eq!((app.resources, &app.annotations["note"][..]), (to, "grown"));
    };
    change(200, 128).await;
    assert_eq!(kernel(&world, POD), shown(200, 128));
    assert_eq!(kernel(&world, &group), shown(200, 128));
    // It is the only one of its kind, so they have no more together.
    let shares = |group: &str| world.kernel(group, &SHARES);
    assert_eq!(shares("burstable"), shares(POD));
    assert_ne!(shares("burstable"), shares("besteffort"));
    // Only what is set changes.
    let memory = Resources {
        memory_limit_bytes: Some(32 << 20),
        ..Resources::default()
    };
    let app = runtime.update_container_resources(&id, memory, note("shrunk"));
    let app = app.await.expect("shrink the container");
    let mixed = Resources {
        memory_limit_bytes: Some(32 << 20),
        ..limits(200, 0)
    };
    assert_eq!(app.resources, mixed);
    assert_eq!(kernel(&world, &group), shown(200, 32));
    assert_eq!(world.status(&id).await.resources, mixed);
    runtime.stop_sandbox(&sandbox).await.expect("stops");
    assert_eq!(shares("burstable"), shares("besteffort"));
    world.finish().await;
}

async fn what_was_changed_outlives_the_engine() {
    let mut world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world.start(&sandbox, sleeper(limits(100, 64))).await;
    let (pod, app) = (limits(300, 96), limits(150, 80));
    let runtime = world.runtime();
    let changed = runtime.update_sandbox_resources(&sandbox, pod.clone(), note("granted"));
    changed.await.expect("update the pod");
    let changed = runtime.update_container_resources(&id, app.clone(), note("started"));
    changed.await.expect("update the container");
    world.restart_engine().await;
    let sandboxes = world.runtime().list_sandboxes(None).await;
    assert_eq!(sandboxes[0].resources, pod);
    assert_eq!(sandboxes[0].annotations["note"], "granted");
    let status = world.status(&id).await;
    assert_eq!(status.resources, app);
    assert_eq!(status.annotations["note"], "started");
    // The later engine counts anew what is there.
    let shares = |group: &str| world.kernel(group, &SHARES);
    assert_eq!(shares("burstable"), shares(POD));
    world.finish().await;
}

async fn an_ended_container_holds_no_limit_up() {
    let world = World::new(ImageConfig::default());
    let mut config = world.sandbox_config();
    config.resources = limits(300, 64);
    let sandbox = world.runtime().run_sandbox(config).await.expect("run");
    let ended = ContainerConfig {
        command: vec!["true".into()],
        ..sleeper(limits(300, 64))
    };
    let id = world.start(&sandbox.id, ended).await;
    world.exit(&id).await;
    let smaller = limits(100, 32);
    let changed = world
        .runtime()
        .update_sandbox_resources(&sandbox.id, smaller, BTreeMap::new());
    changed.await.expect("shrink the pod");
    assert_eq!(kernel(&world, POD), shown(100, 32));
    world.finish().await;
}

async fn limits_of_what_is_gone_are_refused() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let runtime = world.runtime();
    let (to, none) = (limits(100, 64), BTreeMap::new());
    let gone = runtime
        .update_container_resources("feed", to.clone(), none.clone())
        .await;
    assert!(
        matches!(gone, Err(RuntimeError::NotFound { .. })),
        "{gone:?}"
    );
    let gone = runtime
        .update_sandbox_resources("feed", to.clone(), none)
        .await;
    assert!(
        matches!(gone, Err(RuntimeError::NotFound { .. })),
        "{gone:?}"
    );
    // One that was stopped has no cgroup; what is noted of it is kept.
    runtime.stop_sandbox(&sandbox).await.expect("stop");
    let stopped = runtime.update_sandbox_resources(&sandbox, to.clone(), note("late"));
    let stopped = stopped.await.expect("note");
    assert_eq!(
        (stopped.resources, &stopped.annotations["note"][..]),
        (to, "late")
    );
    world.finish().await;
}

async fn a_container_sees_its_own_limits_and_no_other_hierarchy() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let script = "cd /sys/fs/cgroup; for f in memory/memory.limit_in_bytes memory.max; do \
        [ -e $f ] && echo memory $(cat $f); done; \
        while read -r _ point type _; do [ $type = cgroup2 ] && echo v2 $point; done < /proc/mounts; echo done";
    let config = ContainerConfig {
        command: vec!["sh".into(), "-c".into(), script.into()],
        ..sleeper(limits(100, 64))
    };
    let id = world.start(&sandbox, config).await;
    world.exit(&id).await;
    let mut want = vec![format!("stdout F memory {}", 64 << 20)];
    if !std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        want.push("stdout F v2 /sys/fs/cgroup".to_owned());
    }
    want.push("stdout F done".to_owned());
    assert_eq!(world.log(&id).await, want);
    world.finish().await;
}
