//! Network namespaces with a name: plugins are told a path, which holds as long as they may be asked about the Pod, also when its
//! processes have ended and while the engine is away.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// Magic number of namespaces' file system (`NSFS_MAGIC`).
const NSFS: u64 = 0x6e73_6673;

/// Gives a namespace a name below `dir`.
pub(super) fn pin(dir: &Path, name: &str, netns: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let path = dir.join(name);
    if is_pinned(&path) {
        return Ok(path);
    }
    fs::create_dir_all(dir)?;
    fs::File::create(&path)?;
    mount_bind(format!("/proc/self/fd/{}", netns.as_raw_fd()), &path)?;
    Ok(path)
}

/// Whether a namespace has this name; none has after the machine was started anew.
pub(super) fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type) == Ok(NSFS))
}

/// Takes the name away; the namespace ends with its last process.
pub(super) fn unpin(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        Err(error) if ![Errno::INVAL, Errno::NOENT].contains(&error) => return Err(error.into()),
        _ => {}
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
