//! The few mount calls, and what the kernel says is mounted.

use std::ffi::CString;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ports::volumes::{Space, VolumeError};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::{io, nfs};

/// A file system in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tmpfs {
    /// Of its top.
    pub(crate) mode: u32,
    /// Of its top; ours if none is named.
    pub(crate) group: Option<u32>,
    /// Most bytes it may hold; half of the machine's if there is no limit.
    pub(crate) size: Option<u64>,
    /// Whether what is in it may be written to a swap device. Kernels before 6.4 cannot be told.
    pub(crate) may_swap: bool,
}

/// Mounts a file system in memory.
pub(crate) fn mount_tmpfs(target: &Path, tmpfs: Tmpfs) -> Result<(), VolumeError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let size = tmpfs.size.map(|bytes| format!(",size={bytes}"));
    let size = size.unwrap_or_default();
    let group = tmpfs.group.map(|group| format!(",gid={group}"));
    let group = group.unwrap_or_default();
    let try_with = |extra: &str| {
        let options = format!("mode={:04o}{group}{size}{extra}", tmpfs.mode);
        let options = CString::new(options).unwrap_or_default();
        mount("tmpfs", target, "tmpfs", flags, options.as_c_str())
    };
    let mounted = match tmpfs.may_swap {
        true => try_with(""),
        false => match try_with(",noswap") {
            Err(Errno::INVAL) => try_with(""),
            mounted => mounted,
        },
    };
    mounted.map_err(|e| io(|| format!("mount tmpfs on {}", target.display()))(e.into()))
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

/// Where something is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountPoint {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// What is mounted there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nfs(Served),
    Other,
}

/// An export of a file server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// What mounts of it have in common that wait for the server together.
    pub(crate) device: String,
    pub(crate) server: Option<SocketAddr>,
}

/// Mount points below a directory (itself included), in the order in which they were mounted.
pub(crate) fn mounts_below(dir: &Path) -> Result<Vec<MountPoint>, VolumeError> {
    let dir = dir
        .canonicalize()
        .map_err(io(|| format!("resolve {}", dir.display())))?;
    let mut points = mounts()?;
    points.retain(|point| point.path.starts_with(&dir));
    Ok(points)
}

/// All mount points, in the order in which they were mounted.
pub(crate) fn mounts() -> Result<Vec<MountPoint>, VolumeError> {
    let table =
        std::fs::read("/proc/self/mountinfo").map_err(io(|| "read /proc/self/mountinfo".into()))?;
    Ok(mount_points(&table))
}

/// Whether something is mounted on a directory. What is mounted there is not asked: its server may be gone.
pub(crate) fn is_mounted(dir: &Path) -> Result<bool, VolumeError> {
    let (Some(above), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Ok(false);
    };
    let above = above.canonicalize();
    let above = above.map_err(io(|| format!("resolve {}", dir.display())))?;
    let points = mounts()?;
    Ok(points.iter().any(|point| point.path == above.join(name)))
}

/// What each line of a mount table tells (proc_pid_mountinfo(5)).
fn mount_points(table: &[u8]) -> Vec<MountPoint> {
    let lines = table.split(|b| *b == b'\n');
    lines.filter_map(mount_point).collect()
}

/// The third field, and the fifth, unescaped; after a lone dash the kind of file system, its source and its options.
fn mount_point(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|b| *b == b' ');
    let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
    let path = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.nth(1)?)));
    let mut last = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = match last.next() {
        Some(b"nfs" | b"nfs4") => Kind::Nfs(Served {
            device,
            server: last.nth(1).and_then(server),
        }),
        _ => Kind::Other,
    };
    Some(MountPoint { path, kind })
}

/// The server among the options of an export.
fn server(options: &[u8]) -> Option<SocketAddr> {
    let options = std::str::from_utf8(options).ok()?;
    let value = |key| {
        options
            .split(',')
            .find_map(|option| option.strip_prefix(key))
    };
    let port = value("port=").and_then(|port| port.parse().ok());
    let port = port.filter(|port| *port > 0);
    let address = value("addr=")?.parse().ok()?;
    Some(SocketAddr::new(address, port.unwrap_or(nfs::PORT)))
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
    fn mount_points_are_read_and_unescaped() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw - ext3 /dev/root rw\n37 36 0:5 /x /mnt/a\\040b/c\\134d rw shared:1 - tmpfs t rw\n\
            38 36 0:6 / /e rw shared:2 - nfs4 s:/p rw,vers=4.2,proto=tcp,port=0,clientaddr=10.0.0.2,addr=10.0.0.1\n\
            39 36 0:7 / /f rw - nfs [fd00::1]:/p rw,vers=3,mountaddr=fd00::2,port=204,addr=fd00::1\n40 36 0:8 / /g rw - nfs4 s:/ rw\n";
        let points: Vec<(String, Kind)> = mount_points(table)
            .into_iter()
            .map(|point| (point.path.display().to_string(), point.kind))
            .collect();
        let served = |device: &str, address: Option<&str>| {
            Kind::Nfs(Served {
                device: device.to_owned(),
                server: address.map(|address| address.parse().unwrap()),
            })
        };
        let expected = [
            ("/mnt/a b", Kind::Other),
            ("/mnt/a b/c\\d", Kind::Other),
            ("/e", served("0:6", Some("10.0.0.1:2049"))),
            ("/f", served("0:7", Some("[fd00::1]:204"))),
            ("/g", served("0:8", None)),
        ];
        let expected = expected.map(|(path, kind)| (path.to_owned(), kind));
        assert_eq!(points, expected);
    }
}
