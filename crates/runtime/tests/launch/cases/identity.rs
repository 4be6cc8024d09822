//! Users, capabilities, privileges, filters.

use runtime::launch::{Launcher, capabilities};
use runtime::seccomp;

use super::Case;
use crate::bundle::{Bundle, run};

pub(crate) const ALL: &[(&str, Case)] = &[
    ("users_come_from_the_image", users_come_from_the_image),
    (
        "capabilities_are_given_and_taken",
        capabilities_are_given_and_taken,
    ),
    (
        "privileges_cannot_be_regained",
        privileges_cannot_be_regained,
    ),
    ("filters_are_installed", filters_are_installed),
    ("the_environment_is_exact", the_environment_is_exact),
];

fn users_come_from_the_image(launcher: &Launcher) {
    let bundle = Bundle::new();
    let script = "id -u; id -g; id -G; echo $HOME";
    let mut spec = bundle.spec(script);
    assert_eq!(run(launcher, &spec).unwrap().out, "0\n0\n0 10\n/root\n");
    spec.user.image_user = "web:log".into();
    spec.user.supplemental_groups = vec![2000];
    assert_eq!(
        run(launcher, &spec).unwrap().out,
        "33\n50\n50 2000\n/var/www\n"
    );
    (spec.user.uid, spec.user.gid) = (Some(1000), Some(3000));
    assert_eq!(
        run(launcher, &spec).unwrap().out,
        "1000\n3000\n3000 2000\n/\n"
    );
    // Streams are the user's, so that programs can open /dev/stdout again.
    let mut spec = bundle.spec("echo again > /dev/stdout");
    spec.user.uid = Some(1000);
    assert_eq!(run(launcher, &spec).unwrap().out, "again\n");
}

fn caps(launcher: &Launcher, change: impl Fn(&mut runtime::launch::LaunchSpec)) -> String {
    let bundle = Bundle::new();
    let mut spec =
        bundle.spec("awk '/^(Cap|NoNew|Seccomp:)/ {print $2}' /proc/self/status | tr '\\n' ' '");
    change(&mut spec);
    run(launcher, &spec).unwrap().out
}

fn capabilities_are_given_and_taken(launcher: &Launcher) {
    let default = "00000000a80425fb";
    let none = "0000000000000000";
    // Inheritable, permitted, effective, bounding, ambient.
    assert_eq!(
        caps(launcher, |_| {}),
        format!("{none} {default} {default} {default} {none} 0 0 ")
    );
    assert_eq!(
        caps(launcher, |s| s.user.uid = Some(7)),
        format!("{none} {none} {none} {default} {none} 0 0 ")
    );
    let drop_all = |s: &mut runtime::launch::LaunchSpec| {
        s.process.capabilities =
            capabilities::resolve(false, &["CHOWN".into()], &["ALL".into()]).unwrap();
    };
    let chown = "0000000000000001";
    assert_eq!(
        caps(launcher, drop_all),
        format!("{none} {chown} {chown} {chown} {none} 0 0 ")
    );
}

fn privileges_cannot_be_regained(launcher: &Launcher) {
    let seen = caps(launcher, |s| s.process.no_new_privs = true);
    assert!(seen.ends_with(" 1 0 "), "{seen}");
    let bundle = Bundle::new();
    use std::os::unix::fs::PermissionsExt;
    // Debian's cat, not busybox's, which gives its privileges up by itself.
    let suid = bundle.path("layer").join("bin/suid-cat");
    std::fs::copy("/usr/bin/cat", &suid).unwrap();
    std::fs::set_permissions(&suid, PermissionsExt::from_mode(0o4755)).unwrap();
    let mut spec = bundle.spec("suid-cat /proc/self/status | grep Uid");
    spec.user.uid = Some(33);
    for (no_new_privs, uids) in [(false, "33\t0\t0\t0"), (true, "33\t33\t33\t33")] {
        spec.process.no_new_privs = no_new_privs;
        assert_eq!(run(launcher, &spec).unwrap().out, format!("Uid:\t{uids}\n"));
    }
}

fn filters_are_installed(launcher: &Launcher) {
    let set = capabilities::resolve(false, &[], &[]).unwrap();
    let filter = seccomp::runtime_default(set.bounding);
    for no_new_privs in [false, true] {
        for uid in [0, 33] {
            let seen = caps(launcher, |s| {
                s.process.seccomp = Some(filter.clone());
                s.process.no_new_privs = no_new_privs;
                s.user.uid = Some(uid);
            });
            assert!(
                seen.ends_with(&format!(" {} 2 ", u8::from(no_new_privs))),
                "{seen}"
            );
        }
    }
    let bundle = Bundle::new();
    let mut spec =
        bundle.spec("unshare -m true; chroot / true && echo chroot; sleep 0.01 && echo slept");
    spec.process.seccomp = Some(filter);
    spec.process.capabilities = capabilities::resolve(false, &["SYS_ADMIN".into()], &[]).unwrap();
    let out = run(launcher, &spec).unwrap().out;
    assert!(
        out.contains("unshare: unshare(0x20000): Operation not permitted"),
        "{out}"
    );
    assert!(out.ends_with("chroot\nslept\n"), "{out}");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    let mut spec = bundle.spec("mkdir /x");
    spec.process.seccomp = Some(seccomp::compile_profile(profile, 0).unwrap());
    assert!(
        run(launcher, &spec)
            .unwrap()
            .out
            .contains("No space left on device")
    );
}

fn the_environment_is_exact(launcher: &Launcher) {
    let bundle = Bundle::new();
    let mut spec = bundle.spec("");
    spec.process.argv = vec!["env".into()];
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    spec.process.env = vec![
        pair("PATH", "relative:/none:/bin"),
        pair("A", "1"),
        pair("B", "x=y z"),
        pair("A", "2"),
    ];
    assert_eq!(
        run(launcher, &spec).unwrap().out,
        "PATH=relative:/none:/bin\nA=2\nB=x=y z\nHOME=/root\n"
    );
    spec.process.env.push(pair("HOME", ""));
    assert!(run(launcher, &spec).unwrap().out.ends_with("HOME=\n"));
    spec.process.env.push(pair("N", "a\0b"));
    assert_eq!(
        run(launcher, &spec).unwrap_err().to_string(),
        "environment contains a NUL byte"
    );
}
