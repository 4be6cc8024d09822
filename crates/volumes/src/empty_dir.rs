//! emptyDir (spec `§10.2`): a directory every container may write to, on disk, in memory or in huge pages.

use std::path::{Path, PathBuf};

use ports::volumes::{Medium, VolumeError};

use crate::kernel::Tmpfs;
use crate::layout::make_dir;
use crate::{io, kernel, ownership, quota};

/// Makes the directory if it is not there. One that is there keeps its contents and its owners.
pub(crate) fn ensure(
    dir: &Path,
    medium: Medium,
    size_limit: Option<u64>,
    fs_group: Option<u32>,
) -> Result<PathBuf, VolumeError> {
    let absent = !dir.exists();
    make_dir(dir, 0o777)?;
    let fresh = match medium {
        Medium::Disk => absent,
        _ if kernel::is_other_file_system(dir) => false,
        Medium::Memory => {
            let tmpfs = Tmpfs {
                mode: 0o777,
                size: size_limit,
                may_swap: false,
            };
            kernel::mount_tmpfs(dir, tmpfs)?;
            true
        }
        Medium::HugePages { page_bytes } => {
            kernel::mount_huge_pages(dir, page_bytes)?;
            true
        }
    };
    if let Some(bytes) = size_limit.filter(|_| medium == Medium::Disk) {
        quota::limit(dir, bytes).map_err(io(|| format!("limit {}", dir.display())))?;
    }
    if let Some(group) = fs_group.filter(|_| fresh) {
        ownership::give_to_group(dir, group, ownership::Access::ReadWrite)?;
    }
    Ok(dir.to_owned())
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
