//! fsGroup (spec `§10.6`): a tree is given to a group, without following links: what a link in it leads to is not of the tree. Containers
//! may write to the tree meanwhile, so each file is opened first, and what was opened is given.

use std::fs::{File, Permissions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ports::volumes::VolumeError;
use rustix::fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, chownat, openat};
use rustix::io::Errno;

use crate::io;

/// What the group gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// `0660`.
    ReadWrite,
    /// `0440`, for volumes that are mounted read-only.
    Read,
}

/// Gives `path` and what is below it to the group. Directories pass it on (setgid).
pub(crate) fn give_to_group(path: &Path, group: u32, access: Access) -> Result<(), VolumeError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(std::io::Error::from);
    opened
        .and_then(|opened| give(opened, group, access))
        .map_err(io(|| format!("give {} to group {group}", path.display())))
}

fn give(opened: OwnedFd, group: u32, access: Access) -> std::io::Result<()> {
    let file = File::from(opened);
    let meta = file.metadata()?;
    let gid = Gid::from_raw(group);
    chownat(file.as_fd(), c"", None, Some(gid), AtFlags::EMPTY_PATH)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let bits = match access {
        Access::ReadWrite => 0o660,
        Access::Read => 0o440,
    };
    let bits = if meta.is_dir() { bits | 0o2110 } else { bits };
    let mode = Permissions::from_mode(meta.mode() & 0o7777 | bits);
    std::fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)?;
    if meta.is_dir() {
        give_below(&file, group, access)?;
    }
    Ok(())
}

fn give_below(directory: &File, group: u32, access: Access) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(directory, c".", flags, Mode::empty())?;
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&opened, name, flags, Mode::empty()) {
            Ok(opened) => give(opened, group, access)?,
            // Its owner has removed it meanwhile.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives a tree that outlives Pods to a group, unless its top looks as that leaves it and is to be trusted
/// (`fsGroupChangePolicy: OnRootMismatch`).
pub(crate) fn give_tree(path: &Path, group: u32, trusts_root: bool) -> Result<(), VolumeError> {
    let meta =
        std::fs::symlink_metadata(path).map_err(io(|| format!("stat {}", path.display())))?;
    if trusts_root && meta.gid() == group && meta.mode() & 0o2770 == 0o2770 {
        return Ok(());
    }
    give_to_group(path, group, Access::ReadWrite)
}
