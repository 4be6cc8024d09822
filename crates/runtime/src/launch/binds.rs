//! Bind mounts of a container: copies of the node's mounts, made before its mount namespace is entered, attached after.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use ports::runtime::{Mount, MountPropagation};
use rustix::fs::{CWD, FileType};

use super::error::{Errno, LaunchError};
use super::inroot::{self, Kind};
use super::sys::{self, MOUNT_ATTR_RDONLY, MountAttr, call};
use super::userns::{Owner, UserNamespace};

/// Where the scratch namespace has the node's `/proc` on kernels that need it ([`super::scratch`]).
pub(super) const SCRATCH_PROC: &str = "/p";

/// A detached copy of a mount, and where it goes.
pub(super) struct Bind {
    pub(super) tree: OwnedFd,
    /// Normalised path in the container.
    pub(super) target: PathBuf,
    source: String,
    kind: Kind,
    readonly: bool,
    propagation: u64,
}

/// An absolute path without `.`, `..` and doubled slashes. Links are left for the kernel to follow.
fn normalise(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// Copies what is to be mounted, shallow targets first.
pub(super) fn prepare(
    mounts: &[Mount],
    setattr: bool,
    users: Option<&UserNamespace>,
) -> Result<Vec<Bind>, LaunchError> {
    let mut binds = mounts
        .iter()
        .map(|m| prepare_one(m, setattr, users))
        .collect::<Result<Vec<_>, _>>()?;
    binds.sort_by_key(|b| b.target.components().count());
    Ok(binds)
}

fn prepare_one(
    mount: &Mount,
    setattr: bool,
    users: Option<&UserNamespace>,
) -> Result<Bind, LaunchError> {
    let target = normalise(&mount.container_path);
    if target.starts_with("/proc") {
        return Err(LaunchError::InsideProc(
            mount.container_path.display().to_string(),
        ));
    }
    let source = mount.host_path.display().to_string();
    let failed = |errno: Errno| LaunchError::Mount {
        source_path: source.clone(),
        target: mount.container_path.display().to_string(),
        errno,
    };
    let path = CString::new(mount.host_path.as_os_str().as_bytes())
        .map_err(|_| LaunchError::Nul { what: "mount path" })?;
    let tree = sys::clone_tree(CWD, &path).map_err(failed)?;
    if let Some(users) = users {
        users.idmap(&tree).map_err(|errno| LaunchError::IdMap {
            path: source.clone(),
            errno,
        })?;
    }
    let stat = rustix::fs::fstat(&tree).map_err(|e| failed(e.into()))?;
    let kind = if FileType::from_raw_mode(stat.st_mode).is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    let propagation = match mount.propagation {
        MountPropagation::Private => libc::MS_PRIVATE,
        MountPropagation::HostToContainer => libc::MS_SLAVE,
        MountPropagation::Bidirectional => libc::MS_SHARED,
    };
    let bind = Bind {
        tree,
        target,
        kind,
        readonly: mount.readonly,
        propagation,
        source: source.clone(),
    };
    if setattr {
        let attr = MountAttr {
            propagation: bind.propagation,
            ..MountAttr::default()
        };
        sys::mount_setattr(bind.tree.as_raw_fd(), true, &attr).map_err(failed)?;
        if mount.readonly {
            set_readonly(&bind.tree, mount.recursive_readonly).map_err(failed)?;
        }
    } else if mount.readonly && mount.recursive_readonly {
        return Err(LaunchError::RecursiveReadonly(
            mount.container_path.display().to_string(),
        ));
    }
    Ok(bind)
}

/// Makes a mount read-only, and its submounts if asked. Needs `mount_setattr` (Linux 5.12).
pub(super) fn set_readonly(tree: &OwnedFd, recursive: bool) -> Result<(), Errno> {
    sys::mount_setattr(
        tree.as_raw_fd(),
        recursive,
        &MountAttr {
            set: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        },
    )
}

/// The same on older kernels, for an attached mount and without its submounts: a remount through the scratch `/proc`.
pub(super) fn remount_readonly(tree: &OwnedFd) -> Result<(), Errno> {
    use rustix::fs::StatVfsMountFlags as F;
    let kept = rustix::fs::fstatvfs(tree)?.f_flag
        & (F::NOSUID | F::NODEV | F::NOEXEC | F::NOATIME | F::NODIRATIME | F::RELATIME);
    let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | kept.bits();
    mount_by_path(tree, flags)
}

fn mount_by_path(tree: &OwnedFd, flags: u64) -> Result<(), Errno> {
    let path = CString::new(format!("{SCRATCH_PROC}/self/fd/{}", tree.as_raw_fd()))
        .map_err(|_| Errno(libc::EINVAL))?;
    call!(libc::SYS_mount, 0, path.as_ptr(), 0, flags, 0)?;
    Ok(())
}

impl Bind {
    /// Attaches the copy below `root`, whose links cannot lead out of it; its mount point is made if absent.
    pub(super) fn attach(
        &self,
        root: BorrowedFd<'_>,
        setattr: bool,
        owner: Owner,
    ) -> Result<(), LaunchError> {
        self.try_attach(root, setattr, owner)
            .map_err(|errno| LaunchError::Mount {
                source_path: self.source.clone(),
                target: self.target.display().to_string(),
                errno,
            })
    }

    fn try_attach(&self, root: BorrowedFd<'_>, setattr: bool, owner: Owner) -> Result<(), Errno> {
        use std::os::fd::AsFd;
        let below = self.target.strip_prefix("/").unwrap_or(&self.target);
        let point = inroot::ensure(root, below, self.kind, owner)?;
        sys::attach(self.tree.as_fd(), point.as_fd())?;
        if !setattr {
            mount_by_path(&self.tree, libc::MS_REC | self.propagation)?;
            if self.readonly {
                remount_readonly(&self.tree)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_normalised() {
        for (path, expected) in [
            ("a/b", "/a/b"),
            ("/a//b/./c/..", "/a/b"),
            ("/../../x", "/x"),
            ("/", "/"),
        ] {
            assert_eq!(normalise(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn proc_is_left_alone() {
        for path in ["/proc", "/proc/sys", "//proc/x", "/a/../proc/1"] {
            let mount = Mount {
                container_path: path.into(),
                host_path: "/".into(),
                readonly: false,
                recursive_readonly: false,
                propagation: MountPropagation::Private,
            };
            let error = prepare_one(&mount, true, None).err().unwrap();
            assert_eq!(
                error.to_string(),
                format!("{path:?} cannot be mounted because it is inside /proc")
            );
        }
    }
}
