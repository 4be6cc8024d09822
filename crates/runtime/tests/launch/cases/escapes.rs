//! Images and volumes that try to lead out of the root.

use std::fs;
use std::os::unix::fs::symlink;

use runtime::launch::Launcher;

use super::Case;
use super::files::bind;
use crate::bundle::{Bundle, run};

pub(crate) const ALL: &[(&str, Case)] = &[
    (
        "links_of_the_image_stay_inside",
        links_of_the_image_stay_inside,
    ),
    (
        "links_of_a_volume_stay_inside",
        links_of_a_volume_stay_inside,
    ),
    (
        "kernel_mount_points_must_be_directories",
        kernel_mount_points_must_be_directories,
    ),
    ("passwd_links_stay_inside", passwd_links_stay_inside),
    (
        "the_engines_file_is_out_of_reach",
        the_engines_file_is_out_of_reach,
    ),
    ("descriptors_do_not_leak", descriptors_do_not_leak),
];

fn links_of_the_image_stay_inside(launcher: &Launcher) {
    let bundle = Bundle::new();
    let outside = bundle.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, bundle.path("layer").join("abs")).unwrap();
    symlink(
        format!("../../../../../../..{}", outside.display()),
        bundle.path("layer").join("rel"),
    )
    .unwrap();
    fs::write(bundle.path("volume").join("f"), "in\n").unwrap();
    let mut spec = bundle.spec("cat /abs/v/f /rel/w/f; pwd");
    spec.mounts = vec![
        bind(bundle.path("volume"), "/abs/v"),
        bind(bundle.path("volume"), "/rel/w"),
    ];
    spec.process.cwd = "/abs/cwd".into();
    let out = run(launcher, &spec).unwrap().out;
    assert_eq!(out, format!("in\nin\n{}/cwd\n", outside.display()));
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing is made outside"
    );
}

fn links_of_a_volume_stay_inside(launcher: &Launcher) {
    let bundle = Bundle::new();
    let (volume, outside) = (bundle.path("volume"), bundle.path("outside"));
    fs::create_dir(&outside).unwrap();
    symlink(&outside, volume.join("sub")).unwrap();
    symlink("/proc/self/cwd", volume.join("magic")).unwrap();
    let mut spec = bundle.spec("test -d /data/in && echo data");
    spec.mounts = vec![
        bind(&volume, "/data"),
        bind(bundle.path("layer"), "/data/sub/x"),
        bind(bundle.path("layer"), "/data/magic/y"),
    ];
    fs::create_dir(volume.join("in")).unwrap();
    assert_eq!(run(launcher, &spec).unwrap().out, "data\n");
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing is made outside"
    );
}

fn kernel_mount_points_must_be_directories(launcher: &Launcher) {
    for name in ["proc", "sys", "dev"] {
        let bundle = Bundle::new();
        fs::create_dir(bundle.path("layer").join("elsewhere")).unwrap();
        symlink("elsewhere", bundle.path("layer").join(name)).unwrap();
        let error = run(launcher, &bundle.spec("true")).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("mountpoint \"/{name}\" must be an ordinary directory")
        );
    }
}

fn passwd_links_stay_inside(launcher: &Launcher) {
    let bundle = Bundle::new();
    let outside = bundle.path("outside");
    fs::write(&outside, "spy:x:99:99::/:\n").unwrap();
    let passwd = bundle.path("layer").join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    symlink(&outside, &passwd).unwrap();
    let mut spec = bundle.spec("true");
    spec.user.image_user = "spy".into();
    let error = run(launcher, &spec).unwrap_err().to_string();
    assert_eq!(
        error,
        "unable to find user spy: no matching entries in passwd file"
    );
    fs::remove_file(&passwd).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &passwd,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    assert!(
        run(launcher, &spec).is_err(),
        "a fifo does not stop the launcher"
    );
}

/// A script whose interpreter is `/proc/self/exe` runs the launching program's file (CVE-2019-5736); with a launcher executed
/// from [`runtime::launch::protect`]'s descriptor it cannot be opened for writing.
fn the_engines_file_is_out_of_reach(launcher: &Launcher) {
    let bundle = Bundle::new();
    let script = bundle.path("layer").join("bin/evil");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let mut spec = bundle.spec("");
    // The interpreter is this test itself, told to try.
    spec.process.argv = vec!["evil".into()];
    spec.process
        .env
        .push(("CAROB_TEST_OPEN_SELF".into(), "1".into()));
    for dir in ["lib", "lib64"] {
        spec.mounts
            .push(bind(format!("/{dir}"), &format!("/{dir}")));
    }
    let done = run(launcher, &spec).unwrap();
    assert_eq!(done.out, "Read-only file system (os error 30)\n");
}

fn descriptors_do_not_leak(launcher: &Launcher) {
    let bundle = Bundle::new();
    // A descriptor somebody forgot to close on exec.
    let leak = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let out = run(launcher, &bundle.spec("ls /proc/self/fd | tr '\\n' ' '"))
        .unwrap()
        .out;
    assert_eq!(out, "0 1 2 3 ", "3 is the listing itself");
}
