//! fsGroup (spec `§10.6`): a tree is given to a group, without following links.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ports::volumes::VolumeError;

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
    let failed = || format!("give {} to group {group}", path.display());
    let meta = std::fs::symlink_metadata(path).map_err(io(failed))?;
    std::os::unix::fs::lchown(path, None, Some(group)).map_err(io(failed))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let bits = match access {
        Access::ReadWrite => 0o660,
        Access::Read => 0o440,
    };
    let bits = if meta.is_dir() { bits | 0o2110 } else { bits };
    std::fs::set_permissions(path, Permissions::from_mode(meta.mode() & 0o7777 | bits))
        .map_err(io(failed))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).map_err(io(failed))? {
            give_to_group(&entry.map_err(io(failed))?.path(), group, access)?;
        }
    }
    Ok(())
}
