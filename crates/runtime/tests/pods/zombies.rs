//! Processes whose parents are gone: who collects them, and that nobody is left uncollected.

use std::fs;
use std::time::Duration;

use ports::images::ImageConfig;
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, NamespaceMode, RuntimeEvent,
};
use ports::streams::ExecRequest;
use tokio::io::AsyncReadExt;

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::survival::pause_of;
use crate::world::{World, container, within};

/// For what takes a machine under load long: thousands of processes.
const LONG_PATIENCE: Duration = Duration::from_secs(180);

/// Orphans of the loaded scenario.
const MANY: usize = 10_000;

/// Prints how many zombies `/proc` shows, without starting a process that could be counted.
const COUNT_ZOMBIES: &str = "n=0; for f in /proc/[0-9]*/stat; do \
    read -r line < $f && case ${line##*)} in ' Z '*) n=$((n+1));; esac; done 2>/dev/null; echo $n";

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        ten_thousand_orphans_leave_no_zombie_in_a_shared_pid_namespace,
        orphans_of_a_container_with_its_own_pids_are_its_own_business,
    ]
}

/// `count` processes forked twice, whose parents end at once. All of them hold the pipe, so its end is the end of the last.
fn double_forks(count: usize) -> String {
    format!(
        "echo begun; i=0; {{ while [ $i -lt {count} ]; do ( : & ); i=$((i+1)); done; }} | cat; echo done"
    )
}

/// What a script run in the container says.
pub(crate) async fn ask(world: &World, id: &str, script: &str) -> String {
    let request = ExecRequest {
        command: vec!["sh".into(), "-c".into(), script.into()],
        tty: false,
        stdin: false,
        bound: false,
    };
    let mut session = world.runtime().exec(id, request).await.expect("exec");
    let mut text = String::new();
    let stdout = session.stdout.as_mut().expect("stdout");
    within(stdout.read_to_string(&mut text))
        .await
        .expect("read");
    within(session.exit).await.expect("exit");
    text.trim().to_owned()
}

/// Waits for the end of a container that takes long.
pub(crate) async fn ended(world: &World, id: &str) -> i32 {
    let mut events = world.runtime().events();
    if matches!(world.status(id).await.state, ContainerState::Exited { .. }) {
        return world.exit(id).await.0;
    }
    let end = async {
        loop {
            if let RuntimeEvent::Container(status) = events.recv().await.expect("event")
                && let (true, ContainerState::Exited { exit_code, .. }) =
                    (status.id == id, &status.state)
            {
                return *exit_code;
            }
        }
    };
    tokio::time::timeout(LONG_PATIENCE, end)
        .await
        .expect("did not end in time")
}

/// Children of a process, zombies among them.
fn children(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    text.split_whitespace().map(str::to_owned).collect()
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .count()
}

async fn ten_thousand_orphans_leave_no_zombie_in_a_shared_pid_namespace() {
    let world = World::new(ImageConfig::default());
    let mut config = world.sandbox_config();
    config.namespaces.pid = NamespaceMode::Pod;
    let sandbox = world.runtime().run_sandbox(config).await.expect("sandbox");
    let stays = world.script(&sandbox.id, "stays", "sleep 1000; true").await;
    let forks = double_forks(MANY);
    let id = world.script(&sandbox.id, "forks", &forks).await;
    assert_eq!(ended(&world, &id).await, 0);
    assert_eq!(world.log(&id).await.last().expect("log"), "stdout F done");
    // The pipe closes a moment before a process is a zombie. Each question is answered by pause, which collects on the way.
    let none_left = async { while ask(&world, &stays, COUNT_ZOMBIES).await != "0" {} };
    tokio::time::timeout(LONG_PATIENCE, none_left)
        .await
        .expect("zombies are left");
    world.finish().await;
}

async fn orphans_of_a_container_with_its_own_pids_are_its_own_business() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let pause = pause_of(&world, &sandbox);
    let quiet = world.script(&sandbox, "quiet", "sleep 1000; true").await;
    let (before, open) = (children(pause), descriptors(pause));
    // It waits for nobody, so whoever becomes its child stays a zombie.
    let careless = ContainerConfig {
        command: vec!["sleep".into(), "1000".into()],
        ..container("careless")
    };
    let careless = world.start(&sandbox, careless).await;
    let forks = ask(&world, &careless, &double_forks(50)).await;
    assert!(forks.ends_with("done"), "{forks}");
    let all_stay = async { while ask(&world, &careless, COUNT_ZOMBIES).await != "50" {} };
    tokio::time::timeout(LONG_PATIENCE, all_stay)
        .await
        .expect("some were collected by somebody else");
    assert_eq!(
        children(pause).len(),
        before.len() + 1,
        "no orphan comes to pause"
    );
    within(world.runtime().stop_container(&careless, Duration::ZERO))
        .await
        .expect("kill");
    assert_eq!(world.exit(&careless).await.0, 137);
    assert_eq!(children(pause), before, "they end with their namespace");
    // The ends of its streams are seen after its own; each question is answered after another look at them.
    let all_closed = async {
        while descriptors(pause) != open {
            assert_eq!(ask(&world, &quiet, COUNT_ZOMBIES).await, "0");
        }
    };
    tokio::time::timeout(LONG_PATIENCE, all_closed)
        .await
        .expect("something is left open in pause");
    world.finish().await;
}
