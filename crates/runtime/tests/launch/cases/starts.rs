//! Programs found and executed, or not, and in which words.

use runtime::cgroup::{Devices, Mode, Role, Tree, detect};
use runtime::launch::{LaunchFds, Launcher, PidNamespace, Rlimit};

use super::Case;
use crate::bundle::{Bundle, Pipes, run, start, wait};

pub(crate) const ALL: &[(&str, Case)] = &[
    (
        "exit_codes_and_output_come_back",
        exit_codes_and_output_come_back,
    ),
    ("errors_read_like_runcs", errors_read_like_runcs),
    (
        "the_working_directory_is_made_and_checked",
        the_working_directory_is_made_and_checked,
    ),
    ("signals_and_limits_are_fresh", signals_and_limits_are_fresh),
    ("pid_namespaces", pid_namespaces),
    (
        "processes_are_born_in_their_cgroups",
        processes_are_born_in_their_cgroups,
    ),
];

fn exit_codes_and_output_come_back(launcher: &Launcher) {
    let bundle = Bundle::new();
    let done = run(launcher, &bundle.spec("echo $$; echo err >&2; exit 3")).unwrap();
    assert_eq!((done.out.as_str(), done.code), ("1\nerr\n", 3));
    let mut spec = bundle.spec("kill -9 $$");
    spec.pid_namespace = PidNamespace::Pause;
    assert_eq!(run(launcher, &spec).unwrap().code, 137);
}

fn errors_read_like_runcs(launcher: &Launcher) {
    let bundle = Bundle::new();
    let layer = bundle.path("layer");
    std::fs::write(layer.join("tmp/plain"), "x").unwrap();
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(layer.join(name), text).unwrap();
        std::fs::set_permissions(layer.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("tmp/orphan", "#!/no/such/shell\n");
    script("tmp/noise", "\u{1}\u{2}\u{3}");
    for (program, expected) in [
        (
            "nosuch",
            r#"exec: "nosuch": executable file not found in $PATH"#,
        ),
        (
            "/no/such/program",
            r#"exec: "/no/such/program": stat /no/such/program: no such file or directory"#,
        ),
        (
            "/bin/sh/x",
            r#"exec: "/bin/sh/x": stat /bin/sh/x: not a directory"#,
        ),
        ("/tmp/plain", r#"exec: "/tmp/plain": permission denied"#),
        ("/etc", r#"exec: "/etc": is a directory"#),
        ("/tmp/orphan", "exec /tmp/orphan: no such file or directory"),
        ("/tmp/noise", "exec /tmp/noise: exec format error"),
        ("", "no command specified"),
    ] {
        let mut spec = bundle.spec("");
        spec.process.argv = vec![program.into()];
        assert_eq!(run(launcher, &spec).unwrap_err().to_string(), expected);
    }
    let mut spec = bundle.spec("");
    spec.process.argv.clear();
    assert_eq!(
        run(launcher, &spec).unwrap_err().to_string(),
        "no command specified"
    );
    spec = bundle.spec("true");
    spec.user.image_user = "x".into();
    let error = run(launcher, &spec).unwrap_err().to_string();
    assert_eq!(
        error,
        "unable to find user x: no matching entries in passwd file"
    );
}

fn the_working_directory_is_made_and_checked(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec = bundle.spec("pwd");
    spec.process.cwd = "/made/for/it".into();
    assert_eq!(run(launcher, &spec).unwrap().out, "/made/for/it\n");
    spec.process.cwd = String::new();
    assert_eq!(run(launcher, &spec).unwrap().out, "/\n");
    spec.process.cwd = "/etc/passwd".into();
    assert_eq!(
        run(launcher, &spec).unwrap_err().to_string(),
        "mkdir /etc/passwd: not a directory"
    );
}

fn signals_and_limits_are_fresh(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec = bundle.spec("grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; umask; ulimit -n; cat /proc/self/oom_score_adj");
    spec.process.rlimits = vec![
        Rlimit {
            resource: libc::RLIMIT_NOFILE,
            soft: 512,
            hard: u64::MAX,
        },
        Rlimit {
            resource: libc::RLIMIT_CORE,
            soft: 0,
            hard: 0,
        },
    ];
    spec.process.oom_score_adj = Some(777);
    let out = run(launcher, &spec).unwrap().out;
    let none = "0000000000000000";
    assert_eq!(
        out,
        format!("SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n0022\n512\n777\n")
    );
}

fn pid_namespaces(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut shared = bundle.spec("echo $$");
    shared.pid_namespace = PidNamespace::Pause;
    assert_ne!(run(launcher, &shared).unwrap().out, "1\n");

    let (first, pipes) = start(launcher, &bundle.spec("sleep 1000")).unwrap();
    let other = Bundle::new();
    let mut guest = other.spec("cat /proc/1/cmdline | tr '\\0' ' '; echo; kill -9 1");
    guest.pid_namespace = PidNamespace::Target("first".into());
    let none = LaunchFds {
        stdio: pipes.stdio(),
        pid_target: None,
        root: None,
    };
    assert_eq!(
        launcher.launch(&guest, none).unwrap_err().to_string(),
        "container first to join is not running"
    );
    let guest_pipes = Pipes::new();
    let pid_target = Some(std::os::fd::AsFd::as_fd(&first.pidfd));
    let launched = launcher
        .launch(
            &guest,
            LaunchFds {
                stdio: guest_pipes.stdio(),
                pid_target,
                root: None,
            },
        )
        .unwrap();
    // The first program may be `sh` or, as shells replace themselves, `sleep`.
    assert!(guest_pipes.read().contains("sleep 1000"));
    wait(&launched);
    drop(pipes);
    // PID 1 ignores even SIGKILL from inside its namespace.
    rustix::process::pidfd_send_signal(&first.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(wait(&first), 137);
}

fn processes_are_born_in_their_cgroups(launcher: &Launcher) {
    let tree = Tree::new(
        detect().unwrap(),
        &format!("carob-launch-{}", std::process::id()),
    );
    tree.prepare().unwrap();
    let group = tree.group("c");
    let limits = ports::runtime::Resources {
        pids_limit: Some(77),
        ..Default::default()
    };
    group
        .create(&limits, Role::Container, Devices::Default)
        .unwrap();
    let bundle = Bundle::new();
    let mut spec = bundle.spec("cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max; ls -l /sys/fs/cgroup; touch /sys/fs/cgroup/x; mknod /tmp/m c 1 11; cat /tmp/m");
    spec.cgroup = group.entry();
    let out = run(launcher, &spec).unwrap().out;
    let path = format!("/{}", group.path().display());
    let joined = out.lines().filter(|l| l.ends_with(&path)).count();
    if tree.mode() == Mode::Unified {
        // Its group is the root of its cgroup namespace, and its files tell which one it is.
        assert!(out.starts_with("0::/\n77\n"), "{out}");
    } else {
        let groups = spec.cgroup.v1.len() + usize::from(spec.cgroup.v2.is_some());
        assert_eq!(joined, groups, "{out}");
    }
    for name in spec.cgroup.v1.keys() {
        assert!(out.contains(&format!(" {name}\n")), "{name}: {out}");
    }
    assert!(
        out.contains("touch: /sys/fs/cgroup/x: Read-only file system"),
        "{out}"
    );
    assert!(
        out.contains("can't open '/tmp/m': Operation not permitted"),
        "the device list is in force: {out}"
    );
    tree.group("").remove().unwrap();
}
