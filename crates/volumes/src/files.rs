//! Files whose contents are known, replaced as one (spec `§10.4`, upstream's atomic writer):
//!
//! ```text
//! D/..2026_01_31_10_15_02.123456789/   the files
//! D/..data -> ..2026_01_31_10_15_02.123456789
//! D/key -> ..data/key                  one link per first component
//! ```
//!
//! Renaming a new link over `..data` is the one moment at which readers see the new contents, all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use ports::volumes::{File, VolumeError};

use crate::layout::make_dir;
use crate::{io, ownership};

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// Brings the volume at `dir` to these files. Does nothing if it holds them already.
pub(crate) fn ensure(
    dir: &Path,
    files: &BTreeMap<String, File>,
    fs_group: Option<u32>,
    now: Timestamp,
) -> Result<PathBuf, VolumeError> {
    files.keys().try_for_each(|path| check(path))?;
    make_dir(dir, 0o777)?;
    let old = std::fs::read_link(dir.join(DATA)).ok();
    if old
        .as_ref()
        .is_some_and(|version| holds(&dir.join(version), files, fs_group))
    {
        return Ok(dir.to_owned());
    }
    let version = write_version(dir, files, fs_group, now)?;
    switch(dir, &version)?;
    link_top_level(dir, files)?;
    if let Some(old) = old {
        let old = dir.join(old);
        std::fs::remove_dir_all(&old).map_err(io(|| format!("remove {}", old.display())))?;
    }
    if let Some(group) = fs_group {
        let failed = || format!("give {} to group {group}", dir.display());
        std::os::unix::fs::chown(dir, None, Some(group)).map_err(io(failed))?;
        std::fs::set_permissions(dir, Permissions::from_mode(0o2777)).map_err(io(failed))?;
    }
    Ok(dir.to_owned())
}

/// Upstream's rules for paths in a volume: relative, nowhere `..`, not beginning with `..`, bounded.
fn check(path: &str) -> Result<(), VolumeError> {
    let bad = |why: &str| {
        Err(VolumeError::Escapes {
            reason: format!("invalid path {path:?}: {why}"),
        })
    };
    if path.is_empty() || path.len() > 4096 {
        return bad("must be 1 to 4096 bytes long");
    }
    if path.starts_with("..") || path.contains('\0') {
        return bad("must not start with '..'");
    }
    let plain = |c: Component<'_>| matches!(c, Component::Normal(name) if name.len() <= 255);
    if !Path::new(path).components().all(plain) {
        return bad("must be relative and contain no '..'");
    }
    Ok(())
}

/// Whether a version directory holds exactly these files, modes included.
fn holds(version: &Path, files: &BTreeMap<String, File>, fs_group: Option<u32>) -> bool {
    let mut found = BTreeSet::new();
    if collect(version, Path::new(""), &mut found).is_err()
        || !found.iter().eq(files.keys().collect::<BTreeSet<_>>())
    {
        return false;
    }
    files.iter().all(|(path, file)| {
        let path = version.join(path);
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            return false;
        };
        meta.mode() & 0o7777 == mode(file, fs_group)
            && fs_group.is_none_or(|group| meta.gid() == group)
            && meta.uid() == file.uid.unwrap_or(0)
            && meta.len() == file.data.len() as u64
            && std::fs::read(&path).is_ok_and(|data| data == file.data)
    })
}

fn mode(file: &File, fs_group: Option<u32>) -> u32 {
    let extra = if fs_group.is_some() { 0o440 } else { 0 };
    file.mode & 0o7777 | extra
}

fn collect(dir: &Path, below: &Path, found: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &path, found)?;
        } else {
            found.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Writes all files into a new directory and returns its name.
fn write_version(
    dir: &Path,
    files: &BTreeMap<String, File>,
    fs_group: Option<u32>,
    now: Timestamp,
) -> Result<String, VolumeError> {
    let name = free_name(dir, now);
    let version = dir.join(&name);
    make_dir(&version, 0o755)?;
    for (path, file) in files {
        let path = version.join(path);
        let failed = || format!("write {}", path.display());
        if let Some(above) = path.parent().filter(|above| *above != version) {
            make_dirs(&version, above)?;
        }
        std::fs::write(&path, &file.data).map_err(io(failed))?;
        std::fs::set_permissions(&path, Permissions::from_mode(file.mode & 0o7777))
            .map_err(io(failed))?;
        if let Some(uid) = file.uid {
            std::os::unix::fs::chown(&path, Some(uid), None).map_err(io(failed))?;
        }
    }
    if let Some(group) = fs_group {
        ownership::give_to_group(&version, group, ownership::Access::Read)?;
    }
    Ok(name)
}

/// Makes the directories between `top` and `dir`, each with mode 0755.
fn make_dirs(top: &Path, dir: &Path) -> Result<(), VolumeError> {
    if dir == top || dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_dirs(top, above)?;
    }
    make_dir(dir, 0o755)
}

/// `..2026_01_31_10_15_02.123456789`, counted on if the clock stands still.
fn free_name(dir: &Path, now: Timestamp) -> String {
    let second = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let first = u64::try_from(now.subsec_nanosecond()).unwrap_or_default();
    (first..)
        .map(|n| format!("{second}.{n:09}"))
        .find(|name| !dir.join(name).exists())
        .unwrap_or(second)
}

fn switch(dir: &Path, version: &str) -> Result<(), VolumeError> {
    let tmp = dir.join(DATA_TMP);
    let failed = || format!("switch {} to {version}", dir.display());
    match std::fs::remove_file(&tmp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(failed)(e)),
        _ => {}
    }
    symlink(version, &tmp).map_err(io(failed))?;
    std::fs::rename(&tmp, dir.join(DATA)).map_err(io(failed))
}

/// Makes the links users see, and removes those that lead nowhere any more.
fn link_top_level(dir: &Path, files: &BTreeMap<String, File>) -> Result<(), VolumeError> {
    let wanted: BTreeSet<&str> = files
        .keys()
        .filter_map(|path| path.split('/').find(|part| !part.is_empty()))
        .collect();
    let failed = || format!("link the files of {}", dir.display());
    for name in &wanted {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(failed)(e)),
            _ => {}
        }
    }
    for entry in std::fs::read_dir(dir).map_err(io(failed))? {
        let entry = entry.map_err(io(failed))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(&*name) {
            std::fs::remove_file(entry.path()).map_err(io(failed))?;
        }
    }
    Ok(())
}
