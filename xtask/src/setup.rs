//! Installs what a test or demo needs and a fresh Debian machine lacks.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

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
    run::command(&mut apt(&["update"]))?;
    run::command(
        apt(&["install", "--yes", "--no-install-recommends"])
            .args(missing)
            .stdout(std::process::Stdio::null()),
    )
}

/// Downloads packages, and what they depend on that is not installed, into a directory. Nothing is installed.
pub(crate) fn download_packages(names: &[&str], to: &Path) -> anyhow::Result<()> {
    eprintln!("downloading Debian packages: {}", names.join(" "));
    std::fs::create_dir_all(to.join("partial"))
        .with_context(|| format!("make {}", to.display()))?;
    run::command(&mut apt(&["update"]))?;
    let mut cache = std::ffi::OsString::from("-o=Dir::Cache::archives=");
    cache.push(std::path::absolute(to)?);
    run::command(
        apt(&["install", "--yes", "--no-install-recommends"])
            .args(["--download-only", "--reinstall"])
            .args(["-o=APT::Sandbox::User=root".as_ref(), cache.as_os_str()])
            .args(names)
            .stdout(std::process::Stdio::null()),
    )
}

/// The package of some version that a package without one stands for.
pub(crate) fn newest(meta_package: &str) -> anyhow::Result<String> {
    let text = run::output(Command::new("apt-cache").args(["depends", meta_package]))?;
    let found = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    let found = found.with_context(|| format!("apt knows no package {meta_package}"))?;
    Ok(found.to_owned())
}

fn apt(arguments: &[&str]) -> Command {
    // Services of the packages (nginx, the registry) are not wanted: only their programs.
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .args(["-qq", "-o=Dpkg::Use-Pty=0"])
        .args(arguments);
    command
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .output();
    status.is_ok_and(|output| output.stdout == b"installed")
}
