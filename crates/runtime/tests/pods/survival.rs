//! What outlives the engine, and what a Pod costs.

use std::fs;
use std::time::Duration;

use ports::images::ImageConfig;
use ports::runtime::{ContainerConfig, ContainerRuntime, ContainerState, SandboxState};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::world::{World, container, within};

/// Private memory a pause may have besides its Pod's processes (design 8), in KiB.
const PRIVATE_DIRTY_KIB: u64 = 512;

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        exits_and_lines_outlive_the_engine,
        a_dead_pause_is_noticed,
        a_killed_template_is_replaced,
        a_pause_that_died_unseen_leaves_its_exits,
        logs_go_on_in_a_new_file,
        a_pause_is_small,
        a_pauses_program_cannot_be_written,
    ]
}

async fn exits_and_lines_outlive_the_engine() {
    let mut world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let (gate, done) = (world.path("gate"), world.path("done"));
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &gate,
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .expect("fifo");
    let mount = |path: &std::path::Path, at: &str| ports::runtime::Mount {
        container_path: at.into(),
        host_path: path.to_path_buf(),
        readonly: false,
        recursive_readonly: false,
        propagation: Default::default(),
    };
    fs::create_dir(&done).expect("mkdir");
    let command = |script: &str| vec!["sh".into(), "-c".into(), script.into()];
    let mounts = vec![mount(&gate, "/gate"), mount(&done, "/done")];
    let ending = ContainerConfig {
        command: command("echo before; cat /gate; seq 1 5000; exit 42"),
        mounts,
        ..container("ending")
    };
    let ending = world.start(&sandbox, ending).await;
    let running = world
        .script(
            &sandbox,
            "running",
            "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done",
        )
        .await;
    let created = world
        .runtime()
        .create_container(
            &sandbox,
            ContainerConfig {
                command: command("exit 1"),
                ..container("created")
            },
        )
        .await
        .expect("create");
    world.log_line(&ending, "F before").await;
    let exit_file = world
        .path("run")
        .join(&sandbox)
        .join(format!("{ending}.exit"));
    world
        .without_engine(async || {
            fs::write(&gate, "during\n").expect("open the gate");
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while !exit_file.exists() {
                assert!(std::time::Instant::now() < deadline, "no exit file");
                tokio::task::yield_now().await;
            }
        })
        .await;
    assert_eq!(world.exit(&ending).await, (42, "Error".into()));
    let log = world.log(&ending).await;
    assert_eq!(
        (log.len(), log[1].as_str(), log[5001].as_str()),
        (5002, "stdout F during", "stdout F 5000")
    );
    assert!(matches!(
        world.status(&running).await.state,
        ContainerState::Running { .. }
    ));
    assert_eq!(world.status(&created).await.state, ContainerState::Created);
    world.restart_engine().await;
    assert_eq!(
        world.exit(&ending).await,
        (42, "Error".into()),
        "acknowledged, and still known"
    );
    within(
        world
            .runtime()
            .stop_container(&running, Duration::from_secs(15)),
    )
    .await
    .expect("stop");
    assert_eq!(world.exit(&running).await.0, 0);
    world
        .runtime()
        .start_container(&created)
        .await
        .expect("start");
    assert_eq!(world.exit(&created).await.0, 1);
    world.finish().await;
}

/// The pause of a sandbox, by the run directory on its command line.
pub(crate) fn pause_of(world: &World, sandbox: &str) -> i32 {
    let run = world
        .path("run")
        .join(sandbox)
        .to_string_lossy()
        .into_owned();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&run))
    };
    pids.find(is_it).expect("pause runs")
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}

fn kill_and_see_it_end(pid: i32) {
    use rustix::event::{PollFd, PollFlags, poll};
    let id = rustix::process::Pid::from_raw(pid).expect("pid");
    let process = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty());
    let process = process.expect("pidfd");
    kill(pid);
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None).expect("poll");
}

async fn a_dead_pause_is_noticed() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world.script(&sandbox, "app", "sleep 1000; true").await;
    let mut session = world.runtime().attach(&id, false).await.expect("attach");
    let mut events = world.runtime().events();
    kill(pause_of(&world, &sandbox));
    within(async {
        loop {
            if let ports::runtime::RuntimeEvent::Sandbox(status) =
                events.recv().await.expect("event")
            {
                assert_eq!(status.state, SandboxState::NotReady);
                break;
            }
        }
    })
    .await;
    assert_eq!(world.status(&id).await.state, ContainerState::Unknown);
    let mut rest = Vec::new();
    let _ =
        tokio::io::AsyncReadExt::read_to_end(session.stdout.as_mut().expect("stdout"), &mut rest)
            .await;
    let error = world
        .runtime()
        .create_container(&sandbox, container("late"))
        .await
        .expect_err("not ready");
    assert!(error.to_string().ends_with("is not ready"), "{error}");
    world.finish().await;
}

async fn a_killed_template_is_replaced() {
    let world = World::new(ImageConfig::default());
    let first = world.sandbox().await;
    let gate = world.path("gate");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, mode).expect("fifo");
    let waiting = ContainerConfig {
        command: vec!["sh".into(), "-c".into(), "cat /gate; exit 21".into()],
        mounts: vec![ports::runtime::Mount {
            container_path: "/gate".into(),
            host_path: gate.clone(),
            readonly: false,
            recursive_readonly: false,
            propagation: Default::default(),
        }],
        ..container("waiting")
    };
    let waiting = world.start(&first, waiting).await;
    let template = pause_of(&world, &"-".repeat(first.len()));
    kill_and_see_it_end(template);
    let second = world.sandbox().await;
    let id = world.script(&second, "app", "exit 11").await;
    assert_eq!(world.exit(&id).await.0, 11);
    assert_ne!(pause_of(&world, &"-".repeat(first.len())), template);
    // Those it bore do not miss it.
    fs::write(&gate, "go").expect("open the gate");
    assert_eq!(world.exit(&waiting).await.0, 21);
    world.finish().await;
}

async fn a_pause_that_died_unseen_leaves_its_exits() {
    let mut world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let ended = world.script(&sandbox, "ended", "exit 11").await;
    let running = world.script(&sandbox, "running", "sleep 1000; true").await;
    assert_eq!(world.exit(&ended).await.0, 11);
    let pause = pause_of(&world, &sandbox);
    world.without_engine(async || kill(pause)).await;
    assert_eq!(
        world.runtime().list_sandboxes(None).await[0].state,
        SandboxState::NotReady
    );
    assert_eq!(world.exit(&ended).await.0, 11);
    assert_eq!(world.status(&running).await.state, ContainerState::Unknown);
    world.finish().await;
}

async fn logs_go_on_in_a_new_file() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world
        .start(
            &sandbox,
            ContainerConfig {
                stdin: true,
                command: vec!["cat".into()],
                ..container("app")
            },
        )
        .await;
    let mut session = world.runtime().attach(&id, true).await.expect("attach");
    let stdin = session.stdin.as_mut().expect("stdin");
    tokio::io::AsyncWriteExt::write_all(stdin, b"old\n")
        .await
        .expect("write");
    world.log_line(&id, "F old").await;
    let path = world.status(&id).await.log_path;
    let rotated = path.with_extension("log.20260101-000000");
    fs::rename(&path, &rotated).expect("rename");
    world.runtime().reopen_log(&id).await.expect("reopen");
    tokio::io::AsyncWriteExt::write_all(stdin, b"new\n")
        .await
        .expect("write");
    world.log_line(&id, "F new").await;
    assert_eq!(world.log(&id).await, ["stdout F new"]);
    assert!(
        fs::read_to_string(rotated)
            .expect("rotated")
            .ends_with("stdout F old\n")
    );
    world.finish().await;
}

/// Whatever way somebody inside comes by the link to pause's program (CVE-2019-5736), the mount behind it is read-only. Even for
/// the node's root, who tries here.
async fn a_pauses_program_cannot_be_written() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let program = format!("/proc/{}/exe", pause_of(&world, &sandbox));
    // Truncating asks the mount first; a file being executed could not be opened for writing anyway, until it ends.
    let opened = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(program);
    let error = opened.expect_err("opened for writing");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    world.finish().await;
}

async fn a_pause_is_small() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    for name in ["a", "b", "c"] {
        let id = world
            .script(&sandbox, name, "seq 1 20000; sleep 1000; true")
            .await;
        world.log_line(&id, "F 20000").await;
    }
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", pause_of(&world, &sandbox)))
        .expect("smaps_rollup");
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Private_Dirty:"))
        .expect("Private_Dirty");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .expect("figure")
        .parse()
        .expect("number");
    println!("pause of three containers: {kib} KiB of private dirty memory");
    assert!(kib <= PRIVATE_DIRTY_KIB, "{rollup}");
    world.finish().await;
}
