//! Installs what a test or demo needs and a fresh Debian machine lacks.

use std::process::Command;

use crate::run;

/// Debian packages and what they are for.
const PACKAGES: &[(&str, &str)] = &[
    ("bind9-dnsutils", "dig in images for upstream's DNS specs"),
    ("busybox", "the busybox image"),
    ("ca-certificates", "package registries"),
    (
        "containernetworking-plugins",
        "plugins that wire Pods in place of the built-in network",
    ),
    ("crun", "the launcher's peer in benchmarks"),
    ("curl", "requests in recorded cases"),
    ("debootstrap", "the debian image"),
    ("docker-registry", "a registry on loopback"),
    (
        "gcc",
        "SQLite and jemalloc, which are compiled into the binary",
    ),
    ("iproute2", "network checks in recorded cases"),
    ("iptables", "what the plugin for host ports uses"),
    ("libc6-dev", "the static C library"),
    ("make", "jemalloc"),
    ("netcat-openbsd", "nc in the busybox image"),
    ("nftables", "checks that no rule is left"),
    ("nginx-light", "the nginx image"),
    ("openssl", "the openssl image"),
    ("skopeo", "an independent reader of image archives"),
];

/// Installs the packages that are missing. Needs root only if there are any.
pub(crate) fn install() -> anyhow::Result<()> {
    let names: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
    install_packages(&names)
}

/// The same for packages that one command alone needs.
pub(crate) fn install_packages(names: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !is_installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing Debian packages: {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        // Services of the packages (nginx, the registry) are not wanted: only their programs.
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1")
            .args(["-qq", "-o=Dpkg::Use-Pty=0"])
            .args(arguments);
        command
    };
    run::command(&mut apt(&["update"]))?;
    run::command(
        apt(&["install", "--yes", "--no-install-recommends"])
            .args(missing)
            .stdout(std::process::Stdio::null()),
    )
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .output();
    status.is_ok_and(|output| output.stdout == b"installed")
}
