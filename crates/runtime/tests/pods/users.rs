//! Pods with users of their own (`hostUsers: false`).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use ports::images::ImageConfig;
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, IdMapping, Mount, MountPropagation,
    NamespaceMode, SandboxState,
};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::survival::{kill, pause_of};
use crate::world::{World, container, within};
use crate::zombies::{ask, ended};

/// Where the Pod's ids begin on the node.
const FIRST: u32 = 7 << 16;

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        root_inside_is_nobody_outside,
        files_of_volumes_and_images_keep_their_owners,
        rights_end_at_the_pods_namespaces,
        shared_pids_have_an_init_of_the_pods_own,
        every_kind_of_process_joins_the_pods_users,
        a_pod_of_own_users_outlives_the_engine,
        what_cannot_be_mapped_is_refused,
    ]
}

/// A sandbox with its own users.
pub(crate) async fn sandbox(world: &World, pid: NamespaceMode) -> String {
    let mut config = world.sandbox_config();
    config.namespaces.pid = pid;
    config.namespaces.users = Some(IdMapping {
        host_id: FIRST,
        length: 1 << 16,
    });
    let sandbox = world.runtime().run_sandbox(config).await.expect("sandbox");
    sandbox.id
}

fn mount(path: &Path, at: &str) -> Mount {
    Mount {
        container_path: at.into(),
        host_path: path.to_path_buf(),
        readonly: false,
        recursive_readonly: false,
        propagation: MountPropagation::Private,
    }
}

fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        command: vec!["sh".into(), "-c".into(), script.into()],
        ..container(name)
    }
}

/// What a container that ends by itself has written.
pub(crate) async fn said(world: &World, id: &str) -> Vec<String> {
    let code = world.exit(id).await.0;
    let log = world.log(id).await;
    assert_eq!(code, 0, "{log:?}");
    let line = |line: &String| line.trim_start_matches("stdout F ").to_owned();
    log.iter().map(line).collect()
}

/// The ids and the parent of the process that has `word` on its command line, as the node sees them.
fn process(word: &str) -> (i32, u32) {
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let has = fs::read(entry.path().join("cmdline"))
            .is_ok_and(|text| String::from_utf8_lossy(&text).contains(word));
        if has && pid != std::process::id() as i32 {
            let status = fs::read_to_string(entry.path().join("status")).expect("status");
            let line = status.lines().find(|line| line.starts_with("Uid:"));
            let uid = line.and_then(|line| line.split_whitespace().nth(2)?.parse().ok());
            return (pid, uid.expect("uid"));
        }
    }
    panic!("no process with {word:?}")
}

async fn root_inside_is_nobody_outside() {
    let world = World::new(ImageConfig::default());
    let sandbox = sandbox(&world, NamespaceMode::Container).await;
    let script = "id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; echo $$; hostname; \
                  stat -c '%u:%g %n' / /etc/passwd /dev /dev/null /dev/pts /dev/ptmx /dev/shm /dev/mqueue /etc/hostname /proc/1 /srv/new; \
                  cat /etc/resolv.conf; echo x > /dev/null && echo writes";
    let mut config = shell("app", script);
    config.working_dir = "/srv/new".into();
    let id = world.start(&sandbox, config).await;
    let mapped = format!(" 0 {FIRST} 65536");
    let rest = "0:0 /\n0:0 /etc/passwd\n0:0 /dev\n0:0 /dev/null\n0:0 /dev/pts\n0:0 /dev/ptmx\n0:0 /dev/shm\n0:0 /dev/mqueue\n\
                0:0 /etc/hostname\n0:0 /proc/1\n0:0 /srv/new\nnameserver 10.96.0.10\nwrites";
    assert_eq!(
        said(&world, &id).await.join("\n"),
        format!("0\n{mapped}\n{mapped}\n1\nweb-0\n{rest}")
    );
    let stays = world.script(&sandbox, "stays", "sleep 31415; true").await;
    assert_eq!(process("sleep 31415").1, FIRST);
    assert_eq!(world.status(&stays).await.user.expect("user").uid, 0);
    world.finish().await;
}

async fn files_of_volumes_and_images_keep_their_owners() {
    let world = World::new(ImageConfig::default());
    let sandbox = sandbox(&world, NamespaceMode::Container).await;
    let (volume, read_only) = (world.path("volume"), world.path("read-only"));
    for path in [&volume, &read_only] {
        fs::create_dir(path).expect("mkdir");
        fs::write(path.join("theirs"), "theirs").expect("write");
        chown(path.join("theirs"), Some(1000), Some(1001)).expect("chown");
    }
    chown(world.path("layer/etc/group"), Some(5), Some(6)).expect("chown");
    let script = "echo own > /v/own; stat -c '%u:%g %n' /v/own /v/theirs /ro/theirs /etc/group; \
                  echo new > /etc/group && stat -c '%u:%g' /etc/group; echo x > /ro/x || echo refused; touch /root/made";
    let mut config = shell("app", script);
    config.mounts = vec![mount(&volume, "/v"), mount(&read_only, "/ro")];
    config.mounts[1].readonly = true;
    let id = world.start(&sandbox, config).await;
    let mut lines = said(&world, &id).await;
    lines.retain(|line| !line.starts_with("stderr"));
    assert_eq!(
        lines,
        [
            "0:0 /v/own",
            "1000:1001 /v/theirs",
            "1000:1001 /ro/theirs",
            "5:6 /etc/group",
            "5:6",
            "refused"
        ]
    );
    let owner = |path: &Path| {
        let meta = fs::symlink_metadata(path).expect("metadata");
        (meta.uid(), meta.gid())
    };
    assert_eq!(
        owner(&volume.join("own")),
        (0, 0),
        "volumes are not shifted"
    );
    let upper = world.path("state").join(&sandbox).join(&id).join("upper");
    let (shifted, group) = ((FIRST, FIRST), (FIRST + 5, FIRST + 6));
    assert_eq!(
        owner(&upper.join("root/made")),
        shifted,
        "writable layers are"
    );
    assert_eq!(owner(&upper.join("etc/group")), group);
    assert_eq!(
        owner(&world.path("layer/etc/group")),
        (5, 6),
        "images are not"
    );
    let mut user = shell(
        "user",
        "id -u; echo mine > /v/mine; cat /v/theirs; cat /v/closed",
    );
    user.security.run_as_user = Some(1000);
    user.security.supplemental_groups = vec![1001];
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::write(volume.join("closed"), "closed").expect("write");
    fs::set_permissions(volume.join("closed"), fs::Permissions::from_mode(0o600)).expect("chmod");
    user.mounts = vec![mount(&volume, "/v")];
    let id = world.start(&sandbox, user).await;
    assert_eq!(world.exit(&id).await.0, 1, "the last file is root's");
    assert_eq!(owner(&volume.join("mine")), (1000, 1000));
    world.finish().await;
}

async fn rights_end_at_the_pods_namespaces() {
    let world = World::new(ImageConfig::default());
    let sandbox = sandbox(&world, NamespaceMode::Container).await;
    // With every capability it is master of its own namespaces, and of nothing else.
    let script = "hostname renamed && hostname; mount -t tmpfs none /tmp && echo mounted; umount /proc/sys 2>&1; \
                  echo 1 > /proc/sys/kernel/panic; echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward; \
                  kill -0 1 && echo own";
    let mut config = shell("app", script);
    config.security.add_capabilities = vec!["ALL".into()];
    config.security.unmasked_proc = true;
    config.security.seccomp = ports::runtime::SeccompProfile::Unconfined;
    let id = world.start(&sandbox, config).await;
    assert_eq!(world.exit(&id).await.0, 0);
    let log = world.log(&id).await;
    let has = |wanted: &str| log.iter().any(|line| line.contains(wanted));
    for wanted in ["F renamed", "F mounted", "F 1", "F own"] {
        assert!(has(wanted), "{wanted}: {log:?}");
    }
    assert!(
        has("can't create /proc/sys/kernel/panic: Permission denied"),
        "{log:?}"
    );
    // Masks stay even for who may unmount.
    let script = "umount /proc/kcore 2>/dev/null || echo locked; mount -o remount,bind,rw /proc/sys 2>/dev/null || echo locked";
    let mut config = shell("masked", script);
    config.security.add_capabilities = vec!["SYS_ADMIN".into()];
    config.security.seccomp = ports::runtime::SeccompProfile::Unconfined;
    let id = world.start(&sandbox, config).await;
    assert_eq!(said(&world, &id).await, ["locked", "locked"]);
    world.finish().await;
}

async fn shared_pids_have_an_init_of_the_pods_own() {
    let world = World::new(ImageConfig::default());
    let shared = sandbox(&world, NamespaceMode::Pod).await;
    let stays = world.script(&shared, "stays", "sleep 1000; true").await;
    let forks = "cat /proc/1/comm; stat -c %u /proc/1; { for i in 1 2 3 4 5 6 7 8 9; do ( : & ); done; } | cat; [ $$ != 1 ]";
    let id = world.script(&shared, "forks", forks).await;
    assert_eq!(said(&world, &id).await, ["pause", "0"]);
    let zombies = "cat /proc/[0-9]*/stat | grep -c ' Z '";
    let none_left = async { while ask(&world, &stays, zombies).await != "0" {} };
    within(none_left).await;
    assert_eq!(
        ask(&world, &stays, "kill -9 1; kill -0 1 && echo lives").await,
        "lives"
    );
    // The end of PID 1 is the sandbox's.
    let pause = pause_of(&world, &shared);
    let children = fs::read_to_string(format!("/proc/{pause}/task/{pause}/children"));
    let init = children.expect("children");
    let init = init.split_whitespace().next().expect("init");
    let mut events = world.runtime().events();
    kill(init.parse().expect("pid"));
    within(async {
        loop {
            let event = events.recv().await.expect("event");
            if let ports::runtime::RuntimeEvent::Sandbox(status) = event {
                assert_eq!(status.state, SandboxState::NotReady);
                break;
            }
        }
    })
    .await;
    assert_eq!(ended(&world, &stays).await, 137);
    world.finish().await;
}

async fn every_kind_of_process_joins_the_pods_users() {
    let world = World::new(ImageConfig::default());
    let sandbox = sandbox(&world, NamespaceMode::Container).await;
    let app = world.script(&sandbox, "app", "sleep 1000; true").await;
    let look = "for n in user net ipc uts; do readlink /proc/self/ns/$n; done";
    let of_app = ask(&world, &app, look).await;
    let own = fs::read_link("/proc/self/ns/user").expect("user");
    assert!(!of_app.contains(&own.display().to_string()), "{of_app}");
    let mut debug = shell(
        "debug",
        &format!("{look}; tr '\\0' ' ' < /proc/1/cmdline; echo; kill -9 1 2>&1; [ $$ != 1 ]"),
    );
    debug.security.pid_target = Some(app.clone());
    let debug = world.start(&sandbox, debug).await;
    let lines = said(&world, &debug).await;
    assert_eq!(lines[..4].join("\n"), of_app);
    assert!(lines[4].contains("sleep 1000"), "{lines:?}");
    // A terminal is its user's.
    let request = ports::streams::ExecRequest {
        command: vec![
            "sh".into(),
            "-c".into(),
            "stat -c %u:%g $(tty); id -u".into(),
        ],
        tty: true,
        stdin: false,
        bound: false,
    };
    let mut session = world.runtime().exec(&app, request).await.expect("exec");
    let mut text = String::new();
    let stdout = session.stdout.as_mut().expect("stdout");
    let _ = within(tokio::io::AsyncReadExt::read_to_string(stdout, &mut text)).await;
    assert_eq!(text, "0:5\r\n0\r\n");
    world.finish().await;
}

async fn a_pod_of_own_users_outlives_the_engine() {
    let mut world = World::new(ImageConfig::default());
    let sandbox = sandbox(&world, NamespaceMode::Pod).await;
    let id = world.script(&sandbox, "app", "sleep 1000; true").await;
    world.restart_engine().await;
    let status = &world.runtime().list_sandboxes(None).await[0];
    let users = status.namespaces.users.expect("remembered");
    assert_eq!((users.host_id, status.state), (FIRST, SandboxState::Ready));
    let state = world.status(&id).await.state;
    assert!(matches!(state, ContainerState::Running { .. }), "{state:?}");
    let next = world
        .script(&sandbox, "next", "cat /proc/self/uid_map | tr -s ' '")
        .await;
    assert_eq!(said(&world, &next).await, [format!(" 0 {FIRST} 65536")]);
    world.finish().await;
}

async fn what_cannot_be_mapped_is_refused() {
    let world = World::new(ImageConfig::default());
    let sandbox = sandbox(&world, NamespaceMode::Container).await;
    let refused = async |config: ContainerConfig| {
        let runtime = world.runtime();
        let id = runtime
            .create_container(&sandbox, config)
            .await
            .expect("create");
        let error = runtime.start_container(&id).await.expect_err("refused");
        error
            .to_string()
            .split_once(": ")
            .expect("cause")
            .1
            .to_owned()
    };
    let mut device = shell("device", "true");
    device.mounts = vec![mount(Path::new("/proc/self"), "/x")];
    assert_eq!(
        refused(device).await,
        "failed to fulfil mount request: failed to set MOUNT_ATTR_IDMAP on /proc/self: invalid argument \
         (maybe the filesystem used doesn't support idmap mounts on this kernel?)"
    );
    let mut user = shell("user", "true");
    user.security.run_as_user = Some(1 << 16);
    assert_eq!(
        refused(user).await,
        "cannot set uid to unmapped user in user namespace"
    );
    let mut group = shell("group", "true");
    group.security.supplemental_groups = vec![1 << 16];
    assert_eq!(
        refused(group).await,
        "cannot set gid to unmapped user in user namespace"
    );
    // A program that is not there is found out behind the gate.
    let missing = ContainerConfig {
        command: vec!["nothing-here".into()],
        ..container("missing")
    };
    assert_eq!(
        refused(missing).await,
        "exec: \"nothing-here\": executable file not found in $PATH"
    );
    world.finish().await;
}
