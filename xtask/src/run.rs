//! Running other programs, and where things are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Where Cargo puts its output.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a command with our streams; its failure is an error.
pub(crate) fn command(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{:?}", command.get_program());
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.get_program());
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed no text"))
}

/// Cargo, as we were started by it.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The binary that `CAROB_BIN` names, or else the release binary, built.
pub(crate) fn engine() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CAROB_BIN") {
        Some(binary) => Ok(binary.into()),
        None => build_release(&[]),
    }
}

/// Builds the release binary, and these packages beside it, and returns its path.
pub(crate) fn build_release(beside: &[String]) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--config", ".cargo/release.toml"]);
    build.args(["--package", "carob"]);
    for package in beside {
        build.args(["--package", package]);
    }
    command(&mut build)?;
    let host = output(Command::new("rustc").arg("--print=host-tuple"))?;
    Ok(target_dir().join(host.trim()).join("release/carob"))
}
