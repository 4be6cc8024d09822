//! The few mount calls, and what the kernel says is mounted.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ports::volumes::{Space, VolumeError};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::io;

/// Mounts a tmpfs with mode 0777, kept off swap where the kernel knows how (6.4).
pub(crate) fn mount_tmpfs(target: &Path, size: Option<u64>) -> Result<(), VolumeError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let size = size
        .map(|bytes| format!(",size={bytes}"))
        .unwrap_or_default();
    let try_with = |extra: &str| {
        let options = CString::new(format!("mode=0777{size}{extra}")).unwrap_or_default();
        mount("tmpfs", target, "tmpfs", flags, options.as_c_str())
    };
    try_with(",noswap")
        .or_else(|e| {
            if e == rustix::io::Errno::INVAL {
                try_with("")
            } else {
                Err(e)
            }
        })
        .map_err(|e| io(|| format!("mount tmpfs on {}", target.display()))(e.into()))
}

/// What the file system has that a directory is on, or will be.
pub(crate) fn space(dir: &Path) -> Result<Space, VolumeError> {
    let there = dir.ancestors().find(|path| path.exists());
    let there = there.unwrap_or(Path::new("/"));
    let fs = rustix::fs::statvfs(there)
        .map_err(|e| io(|| format!("measure {}", there.display()))(e.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    Ok(Space {
        capacity_bytes: bytes(fs.f_blocks),
        available_bytes: bytes(fs.f_bavail),
        inodes: fs.f_files,
        inodes_free: fs.f_favail,
    })
}

/// Mounts huge pages of this size with mode 0777.
pub(crate) fn mount_huge_pages(target: &Path, page_bytes: u64) -> Result<(), VolumeError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = CString::new(format!("mode=0777,pagesize={page_bytes}")).unwrap_or_default();
    mount("nodev", target, "hugetlbfs", flags, options.as_c_str()).map_err(|e| {
        let what = || {
            format!(
                "mount huge pages of {page_bytes} bytes on {}",
                target.display()
            )
        };
        io(what)(e.into())
    })
}

/// Binds what is open behind `fd` to `target`.
pub(crate) fn bind(fd: BorrowedFd<'_>, target: &Path) -> Result<(), VolumeError> {
    let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
    mount_bind(source, target).map_err(|e| io(|| format!("bind to {}", target.display()))(e.into()))
}

/// Takes a mount away from the tree; whoever still uses it keeps it.
pub(crate) fn detach(target: &Path) -> Result<(), VolumeError> {
    unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|e| io(|| format!("unmount {}", target.display()))(e.into()))
}

/// Whether a directory is the root of another file system than the one above it.
pub(crate) fn is_other_file_system(dir: &Path) -> bool {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.dev()).ok();
    dir.parent()
        .is_some_and(|parent| device(dir) != device(parent))
}

/// Mount points below a directory (itself included), in the order in which they were mounted.
pub(crate) fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let dir = dir
        .canonicalize()
        .map_err(io(|| format!("resolve {}", dir.display())))?;
    let table =
        std::fs::read("/proc/self/mountinfo").map_err(io(|| "read /proc/self/mountinfo".into()))?;
    Ok(mount_points(&table)
        .into_iter()
        .filter(|point| point.starts_with(&dir))
        .collect())
}

/// The fifth field of each line, unescaped (proc_pid_mountinfo(5)).
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    table
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .collect()
}

/// `\040` is a space, and so on.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal.filter(|_| first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// Whether two paths lead to the same file.
pub(crate) fn same_file(a: &File, b: &Path) -> bool {
    match (a.metadata(), std::fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw - ext3 /dev/root rw\n37 36 0:5 /x /mnt/a\\040b/c\\134d rw - tmpfs t rw\n";
        assert_eq!(
            mount_points(table),
            [PathBuf::from("/mnt/a b"), PathBuf::from("/mnt/a b/c\\d")]
        );
    }
}
