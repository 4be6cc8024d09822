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
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path};

use jiff::Timestamp;
use ports::volumes::{File, VolumeError};
use rustix::fs::{
    AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat, readlinkat,
    renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::layout::make_dir;
use crate::{io, ownership};

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";
/// Of directories in a volume.
const DIRECTORY: u32 = 0o755;

/// What is known of a volume before it is brought to its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// It is whole, and its files are others.
    Others,
    /// It may be missing, or hold any part of anything.
    Unknown,
}

/// Brings the volume at `dir` to these files. What it holds is left as it is if it is that already.
pub(crate) fn ensure(
    dir: &Path,
    files: &BTreeMap<String, File>,
    fs_group: Option<u32>,
    before: Before,
    now: Timestamp,
) -> Result<(), VolumeError> {
    files.keys().try_for_each(|path| check(path))?;
    if before == Before::Unknown {
        make_dir(dir, 0o777)?;
    }
    let failed = || format!("bring {} to its files", dir.display());
    let top = open_dir(CWD, dir).map_err(|errno| io(failed)(errno.into()))?;
    let held = match before {
        Before::Others => None,
        Before::Unknown => held(&top, dir, files, fs_group),
    };
    let version = match held {
        Some(version) => version,
        None => {
            let version = write_version(&top, files, now).map_err(io(failed))?;
            if let Some(group) = fs_group {
                ownership::give_to_group(&dir.join(&version), group, ownership::Access::Read)?;
            }
            switch(&top, &version).map_err(|errno| io(failed)(errno.into()))?;
            version
        }
    };
    show(top, dir, &version, files).map_err(io(failed))?;
    if let Some(group) = fs_group {
        let failed = || format!("give {} to group {group}", dir.display());
        std::os::unix::fs::chown(dir, None, Some(group)).map_err(io(failed))?;
        std::fs::set_permissions(dir, Permissions::from_mode(0o2777)).map_err(io(failed))?;
    }
    Ok(())
}

fn open_dir(above: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(above, path, flags, Mode::empty())
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

/// The version that is seen, if it has exactly these files.
fn held(
    top: impl AsFd,
    dir: &Path,
    files: &BTreeMap<String, File>,
    fs_group: Option<u32>,
) -> Option<String> {
    let version = readlinkat(top, DATA, Vec::new()).ok()?.into_string().ok()?;
    holds(&dir.join(&version), files, fs_group).then_some(version)
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

/// Writes all files into a new directory of the volume and returns its name.
fn write_version(
    top: impl AsFd,
    files: &BTreeMap<String, File>,
    now: Timestamp,
) -> std::io::Result<String> {
    let name = make_version(&top, now)?;
    let version = open_dir(&top, &*name)?;
    fchmod(&version, Mode::from_raw_mode(DIRECTORY))?;
    for (path, file) in files {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = match openat(&version, &**path, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::NOENT) => {
                make_dirs(version.as_fd(), Path::new(path))?;
                openat(&version, &**path, flags, Mode::from_raw_mode(0o600))?
            }
            opened => opened?,
        };
        let mut opened = std::fs::File::from(opened);
        opened.write_all(&file.data)?;
        fchmod(&opened, Mode::from_raw_mode(file.mode & 0o7777))?;
        if let Some(uid) = file.uid {
            fchown(&opened, Some(Uid::from_raw(uid)), None::<Gid>)?;
        }
    }
    Ok(name)
}

/// Makes a version's directory: `..2026_01_31_10_15_02.123456789`, counted on if the clock stands still.
fn make_version(top: impl AsFd, now: Timestamp) -> Result<String, Errno> {
    let second = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let mut fraction = u64::try_from(now.subsec_nanosecond()).unwrap_or_default();
    loop {
        let name = format!("{second}.{fraction:09}");
        match mkdirat(&top, &*name, Mode::from_raw_mode(DIRECTORY)) {
            Err(Errno::EXIST) => fraction = fraction.saturating_add(1),
            made => return made.map(|()| name),
        }
    }
}

/// Makes the directories above `path` that are missing, their mode whatever the umask.
fn make_dirs(version: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    let above = above.into_iter().rev();
    for dir in above.filter(|dir| !dir.as_os_str().is_empty()) {
        match mkdirat(version, dir, Mode::from_raw_mode(DIRECTORY)) {
            Ok(()) => fchmod(open_dir(version, dir)?, Mode::from_raw_mode(DIRECTORY))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn switch(top: impl AsFd, version: &str) -> Result<(), Errno> {
    match symlinkat(version, &top, DATA_TMP) {
        Err(Errno::EXIST) => {
            unlinkat(&top, DATA_TMP, AtFlags::empty())?;
            symlinkat(version, &top, DATA_TMP)?;
        }
        made => made?,
    }
    renameat(&top, DATA_TMP, &top, DATA)
}

/// Leaves in the volume what belongs there: the version that is seen, and the links that lead users to it.
fn show(
    top: OwnedFd,
    dir: &Path,
    version: &str,
    files: &BTreeMap<String, File>,
) -> std::io::Result<()> {
    let first = |path: &'_ String| path.split('/').next().map(str::to_owned);
    let mut missing: BTreeSet<String> = files.keys().filter_map(first).collect();
    let mut surplus = Vec::new();
    let mut entries = Dir::new(top)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let belongs = [".", "..", DATA, version].contains(&&*name);
        if !belongs && !missing.remove(&*name) {
            surplus.push(entry.file_name().to_owned());
        }
    }
    let top = entries.fd()?;
    for name in missing {
        symlinkat(Path::new(DATA).join(&name), top, &*name)?;
    }
    for name in surplus {
        match unlinkat(top, &*name, AtFlags::empty()) {
            // A version that is seen no more, or was never.
            Err(Errno::ISDIR) => std::fs::remove_dir_all(dir.join(&*name.to_string_lossy()))?,
            removed => removed?,
        }
    }
    Ok(())
}
