//! emptyDir (spec `§10.2`): a directory every container may write to, on disk, in memory or in huge pages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ports::volumes::{Medium, VolumeError};

use crate::kernel::Tmpfs;
use crate::layout::make_dir;
use crate::{io, kernel, ownership, quota};

/// Makes the directory if it is not there. One that is there keeps its contents and its owners. Where it is to be nothing is seen before it
/// has its mode and its group: whoever comes after a crash takes it for done. (Huge pages, whose file system is given to nobody as it is
/// mounted, are the exception.)
pub(crate) fn ensure(
    dir: &Path,
    medium: Medium,
    size_limit: Option<u64>,
    fs_group: Option<u32>,
) -> Result<PathBuf, VolumeError> {
    if medium != Medium::Disk {
        make_dir(dir, 0o777)?;
    }
    match medium {
        Medium::Disk => ensure_on_disk(dir, size_limit, fs_group)?,
        _ if kernel::is_other_file_system(dir) => {}
        Medium::Memory => {
            let tmpfs = Tmpfs {
                mode: if fs_group.is_some() { 0o2777 } else { 0o777 },
                group: fs_group,
                size: size_limit,
                may_swap: false,
            };
            kernel::mount_tmpfs(dir, tmpfs)?;
        }
        Medium::HugePages { page_bytes } => {
            kernel::mount_huge_pages(dir, page_bytes)?;
            give(dir, fs_group)?;
        }
    }
    Ok(dir.to_owned())
}

fn ensure_on_disk(
    dir: &Path,
    size_limit: Option<u64>,
    fs_group: Option<u32>,
) -> Result<(), VolumeError> {
    if !dir.exists() {
        // No volume has such a name. What a crash left of it is made anew.
        let mut name = OsString::from(".");
        name.push(dir.file_name().unwrap_or_default());
        let unfinished = dir.with_file_name(name);
        match std::fs::remove_dir(&unfinished) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(|| format!("remove {}", unfinished.display()))(e));
            }
            _ => make_dir(&unfinished, 0o777)?,
        }
        give(&unfinished, fs_group)?;
        std::fs::rename(&unfinished, dir).map_err(io(|| format!("make {}", dir.display())))?;
    }
    match size_limit {
        Some(bytes) => quota::limit(dir, bytes).map_err(io(|| format!("limit {}", dir.display()))),
        None => Ok(()),
    }
}

fn give(dir: &Path, fs_group: Option<u32>) -> Result<(), VolumeError> {
    fs_group.map_or(Ok(()), |group| {
        ownership::give_to_group(dir, group, ownership::Access::ReadWrite)
    })
}

/// Gives back what the file system keeps for the limits of all such directories of a Pod.
pub(crate) fn release(above: &Path) -> Result<(), VolumeError> {
    let failed = || format!("take the limits of {} back", above.display());
    let entries = match std::fs::read_dir(above) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io(failed))?,
    };
    for entry in entries {
        let dir = entry.map_err(io(failed))?.path();
        quota::release(&dir).map_err(io(failed))?;
    }
    Ok(())
}
