//! The few mount calls, and what the kernel says is mounted.

use std::borrow::Cow;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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

/// What was mounted at one moment. The table has a line for each mount of the node, so of most only the place is read.
pub(crate) struct Mounts {
    table: Vec<u8>,
}

/// Where something is mounted.
#[derive(Debug)]
pub(crate) struct MountPoint<'a> {
    pub(crate) path: Cow<'a, Path>,
    device: &'a [u8],
    /// The fields after the place.
    rest: &'a [u8],
}

/// An export of a file server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// What mounts of it have in common that wait for the server together.
    pub(crate) device: String,
    pub(crate) server: Option<SocketAddr>,
}

impl Mounts {
    /// What is mounted now.
    pub(crate) fn now() -> Result<Mounts, VolumeError> {
        let table = std::fs::read("/proc/self/mountinfo");
        let table = table.map_err(io(|| "read /proc/self/mountinfo".into()))?;
        Ok(Mounts { table })
    }

    /// All mount points, in the order in which they were mounted.
    pub(crate) fn points(&self) -> impl Iterator<Item = MountPoint<'_>> {
        let lines = self.table.split(|b| *b == b'\n');
        lines.filter_map(mount_point)
    }

    /// Those below a directory (itself included) whose path has no links.
    pub(crate) fn below<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = MountPoint<'a>> {
        self.points().filter(|point| point.is_below(dir))
    }

    /// Whether something is mounted on a directory. What is mounted there is not asked: its server may be gone.
    pub(crate) fn has(&self, dir: &Path) -> Result<bool, VolumeError> {
        let (Some(above), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Ok(false);
        };
        let above = above.canonicalize();
        let above = above.map_err(io(|| format!("resolve {}", dir.display())))?;
        let dir = above.join(name);
        Ok(self.points().any(|point| point.path == dir))
    }
}

impl MountPoint<'_> {
    /// Whether it is a directory, whose path has no links, or below it.
    pub(crate) fn is_below(&self, dir: &Path) -> bool {
        let (path, dir_bytes) = (self.path.as_os_str(), dir.as_os_str());
        path.as_bytes().starts_with(dir_bytes.as_bytes()) && self.path.starts_with(dir)
    }

    /// Of what server, if it is an export's.
    pub(crate) fn served(&self) -> Option<Served> {
        let mut last = self.rest.split(|b| *b == b' ');
        last.find(|field| *field == b"-")?;
        match last.next()? {
            b"nfs" | b"nfs4" => Some(Served {
                device: String::from_utf8_lossy(self.device).into_owned(),
                server: last.nth(1).and_then(server),
            }),
            _ => None,
        }
    }
}

/// What a line of a mount table tells (proc_pid_mountinfo(5)): the third field, and the fifth, unescaped; after a lone dash the kind of file
/// system, its source and its options.
fn mount_point(line: &[u8]) -> Option<MountPoint<'_>> {
    let mut fields = line.splitn(6, |b| *b == b' ');
    let device = fields.nth(2)?;
    let path = match fields.nth(1)? {
        escaped if escaped.contains(&b'\\') => {
            Cow::Owned(PathBuf::from(OsString::from_vec(unescape(escaped))))
        }
        plain => Cow::Borrowed(Path::new(OsStr::from_bytes(plain))),
    };
    Some(MountPoint {
        path,
        device,
        rest: fields.next()?,
    })
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
        let table = b"36 35 98:0 / /mnt/a\\040b rw - ext3 /dev/root rw\n37 36 0:5 /x /mnt/a\\040b/c\\134d rw shared:1 - tmpfs t rw\n37 36 0:5 / /mnt/a\\040bc rw - tmpfs t rw\n\
            38 36 0:6 / /e rw shared:2 - nfs4 s:/p rw,vers=4.2,proto=tcp,port=0,clientaddr=10.0.0.2,addr=10.0.0.1\n\
            39 36 0:7 / /f rw - nfs [fd00::1]:/p rw,vers=3,mountaddr=fd00::2,port=204,addr=fd00::1\n40 36 0:8 / /g rw - nfs4 s:/ rw\n";
        let table = Mounts {
            table: table.to_vec(),
        };
        let points: Vec<(String, Option<Served>)> = table
            .points()
            .map(|point| (point.path.display().to_string(), point.served()))
            .collect();
        let served = |device: &str, address: Option<&str>| {
            Some(Served {
                device: device.to_owned(),
                server: address.map(|address| address.parse().unwrap()),
            })
        };
        let expected = [
            ("/mnt/a b", None),
            ("/mnt/a b/c\\d", None),
            ("/mnt/a bc", None),
            ("/e", served("0:6", Some("10.0.0.1:2049"))),
            ("/f", served("0:7", Some("[fd00::1]:204"))),
            ("/g", served("0:8", None)),
        ];
        let expected = expected.map(|(path, served)| (path.to_owned(), served));
        assert_eq!(points, expected);
        let below: Vec<_> = table.below(Path::new("/mnt/a b")).collect();
        assert_eq!(below.len(), 2, "{below:?}");
        assert!(table.has(Path::new("/e")).unwrap());
        assert!(!table.has(Path::new("/mn")).unwrap());
    }
}
