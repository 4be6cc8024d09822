//! Sandboxes and containers: start, end, stop, what they see.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use ports::images::ImageConfig;
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, NamespaceMode, RuntimeError, RuntimeEvent,
    SandboxState,
};

use crate::world::{POD_IP, World, container, exit_event, within};

/// A scenario by name.
pub(crate) type Scenario = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Names scenarios after their functions.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        vec![$((stringify!($name), (|| Box::pin($name())) as fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>)),*]
    };
}

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        a_container_runs_writes_its_log_and_ends,
        a_container_sees_its_sandbox,
        a_term_ends_a_container_that_listens,
        a_container_that_does_not_listen_is_killed,
        the_stop_signal_of_the_image_is_sent,
        a_program_that_is_not_there_is_a_start_error,
        a_shared_pid_namespace_has_pause_as_init_that_reaps,
        limits_and_usage_are_the_kernels,
        a_container_out_of_memory_says_so,
        an_ephemeral_container_joins_its_targets_pids,
    ]
}

async fn a_container_runs_writes_its_log_and_ends() {
    let world = World::new(ImageConfig::default());
    let mut events = world.runtime().events();
    let sandbox = world.sandbox().await;
    let status = &world.runtime().list_sandboxes(Some("uid-1")).await[0];
    assert_eq!(
        (status.state, &status.ips[..]),
        (SandboxState::Ready, &[POD_IP][..])
    );
    let script = "echo out; echo err >&2; printf 'no newline'; yes x | head -c 20000 | tr -d '\\n' >&2; exit 3";
    let id = world.script(&sandbox, "app", script).await;
    assert_eq!(exit_event(&mut events, &id).await, (3, "Error".into()));
    let log = world.log(&id).await;
    assert_eq!(
        log.iter()
            .filter(|line| line.starts_with("stdout"))
            .collect::<Vec<_>>(),
        ["stdout F out", "stdout P no newline"]
    );
    assert_eq!(
        log.iter()
            .filter(|line| line.starts_with("stderr"))
            .collect::<Vec<_>>()[0],
        "stderr F err"
    );
    assert_eq!(
        world.status(&id).await.image_ref,
        "docker.io/library/busybox@sha256:2"
    );
    let status = world.status(&id).await;
    let ContainerState::Exited {
        started_at,
        finished_at,
        ..
    } = status.state
    else {
        panic!("{status:?}")
    };
    assert!(status.created_at <= started_at && started_at <= finished_at);
    world
        .runtime()
        .remove_container(&id, false)
        .await
        .expect("remove");
    assert!(
        !status.log_path.exists(),
        "the log is removed with the record"
    );
    world
        .runtime()
        .remove_container(&id, false)
        .await
        .expect("removing again is done already");
    world.finish().await;
}

async fn a_container_sees_its_sandbox() {
    let image = ImageConfig {
        env: vec!["A=image".into(), "B=image".into()],
        user: "web".into(),
        working_dir: "/srv/new".into(),
        ..ImageConfig::default()
    };
    let world = World::new(image);
    let mut config = world.sandbox_config();
    config
        .sysctls
        .insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    let sandbox = world
        .runtime()
        .run_sandbox(config)
        .await
        .expect("sandbox")
        .id;
    let script = "hostname; echo $HOSTNAME $A $B $HOME; id -u; pwd; cat /etc/hostname /etc/resolv.conf; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                  echo $$; cat /sys/class/net/lo/flags; cat /proc/sys/net/ipv6/conf/default/accept_dad || echo 0; echo shared > /dev/shm/file; stat -c %a /dev/shm";
    let command = vec!["sh".into(), "-c".into(), script.into()];
    let id = world
        .start(
            &sandbox,
            ContainerConfig {
                command,
                env: vec![("B".into(), "pod".into())],
                ..container("one")
            },
        )
        .await;
    assert_eq!(world.exit(&id).await.0, 0, "{:?}", world.log(&id).await);
    let seen = world.log(&id).await.join("\n").replace("stdout F ", "");
    assert_eq!(
        seen,
        "web-0\nweb-0 image pod /home/web\n1000\n/srv/new\nweb-0\nnameserver 10.96.0.10\n80\n1\n0x9\n0\n1777"
    );
    assert_eq!(world.status(&id).await.user.expect("user").uid, 1000);
    let other = world.script(&sandbox, "two", "cat /dev/shm/file").await;
    assert_eq!(world.exit(&other).await.0, 0);
    assert_eq!(
        world.log(&other).await,
        ["stdout F shared"],
        "containers of a Pod share memory"
    );
    world.finish().await;
}

async fn a_term_ends_a_container_that_listens() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world
        .script(
            &sandbox,
            "app",
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        )
        .await;
    world.log_line(&id, "F up").await;
    within(world.runtime().stop_container(&id, Duration::from_secs(15)))
        .await
        .expect("stop");
    assert_eq!(world.exit(&id).await, (0, "Completed".into()));
    assert_eq!(world.log(&id).await.last().expect("log"), "stdout F bye");
    world
        .runtime()
        .stop_container(&id, Duration::from_secs(1))
        .await
        .expect("stopping again is done already");
    world.finish().await;
}

async fn a_container_that_does_not_listen_is_killed() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world
        .script(
            &sandbox,
            "app",
            "trap '' TERM; echo up; sleep 1000 & wait; sleep 1000",
        )
        .await;
    world.log_line(&id, "F up").await;
    let begun = std::time::Instant::now();
    world
        .runtime()
        .stop_container(&id, Duration::from_millis(300))
        .await
        .expect("stop");
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "not before the grace period is over"
    );
    assert_eq!(world.exit(&id).await, (137, "Error".into()));
    world.finish().await;
}

async fn the_stop_signal_of_the_image_is_sent() {
    let world = World::new(ImageConfig {
        stop_signal: "SIGUSR1".into(),
        ..ImageConfig::default()
    });
    let sandbox = world.sandbox().await;
    let id = world
        .script(
            &sandbox,
            "app",
            "trap 'exit 7' USR1; echo up; while :; do sleep 0.05; done",
        )
        .await;
    world.log_line(&id, "F up").await;
    within(world.runtime().stop_container(&id, Duration::from_secs(15)))
        .await
        .expect("stop");
    assert_eq!(world.exit(&id).await.0, 7);
    world.finish().await;
}

async fn a_program_that_is_not_there_is_a_start_error() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let config = ContainerConfig {
        command: vec!["nothing-here".into()],
        ..container("app")
    };
    let id = world
        .runtime()
        .create_container(&sandbox, config)
        .await
        .expect("create");
    let mut events = world.runtime().events();
    let error = world
        .runtime()
        .start_container(&id)
        .await
        .expect_err("start");
    let reason = "exec: \"nothing-here\": executable file not found in $PATH";
    assert!(
        matches!(&error, RuntimeError::Start { reason: said, .. } if said == reason),
        "{error}"
    );
    assert_eq!(
        exit_event(&mut events, &id).await,
        (128, "StartError".into())
    );
    let ContainerState::Exited {
        started_at,
        message,
        ..
    } = world.status(&id).await.state
    else {
        panic!("not exited")
    };
    assert_eq!(
        (started_at, message.as_str()),
        (jiff::Timestamp::UNIX_EPOCH, reason)
    );
    let error = world
        .runtime()
        .create_container(&sandbox, container("none"))
        .await
        .expect_err("nothing to execute");
    assert_eq!(
        error.to_string(),
        "failed to create container: no command specified"
    );
    world.finish().await;
}

async fn a_shared_pid_namespace_has_pause_as_init_that_reaps() {
    let world = World::new(ImageConfig::default());
    let mut config = world.sandbox_config();
    config.namespaces.pid = NamespaceMode::Pod;
    let sandbox = world
        .runtime()
        .run_sandbox(config)
        .await
        .expect("sandbox")
        .id;
    // The orphan's parent ends at once, so init has to collect it; the zombie would be seen in /proc.
    let script = "( (sleep 0.1; echo orphan ended) & ); sleep 0.4; grep() { cat /proc/[0-9]*/stat | tr ' ' '\\n' | sed; }; \
                  cat /proc/[0-9]*/stat | tr ' ' ',' | while IFS=, read pid name state rest; do [ $state = Z ] && echo zombie $name; done; \
                  cat /proc/1/comm; echo pid $$; exit 4";
    let id = world.script(&sandbox, "app", script).await;
    let other = world
        .script(&sandbox, "other", "sleep 1000 & sleep 1000")
        .await;
    assert_eq!(world.exit(&id).await.0, 4);
    let log = world.log(&id).await;
    assert!(
        log.contains(&"stdout F orphan ended".to_string()),
        "{log:?}"
    );
    assert!(!log.iter().any(|line| line.contains("zombie")), "{log:?}");
    assert!(
        !log.contains(&"stdout F pid 1".to_string()),
        "pause is PID 1: {log:?}"
    );
    assert!(log.contains(&"stdout F pause".to_string()), "{log:?}");
    within(world.runtime().stop_container(&other, Duration::ZERO))
        .await
        .expect("kill");
    assert_eq!(world.exit(&other).await.0, 137);
    world.finish().await;
}

async fn limits_and_usage_are_the_kernels() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let mut config = ContainerConfig {
        command: vec!["sleep".into(), "1000".into()],
        ..container("app")
    };
    config.resources.memory_limit_bytes = Some(64 << 20);
    config.resources.pids_limit = Some(50);
    let id = world.start(&sandbox, config.clone()).await;
    let stats = world.runtime().container_stats(&id).await.expect("stats");
    assert_eq!(stats.pids, 1);
    assert!(stats.memory_usage_bytes < 64 << 20, "{stats:?}");
    assert!(
        world
            .runtime()
            .sandbox_stats(&sandbox)
            .await
            .expect("stats")
            .pids
            >= 1
    );
    config.resources.memory_limit_bytes = Some(32 << 20);
    world
        .runtime()
        .update_container_resources(&id, config.resources.clone(), BTreeMap::new())
        .await
        .expect("update");
    assert_eq!(world.status(&id).await.resources, config.resources);
    world.finish().await;
}

async fn a_container_out_of_memory_says_so() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let script =
        "x=$(yes 0123456789012345678901234567890123456789 | head -c 200000000); echo ${#x}";
    let mut config = ContainerConfig {
        command: vec!["sh".into(), "-c".into(), script.into()],
        ..container("app")
    };
    config.resources.memory_limit_bytes = Some(16 << 20);
    let id = world.start(&sandbox, config).await;
    let (_, reason) = world.exit(&id).await;
    assert_eq!(reason, "OOMKilled");
    world.finish().await;
}

async fn an_ephemeral_container_joins_its_targets_pids() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let target = world
        .script(&sandbox, "app", "echo up; sleep 1000; true")
        .await;
    let mut config = ContainerConfig {
        command: vec![
            "sh".into(),
            "-c".into(),
            "tr '\\0' ' ' </proc/1/cmdline; echo; echo $$".into(),
        ],
        ..container("debug")
    };
    config.security.pid_target = Some(target.clone());
    let id = world.start(&sandbox, config).await;
    assert_eq!(world.exit(&id).await.0, 0);
    let log = world.log(&id).await;
    assert!(log[0].contains("echo up; sleep 1000"), "{log:?}");
    assert_ne!(log[1], "stdout F 1");
    let mut events = world.runtime().events();
    world
        .runtime()
        .remove_container(&id, false)
        .await
        .expect("remove");
    let removed = within(async { events.recv().await.expect("event") }).await;
    assert_eq!(
        removed,
        RuntimeEvent::ContainerRemoved {
            pod_uid: "uid-1".into(),
            id
        }
    );
    // Once it has ended nobody joins it any more.
    let stopped = world.runtime().stop_container(&target, Duration::ZERO);
    stopped.await.expect("stops");
    let mut late = container("late");
    late.security.pid_target = Some(target.clone());
    let refused = world.runtime().create_container(&sandbox, late).await;
    let why = format!(
        "failed to create container: invalid target container: container {target:?} is not running - in state CONTAINER_EXITED"
    );
    assert_eq!(refused.expect_err("no target").to_string(), why);
    world.finish().await;
}
