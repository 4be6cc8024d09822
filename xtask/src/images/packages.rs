//! Debian packages whose files are wanted and whose services and accounts are not: they are unpacked, and nothing of them runs
//! on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{run, setup};

/// The directory that packages are unpacked in, with what they depend on as far as this machine does not have it. Made once and
/// kept in the cache.
pub(super) fn unpacked(cache: &Path, names: &[&str]) -> Result<PathBuf> {
    let root = cache.join(names.join("+"));
    if !root.exists() {
        unpack(names, &root)?;
    }
    root.canonicalize().context("find unpacked packages")
}

fn unpack(names: &[&str], root: &Path) -> Result<()> {
    let made = root.with_extension(format!("new-{}", std::process::id()));
    let (archives, files) = (made.join("archives"), made.join("root"));
    setup::download_packages(names, &archives)?;
    for entry in fs::read_dir(&archives).context("list downloaded packages")? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|e| e == "deb") {
            run::command(Command::new("dpkg-deb").arg("-x").args([&archive, &files]))?;
        }
    }
    // Someone else may have been faster with the same thing.
    if let Err(error) = fs::rename(&files, root)
        && !root.exists()
    {
        return Err(error).with_context(|| format!("keep {}", root.display()));
    }
    fs::remove_dir_all(&made).context("remove downloaded packages")
}
