//! emptyDir (spec `§10.2`): a directory every container may write to, on disk or in memory.

use std::path::{Path, PathBuf};

use ports::volumes::VolumeError;

use crate::layout::make_dir;
use crate::{kernel, ownership};

/// Makes the directory if it is not there. One that is there keeps its contents and its owners.
pub(crate) fn ensure(
    dir: &Path,
    memory: bool,
    size_limit: Option<u64>,
    fs_group: Option<u32>,
) -> Result<PathBuf, VolumeError> {
    let fresh = if memory {
        make_dir(dir, 0o777)?;
        let mount = !kernel::is_other_file_system(dir);
        if mount {
            kernel::mount_tmpfs(dir, size_limit)?;
        }
        mount
    } else {
        let absent = !dir.exists();
        make_dir(dir, 0o777)?;
        absent
    };
    if let Some(group) = fs_group.filter(|_| fresh) {
        ownership::give_to_group(dir, group, ownership::Access::ReadWrite)?;
    }
    Ok(dir.to_owned())
}
