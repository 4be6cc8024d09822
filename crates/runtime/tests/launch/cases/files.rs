//! File systems: kernel ones, bind mounts, masks, terminals.

use std::fs;
use std::io::{Read, Write};

use ports::runtime::{Mount, MountPropagation};
use runtime::launch::{ImageTree, LaunchFds, Launcher, Stdio};

use super::Case;
use crate::bundle::{Bundle, run, wait};

pub(crate) const ALL: &[(&str, Case)] = &[
    ("standard_devices_are_there", standard_devices_are_there),
    ("kernel_files_are_protected", kernel_files_are_protected),
    (
        "a_privileged_container_sees_the_node",
        a_privileged_container_sees_the_node,
    ),
    ("binds_are_made_as_asked", binds_are_made_as_asked),
    (
        "submounts_are_read_only_when_asked",
        submounts_are_read_only_when_asked,
    ),
    (
        "images_are_mounted_whole_and_in_parts",
        images_are_mounted_whole_and_in_parts,
    ),
    (
        "a_read_only_root_still_has_its_mounts",
        a_read_only_root_still_has_its_mounts,
    ),
    (
        "nothing_of_the_node_is_mounted",
        nothing_of_the_node_is_mounted,
    ),
    (
        "a_terminal_controls_its_process",
        a_terminal_controls_its_process,
    ),
];

pub(crate) fn bind(from: impl Into<std::path::PathBuf>, to: &str) -> Mount {
    Mount {
        container_path: to.into(),
        host_path: from.into(),
        readonly: false,
        recursive_readonly: false,
        propagation: MountPropagation::Private,
    }
}

fn standard_devices_are_there(launcher: &Launcher) {
    let bundle = Bundle::new();
    let script = "for d in null zero full random urandom tty; do test -c /dev/$d -a -r /dev/$d -a -w /dev/$d || echo no $d; done
        ls /dev | tr '\\n' ' '; echo; for l in ptmx fd stdout; do readlink /dev/$l; done; echo x > /dev/stdout
        stat -c '%a' /dev/shm /dev/pts /dev/null; ls /dev/pts; df /dev/shm | tail -1 | awk '{print $2}'";
    let out = run(launcher, &bundle.spec(script)).unwrap().out;
    assert_eq!(
        out,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n\
         pts/ptmx\n/proc/self/fd\n/proc/self/fd/1\nx\n1777\n755\n666\nptmx\n65536\n"
    );
    let mut spec = bundle.spec("cat /dev/shm/x");
    fs::write(bundle.path("volume").join("x"), "pod").unwrap();
    spec.shm = Some(bundle.path("volume"));
    assert_eq!(run(launcher, &spec).unwrap().out, "pod");
}

fn kernel_files_are_protected(launcher: &Launcher) {
    let bundle = Bundle::new();
    let script = "wc -c < /proc/keys; wc -c < /proc/timer_list; ls /sys/firmware | wc -l; ls /proc/acpi | wc -l
        echo 1 > /proc/sys/vm/drop_caches; mkdir /sys/x
        ls /proc/self/task > /dev/null && echo proc works";
    let out = run(launcher, &bundle.spec(script)).unwrap().out;
    assert!(out.starts_with("0\n0\n0\n0\n"), "{out}");
    for denied in [
        "drop_caches: Read-only",
        "'/sys/x': Read-only",
        "proc works",
    ] {
        assert!(out.contains(denied), "{denied}: {out}");
    }
    let mut spec = bundle.spec("test $(wc -c < /proc/timer_list) -gt 0 && echo unmasked");
    (spec.masked_paths, spec.readonly_paths) = (Vec::new(), Vec::new());
    assert_eq!(run(launcher, &spec).unwrap().out, "unmasked\n");
}

fn a_privileged_container_sees_the_node(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec = bundle.spec(
        "test -c /dev/kmsg && echo kmsg; mount | grep -E ' on /sys (type )?' | grep -c '(rw'",
    );
    spec.privileged = true;
    spec.process.capabilities = runtime::launch::capabilities::resolve(true, &[], &[]).unwrap();
    (spec.masked_paths, spec.readonly_paths) = (Vec::new(), Vec::new());
    assert_eq!(run(launcher, &spec).unwrap().out, "kmsg\n1\n");
}

fn images_are_mounted_whole_and_in_parts(launcher: &Launcher) {
    let bundle = Bundle::new();
    let names = ["upper-data", "lower-data"];
    for name in names {
        fs::create_dir_all(bundle.path(name).join("dir")).unwrap();
        fs::write(bundle.path(name).join("dir").join(name), name).unwrap();
        fs::write(bundle.path(name).join("both"), name).unwrap();
    }
    let layers: Vec<_> = names.map(|name| bundle.path(name)).to_vec();
    let image = |sub_path: &str, at: &str| ImageTree {
        image: "data:1".into(),
        layers: layers.clone(),
        sub_path: sub_path.into(),
        container_path: at.into(),
    };
    let mut spec = bundle.spec("ls /all /all/own; cat /all/both /file; ls /part; touch /part/x");
    spec.mounts = vec![bind(bundle.path("volume"), "/all/dir")];
    spec.images = vec![
        image("both", "/file"),
        image("", "/all"),
        image("/dir/", "/part"),
    ];
    let finished = run(launcher, &spec).unwrap();
    assert_eq!(
        finished.out,
        "ls: /all/own: No such file or directory\n/all:\nboth\ndir\nupper-dataupper-datalower-data\nupper-data\n\
         touch: /part/x: Read-only file system\n"
    );
    spec.images = vec![image("dir/none", "/part")];
    assert_eq!(
        run(launcher, &spec).unwrap_err().to_string(),
        "subPath \"dir/none\" of image \"data:1\": no such file or directory"
    );
    // A mount point cannot be made in an image.
    spec.images = vec![image("", "/all")];
    spec.mounts = vec![bind(bundle.path("volume"), "/all/new")];
    assert_eq!(
        run(launcher, &spec).unwrap_err().to_string(),
        format!(
            "error mounting {:?} to rootfs at \"/all/new\": read-only file system",
            bundle.path("volume")
        )
    );
}

fn binds_are_made_as_asked(launcher: &Launcher) {
    let bundle = Bundle::new();
    let volume = bundle.path("volume");
    fs::write(volume.join("file"), "from the node\n").unwrap();
    let mut spec = bundle.spec(
        "cat /etc/one /data/file; echo x > /data/new; echo y > /ro/new; echo z > /dev/termination-log; cat /deep/a/b/file
         grep -E ' (/data|/ro|/slave) ' /proc/self/mountinfo | grep -c master",
    );
    spec.mounts = vec![
        // Deeper first: depth decides, not the order given.
        bind(&volume, "/deep/a/b"),
        bind(bundle.path("layer"), "/deep"),
        bind(volume.join("file"), "/etc/one"),
        bind(&volume, "/data"),
        Mount {
            readonly: true,
            ..bind(&volume, "/ro")
        },
        Mount {
            propagation: MountPropagation::HostToContainer,
            ..bind(&volume, "/slave")
        },
        bind(bundle.path("log"), "/dev/termination-log"),
    ];
    fs::write(bundle.path("log"), "").unwrap();
    let out = run(launcher, &spec).unwrap().out;
    assert!(out.starts_with("from the node\nfrom the node\n"), "{out}");
    assert!(
        out.contains("can't create /ro/new: Read-only file system"),
        "{out}"
    );
    assert!(out.contains("from the node\n"), "{out}");
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(bundle.path("log")).unwrap(), "z\n");

    spec.mounts = vec![bind("/no/such/volume", "/data")];
    let error = run(launcher, &spec).unwrap_err().to_string();
    assert_eq!(
        error,
        r#"error mounting "/no/such/volume" to rootfs at "/data": no such file or directory"#
    );
    spec.mounts = vec![bind(&volume, "/etc/passwd")];
    let error = run(launcher, &spec).unwrap_err().to_string();
    assert!(
        error.ends_with(r#"to rootfs at "/etc/passwd": not a directory"#),
        "{error}"
    );
}

fn submounts_are_read_only_when_asked(launcher: &Launcher) {
    if !launcher.recursive_readonly() {
        return;
    }
    let bundle = Bundle::new();
    let volume = bundle.path("volume");
    fs::create_dir(volume.join("sub")).unwrap();
    let c = |p: &std::path::Path| std::ffi::CString::new(p.to_str().unwrap()).unwrap();
    let sub = c(&volume.join("sub"));
    rustix::mount::mount(
        "tmpfs",
        &sub,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    let mut spec = bundle.spec("echo a > /ro/sub/a; echo b > /rro/sub/b; ls /ro/sub /rro/sub");
    spec.mounts = vec![
        Mount {
            readonly: true,
            ..bind(&volume, "/ro")
        },
        Mount {
            readonly: true,
            recursive_readonly: true,
            ..bind(&volume, "/rro")
        },
    ];
    let out = run(launcher, &spec).unwrap().out;
    rustix::mount::unmount(&sub, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(
        out.contains("can't create /rro/sub/b: Read-only file system"),
        "{out}"
    );
    assert!(out.ends_with("/ro/sub:\na\n\n/rro/sub:\na\n"), "{out}");
}

fn a_read_only_root_still_has_its_mounts(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec =
        bundle.spec("touch /x; touch /data/x && echo data; touch /dev/shm/x && echo shm; pwd");
    spec.root.readonly = true;
    spec.process.cwd = "/work".into();
    spec.mounts = vec![bind(bundle.path("volume"), "/data")];
    let out = run(launcher, &spec).unwrap().out;
    assert_eq!(out, "touch: /x: Read-only file system\ndata\nshm\n/work\n");
}

fn nothing_of_the_node_is_mounted(launcher: &Launcher) {
    let bundle = Bundle::new();
    let out = run(
        launcher,
        &bundle.spec("cat /proc/self/mountinfo; ls -a / | tr '\\n' ' '"),
    )
    .unwrap()
    .out;
    assert!(
        !out.contains("ext4") && !out.contains(bundle.dir.path().to_str().unwrap()),
        "{out}"
    );
    let root = out.lines().next().unwrap();
    assert!(
        root.contains(" / / rw") && root.contains("- overlay "),
        "{out}"
    );
}

fn a_terminal_controls_its_process(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec = bundle.spec("tty; stty size; test -t 0 && echo is a tty; echo hi > /dev/tty; test -c /dev/console && echo console; stat -c %u /dev/pts/0; read x; echo got $x");
    spec.user.uid = Some(33);
    let stdio = Stdio::Terminal { size: (100, 30) };
    let launched = launcher
        .launch(
            &spec,
            LaunchFds {
                stdio,
                pid_target: None,
                root: None,
            },
        )
        .unwrap();
    let mut master = fs::File::from(launched.terminal.as_ref().unwrap().try_clone().unwrap());
    master.write_all(b"there\n").unwrap();
    let mut out = Vec::new();
    // The closing of the other side reads as EIO.
    let _ = master.read_to_end(&mut out);
    assert_eq!(wait(&launched), 0);
    let out = String::from_utf8_lossy(&out).replace("\r\n", "\n");
    for seen in [
        "/dev/pts/0\n",
        "30 100\n",
        "is a tty\n",
        "hi\n",
        "33\n",
        "got there\n",
    ] {
        assert!(out.contains(seen), "{seen}: {out}");
    }
}
