//! Exec and attach.

use ports::images::ImageConfig;
use ports::runtime::{ContainerConfig, ContainerRuntime};
use ports::streams::{ExecRequest, Reader, Session, StreamError, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::world::{World, container, within};

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        exec_has_separate_streams_and_an_exit_code,
        exec_with_a_terminal_can_be_resized,
        exec_of_nothing_or_in_nothing_fails,
        a_bound_exec_ends_with_its_session,
        attach_sees_output_and_the_log_misses_nothing,
        input_for_one_client_ends_with_it,
        input_for_many_clients_stays_open,
        a_terminal_is_shared_by_log_and_clients,
        a_slow_client_does_not_hold_the_container,
    ]
}

async fn read_all(reader: &mut Option<Reader>) -> String {
    let mut text = String::new();
    within(reader.as_mut().expect("stream").read_to_string(&mut text))
        .await
        .expect("read");
    text
}

/// Reads until the text has been seen.
async fn read_until(reader: &mut Option<Reader>, wanted: &str) -> String {
    let reader = reader.as_mut().expect("stream");
    let mut seen = String::new();
    within(async {
        let mut buffer = [0u8; 1024];
        while !seen.contains(wanted) {
            let count = reader.read(&mut buffer).await.expect("read");
            assert!(count > 0, "the stream ended after {seen:?}");
            seen += &String::from_utf8_lossy(&buffer[..count]);
        }
    })
    .await;
    seen
}

async fn write(session: &mut Session, text: &str) {
    within(
        session
            .stdin
            .as_mut()
            .expect("stdin")
            .write_all(text.as_bytes()),
    )
    .await
    .expect("write");
}

fn sh(script: &str) -> ExecRequest {
    ExecRequest {
        command: vec!["sh".into(), "-c".into(), script.into()],
        ..ExecRequest::default()
    }
}

async fn exec_has_separate_streams_and_an_exit_code() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world.script(&sandbox, "app", "sleep 1000; true").await;
    let request = ExecRequest {
        stdin: true,
        ..sh("cat; echo err >&2; echo $HOME $HOSTNAME; exit 5")
    };
    let mut session = world.runtime().exec(&id, request).await.expect("exec");
    write(&mut session, "hello\n").await;
    session
        .stdin
        .as_mut()
        .expect("stdin")
        .shutdown()
        .await
        .expect("shutdown");
    assert_eq!(read_all(&mut session.stdout).await, "hello\n/root web-0\n");
    assert_eq!(read_all(&mut session.stderr).await, "err\n");
    assert_eq!(within(session.exit).await.expect("exit").code, 5);
    let killed = world
        .runtime()
        .exec(&id, sh("kill -9 $$"))
        .await
        .expect("exec");
    assert_eq!(within(killed.exit).await.expect("exit").code, 137);
    assert!(
        world.log(&id).await.is_empty(),
        "an exec's output is not the container's"
    );
    world.finish().await;
}

async fn exec_with_a_terminal_can_be_resized() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world.script(&sandbox, "app", "sleep 1000; true").await;
    let request = ExecRequest {
        tty: true,
        stdin: true,
        ..sh(
            // The signal may end a read, or come between two.
            "trap 'echo resized; stty size' WINCH; tty; echo ready; until [ \"$line\" ]; do read line; done; echo got $line; exit 6",
        )
    };
    let mut session = world.runtime().exec(&id, request).await.expect("exec");
    assert!(session.stderr.is_none());
    let seen = read_until(&mut session.stdout, "ready").await;
    assert!(seen.contains("/dev/pts/"), "{seen:?}");
    session
        .resize
        .as_ref()
        .expect("resize")
        .send(TerminalSize {
            width: 100,
            height: 30,
        })
        .await
        .expect("resize");
    write(&mut session, "\n").await;
    read_until(&mut session.stdout, "30 100").await;
    write(&mut session, "word\n").await;
    let seen = read_all(&mut session.stdout).await;
    assert!(seen.contains("got word"), "{seen:?}");
    assert_eq!(within(session.exit).await.expect("exit").code, 6);
    world.finish().await;
}

async fn exec_of_nothing_or_in_nothing_fails() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world.script(&sandbox, "app", "read line; true").await;
    assert_eq!(
        world.exit(&id).await.0,
        0,
        "without input there is nothing to read"
    );
    let error = world
        .runtime()
        .exec(&id, sh("true"))
        .await
        .err()
        .expect("ended");
    assert!(matches!(error, StreamError::NotRunning { .. }), "{error}");
    let id = world.script(&sandbox, "other", "sleep 1000; true").await;
    let request = ExecRequest {
        command: vec!["/bin/absent".into()],
        ..ExecRequest::default()
    };
    let error = world
        .runtime()
        .exec(&id, request)
        .await
        .err()
        .expect("absent");
    assert_eq!(
        error.to_string(),
        "exec: \"/bin/absent\": stat /bin/absent: no such file or directory"
    );
    world.finish().await;
}

async fn a_bound_exec_ends_with_its_session() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world.script(&sandbox, "app", "sleep 1000; true").await;
    let bound = ExecRequest {
        bound: true,
        ..sh("sleep 1000 & echo $$ $! is open; wait")
    };
    let mut session = world.runtime().exec(&id, bound).await.expect("exec");
    let seen = read_until(&mut session.stdout, "open").await;
    let pids: Vec<&str> = seen.split_whitespace().take(2).collect();
    drop(session);
    // The shell and its child are gone.
    let script = format!(
        "while [ -e /proc/{}/exe ] || [ -e /proc/{}/exe ]; do :; done; exit 4",
        pids[0], pids[1]
    );
    let watcher = world.runtime().exec(&id, sh(&script)).await.expect("exec");
    assert_eq!(within(watcher.exit).await.expect("exit").code, 4);
    // One that ends by itself is told as ever.
    let bound = ExecRequest {
        bound: true,
        ..sh("exit 5")
    };
    let session = world.runtime().exec(&id, bound).await.expect("exec");
    assert_eq!(within(session.exit).await.expect("exit").code, 5);
    world.finish().await;
}

async fn attach_sees_output_and_the_log_misses_nothing() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let config = ContainerConfig {
        stdin: true,
        ..script(
            "app",
            "while read line; do echo got $line; echo err $line >&2; done; exit 3",
        )
    };
    let id = world.start(&sandbox, config).await;
    let mut first = world.runtime().attach(&id, true).await.expect("attach");
    let mut second = world.runtime().attach(&id, false).await.expect("attach");
    assert!(second.stdin.is_none() && first.resize.is_none());
    write(&mut first, "a\nb\n").await;
    read_until(&mut first.stdout, "got b\n").await;
    read_until(&mut second.stderr, "err b\n").await;
    drop(second);
    write(&mut first, "c\n").await;
    read_until(&mut first.stdout, "got c\n").await;
    drop(first);
    world.log_line(&id, "F got c").await;
    world
        .runtime()
        .stop_container(&id, std::time::Duration::ZERO)
        .await
        .expect("kill");
    let log = world.log(&id).await;
    assert_eq!(
        log.iter()
            .filter(|line| line.starts_with("stdout"))
            .collect::<Vec<_>>(),
        ["stdout F got a", "stdout F got b", "stdout F got c"]
    );
    world.finish().await;
}

fn script(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        command: vec!["sh".into(), "-c".into(), script.into()],
        ..container(name)
    }
}

async fn input_for_one_client_ends_with_it() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world
        .start(
            &sandbox,
            ContainerConfig {
                stdin: true,
                stdin_once: true,
                ..script("app", "cat; echo end; exit 9")
            },
        )
        .await;
    let mut session = world.runtime().attach(&id, true).await.expect("attach");
    write(&mut session, "hello\n").await;
    read_until(&mut session.stdout, "hello\n").await;
    session.stdin = None;
    assert_eq!(read_all(&mut session.stdout).await, "end\n");
    assert_eq!(within(session.exit).await.expect("exit").code, 9);
    assert_eq!(world.exit(&id).await.0, 9);
    world.finish().await;
}

async fn input_for_many_clients_stays_open() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world
        .start(
            &sandbox,
            ContainerConfig {
                stdin: true,
                ..script("app", "read a; echo got $a; read b; echo got $b")
            },
        )
        .await;
    let mut session = world.runtime().attach(&id, true).await.expect("attach");
    write(&mut session, "one\n").await;
    read_until(&mut session.stdout, "got one\n").await;
    drop(session);
    let mut session = world
        .runtime()
        .attach(&id, true)
        .await
        .expect("attach again");
    write(&mut session, "two\n").await;
    assert_eq!(read_all(&mut session.stdout).await, "got two\n");
    assert_eq!(world.exit(&id).await.0, 0);
    world.finish().await;
}

async fn a_terminal_is_shared_by_log_and_clients() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world
        .start(
            &sandbox,
            ContainerConfig {
                stdin: true,
                tty: true,
                ..script(
                    "app",
                    "stty -echo; echo up; read line; stty size; echo got $line; exit 2",
                )
            },
        )
        .await;
    world.log_line(&id, "F up").await;
    let mut session = world.runtime().attach(&id, true).await.expect("attach");
    assert!(session.stderr.is_none());
    session
        .resize
        .as_ref()
        .expect("resize")
        .send(TerminalSize {
            width: 90,
            height: 20,
        })
        .await
        .expect("resize");
    drop(session.resize.take());
    write(&mut session, "word\n").await;
    let seen = read_all(&mut session.stdout).await;
    assert!(seen.contains("got word"), "{seen:?}");
    assert_eq!(within(session.exit).await.expect("exit").code, 2);
    assert_eq!(
        world.log(&id).await.last().expect("log"),
        "stdout F got word"
    );
    world.finish().await;
}

async fn a_slow_client_does_not_hold_the_container() {
    let world = World::new(ImageConfig::default());
    let sandbox = world.sandbox().await;
    let id = world
        .start(
            &sandbox,
            ContainerConfig {
                stdin: true,
                ..script("app", "read go; seq 1 400000")
            },
        )
        .await;
    let mut session = world.runtime().attach(&id, true).await.expect("attach");
    write(&mut session, "go\n").await;
    assert_eq!(world.exit(&id).await.0, 0, "it ends though nobody reads");
    let log = world.log(&id).await;
    assert_eq!(
        (log.len(), log.last().expect("log").as_str()),
        (400_000, "stdout F 400000")
    );
    let seen = read_all(&mut session.stdout).await;
    assert!(
        seen.starts_with("1\n2\n3\n") && seen.len() >= 1 << 16,
        "{} bytes seen",
        seen.len()
    );
    world.finish().await;
}
