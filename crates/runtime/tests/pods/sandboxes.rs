//! Sandboxes: the node's namespaces, failures, and what is known after a stop.

use std::fs;

use ports::images::ImageConfig;
use ports::runtime::{ContainerRuntime, ContainerState, NamespaceMode, SandboxState};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::world::{World, container, within};

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        the_nodes_namespaces_are_the_nodes,
        a_sandbox_that_cannot_be_made_leaves_nothing,
        a_stopped_sandbox_keeps_its_records,
        an_unused_container_can_be_removed,
    ]
}

async fn the_nodes_namespaces_are_the_nodes() {
    let world = World::new(ImageConfig::default());
    let mut config = world.sandbox_config();
    let node = NamespaceMode::Node;
    config.namespaces = ports::runtime::NamespaceOptions {
        network: node,
        pid: node,
        ipc: node,
        users: None,
    };
    let sandbox = world.runtime().run_sandbox(config).await.expect("sandbox");
    assert!(sandbox.ips.is_empty());
    // An orphan outlives its parent, as it may with the node's PIDs, and ends with the container.
    let script =
        "for n in net uts ipc pid; do readlink /proc/self/ns/$n; done; sleep 1000 & exit 3";
    let id = world.script(&sandbox.id, "app", script).await;
    assert_eq!(world.exit(&id).await.0, 3);
    let own = ["net", "uts", "ipc", "pid"]
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).expect("namespace"))
        .map(|link| format!("stdout F {}", link.display()));
    assert_eq!(world.log(&id).await, own);
    world.finish().await;
}

async fn a_sandbox_that_cannot_be_made_leaves_nothing() {
    let world = World::new(ImageConfig::default());
    let mut config = world.sandbox_config();
    config
        .sysctls
        .insert("net.no.such.thing".into(), "1".into());
    let error = world
        .runtime()
        .run_sandbox(config)
        .await
        .expect_err("no such sysctl");
    let cause = std::error::Error::source(&error)
        .expect("cause")
        .to_string();
    assert!(
        cause.contains("failed to set sysctl net.no.such.thing: No such file"),
        "{cause}"
    );
    world.finish().await;
}

async fn a_stopped_sandbox_keeps_its_records() {
    let mut world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let ended = world.script(&sandbox, "ended", "exit 11").await;
    assert_eq!(world.exit(&ended).await.0, 11);
    let killed = world.script(&sandbox, "killed", "sleep 1000; true").await;
    within(world.runtime().stop_sandbox(&sandbox))
        .await
        .expect("stop");
    within(world.runtime().stop_sandbox(&sandbox))
        .await
        .expect("stopping again is done already");
    for _ in 0..2 {
        let sandboxes = world.runtime().list_sandboxes(None).await;
        assert_eq!(sandboxes[0].state, SandboxState::NotReady);
        assert_eq!(world.exit(&ended).await.0, 11);
        assert_eq!(world.exit(&killed).await, (137, "Error".into()));
        world.restart_engine().await;
    }
    world.finish().await;
}

async fn an_unused_container_can_be_removed() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let config = ports::runtime::ContainerConfig {
        command: vec!["true".into()],
        ..container("app")
    };
    let id = world
        .runtime()
        .create_container(&sandbox, config)
        .await
        .expect("create");
    assert_eq!(world.status(&id).await.state, ContainerState::Created);
    world
        .runtime()
        .stop_container(&id, std::time::Duration::ZERO)
        .await
        .expect("nothing to stop");
    world
        .runtime()
        .remove_container(&id, false)
        .await
        .expect("remove");
    let error = world
        .runtime()
        .start_container(&id)
        .await
        .expect_err("removed");
    assert_eq!(error.to_string(), format!("container {id} not found"));
    world.finish().await;
}
