//! Paths inside a container's root, resolved so that no symbolic link leads out of it.
//!
//! The kernel does the resolving (`openat2` with `RESOLVE_IN_ROOT`); what is made is made relative to a descriptor so found, by
//! its last name alone. Somebody who renames directories of a volume meanwhile gets an error or another place inside the root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::error::Errno;
use super::userns::Owner;

/// Symbolic links followed in one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens what `path` names below `root`, following links inside it.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    // EAGAIN: something was renamed while `..` was resolved; the kernel asks to try again.
    for _ in 0..16 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno(libc::EAGAIN))
}

/// Opens `path` as a mount point, making what is missing of it (directories 0755, the file 0644) for `owner`.
pub(super) fn ensure(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: Kind,
    owner: Owner,
) -> Result<OwnedFd, Errno> {
    let found = match open(root, path, OFlags::PATH) {
        Err(Errno(libc::ENOENT)) => {
            make(root, path, kind, owner)?;
            open(root, path, OFlags::PATH)?
        }
        result => result?,
    };
    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_dir();
    match kind {
        Kind::Directory if !is_dir => Err(Errno(libc::ENOTDIR)),
        Kind::File if is_dir => Err(Errno(libc::EISDIR)),
        _ => Ok(found),
    }
}

/// Walks `path` name by name and makes what is not there. Dangling links are followed to where they point inside the root.
fn make(root: BorrowedFd<'_>, path: &Path, kind: Kind, owner: Owner) -> Result<(), Errno> {
    let mut here = PathBuf::new();
    let mut names = names(path);
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        match open(root, &next, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno(libc::ENOENT)) => {
                let kind = if names.is_empty() {
                    kind
                } else {
                    Kind::Directory
                };
                make_one(
                    &open(root, &here, OFlags::PATH | OFlags::DIRECTORY)?,
                    &name,
                    kind,
                    owner,
                )?;
            }
            Err(e) => return Err(e),
            Ok(found)
                if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_symlink() =>
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno(libc::ELOOP));
                }
                let target = rustix::fs::readlinkat(&found, c"", Vec::new())?;
                let target = PathBuf::from(
                    <OsString as std::os::unix::ffi::OsStringExt>::from_vec(target.into_bytes()),
                );
                if target.is_absolute() {
                    here = PathBuf::new();
                }
                for name in self::names(&target).into_iter().rev() {
                    names.push_front(name);
                }
                continue;
            }
            Ok(_) => {}
        }
        here = next;
    }
    Ok(())
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn make_one(parent: &OwnedFd, name: &OsString, kind: Kind, owner: Owner) -> Result<(), Errno> {
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        // Somebody else was quicker; the last look decides.
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
        Ok(()) => owner.take_in(parent.as_fd(), name),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(prepare: impl Fn(&Path), path: &str, kind: Kind, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        prepare(&root);
        let fd = std::fs::File::open(&root).unwrap();
        let got = match ensure(fd.as_fd(), Path::new(path), kind, Owner::default()) {
            Ok(found) => {
                let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
                let at = std::fs::read_link(link).unwrap();
                at.strip_prefix(&root)
                    .unwrap_or(&at)
                    .to_str()
                    .unwrap()
                    .to_owned()
            }
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected, "{path}");
        let beside: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(
            beside,
            ["root"],
            "{path} must make nothing outside the root"
        );
    }

    #[test]
    fn mount_points_are_made_inside_the_root() {
        let none = |_: &Path| {};
        check(none, "/a/b/c", Kind::Directory, "a/b/c");
        check(none, "a/b/file", Kind::File, "a/b/file");
        check(none, "/../../a", Kind::Directory, "a");
        check(none, "/a/../b", Kind::Directory, "b");
    }

    #[test]
    fn links_stay_inside_the_root() {
        check(
            |r| symlink("/", r.join("up")).unwrap(),
            "/up/etc/x",
            Kind::Directory,
            "etc/x",
        );
        check(
            |r| symlink("../../../..", r.join("up")).unwrap(),
            "/up/x",
            Kind::Directory,
            "x",
        );
        check(
            |r| symlink("../outside", r.join("l")).unwrap(),
            "/l",
            Kind::Directory,
            "outside",
        );
        check(
            |r| symlink("../outside", r.join("l")).unwrap(),
            "/l",
            Kind::File,
            "outside",
        );
        check(
            |r| symlink("/run", r.join("var")).unwrap(),
            "/var/lock",
            Kind::Directory,
            "run/lock",
        );
        check(
            |r| symlink("loop", r.join("loop")).unwrap(),
            "/loop/x",
            Kind::Directory,
            "too many levels of symbolic links",
        );
        check(
            |r| symlink("/proc/self/cwd", r.join("m")).unwrap(),
            "/m/x",
            Kind::Directory,
            "proc/self/cwd/x",
        );
    }

    #[test]
    fn kinds_are_kept_apart() {
        check(
            |r| std::fs::write(r.join("f"), "").unwrap(),
            "/f",
            Kind::Directory,
            "not a directory",
        );
        check(
            |r| std::fs::write(r.join("f"), "").unwrap(),
            "/f/x",
            Kind::Directory,
            "not a directory",
        );
        check(
            |r| std::fs::create_dir(r.join("d")).unwrap(),
            "/d",
            Kind::File,
            "is a directory",
        );
    }
}
