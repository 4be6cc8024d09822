//! emptyDir (spec `§10.2`): a directory every container may write to, on disk, in memory or in huge pages.

use std::path::{Path, PathBuf};

use ports::volumes::{Medium, VolumeError};

use crate::kernel::Tmpfs;
use crate::layout::make_dir;
use crate::{kernel, ownership};

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
    if let Some(group) = fs_group.filter(|_| fresh) {
        ownership::give_to_group(dir, group, ownership::Access::ReadWrite)?;
    }
    Ok(dir.to_owned())
}
