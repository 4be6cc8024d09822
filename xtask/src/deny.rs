//! What of others' code we take: licences, banned crates, sources and known flaws, checked by `cargo deny`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::run;

/// The version whose rules `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// Checks the whole dependency graph. The list of known flaws is somebody else's and changes without us; where it cannot be
/// fetched, one line says that it was left out.
pub(crate) fn check() -> anyhow::Result<()> {
    let program = install()?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(["--locked", "--log-level", "error"])
            .args(arguments);
        command
    };
    run::command(&mut deny(&["check", "bans", "licenses", "sources"]))?;
    let fetched = deny(&["fetch", "db"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output()
        .context("start cargo-deny")?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr);
        let reason = said.trim_end().lines().last().unwrap_or_default();
        eprintln!("left out: advisories, whose list cannot be fetched: {reason}");
        return Ok(());
    }
    run::command(&mut deny(&["check", "--disable-fetch", "advisories"]))
}

/// Builds cargo-deny into Cargo's target directory unless it is there, and returns its path.
pub(crate) fn install() -> anyhow::Result<PathBuf> {
    let root = run::target_dir().join("tools");
    let program = root.join("bin/cargo-deny");
    if is_ours(&program) {
        return Ok(program);
    }
    eprintln!("building cargo-deny {VERSION}, which takes minutes");
    run::command(
        run::cargo()
            // It runs for seconds: what takes the least time to build will do.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_INCREMENTAL", "0")
            .args(["install", "--quiet", "--locked", "--debug", "--force"])
            .args(["--version", VERSION, "--root"])
            .args([root.as_os_str(), "cargo-deny".as_ref()]),
    )?;
    if !is_ours(&program) {
        bail!("{} is not cargo-deny {VERSION}", program.display());
    }
    Ok(program)
}

fn is_ours(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| output.stdout == format!("cargo-deny {VERSION}\n").as_bytes())
}
