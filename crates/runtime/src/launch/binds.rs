//! Mounts that a container asks for: copies of the node's, and images. Made before its mount namespace is entered, attached after.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use ports::runtime::{Mount, MountPropagation};
use rustix::fs::{CWD, FileType};

use super::error::{Errno, LaunchError};
use super::images::Mounted;
use super::inroot::{self, Kind};
use super::scratch::Inside;
use super::spec::ImageTree;
use super::sys::{self, MOUNT_ATTR_RDONLY, MountAttr, call};
use super::userns::{Owner, UserNamespace};

/// Where the scratch namespace has the node's `/proc` on kernels that need it ([`super::scratch`]).
pub(super) const SCRATCH_PROC: &str = "/p";

/// A detached mount, and where it goes.
pub(super) struct Bind {
    tree: OwnedFd,
    /// What of it goes there, unless that is all.
    part: Option<OwnedFd>,
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

/// Copies what is to be mounted, and adds `images`; shallow targets first.
pub(super) fn prepare(
    mounts: &[Mount],
    images: Vec<(&ImageTree, Mounted)>,
    setattr: bool,
    users: Option<&UserNamespace>,
) -> Result<Vec<Bind>, LaunchError> {
    let mut binds = mounts
        .iter()
        .map(|m| prepare_one(m, setattr, users))
        .chain(images.into_iter().map(|(spec, m)| image(spec, m, setattr)))
        .collect::<Result<Vec<_>, _>>()?;
    binds.sort_by_key(|b| b.target.components().count());
    Ok(binds)
}

/// Where in the container a mount goes.
fn target(path: &Path) -> Result<PathBuf, LaunchError> {
    let target = normalise(path);
    if target.starts_with("/proc") {
        return Err(LaunchError::InsideProc(path.display().to_string()));
    }
    Ok(target)
}

fn image(spec: &ImageTree, mounted: Mounted, setattr: bool) -> Result<Bind, LaunchError> {
    let bind = Bind {
        target: target(&spec.container_path)?,
        tree: mounted.tree,
        part: mounted.part,
        source: spec.image.clone(),
        kind: mounted.kind,
        readonly: true,
        propagation: libc::MS_PRIVATE,
    };
    if setattr {
        bind.set_attributes(false)?;
    }
    Ok(bind)
}

fn prepare_one(
    mount: &Mount,
    setattr: bool,
    users: Option<&UserNamespace>,
) -> Result<Bind, LaunchError> {
    let target = target(&mount.container_path)?;
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
        part: None,
        target,
        kind,
        readonly: mount.readonly,
        propagation,
        source: source.clone(),
    };
    if setattr {
        bind.set_attributes(mount.recursive_readonly)?;
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
    fn failed(&self) -> impl FnOnce(Errno) -> LaunchError + use<> {
        let (source_path, target) = (self.source.clone(), self.target.display().to_string());
        move |errno| LaunchError::Mount {
            source_path,
            target,
            errno,
        }
    }

    /// Propagation, and whether it is read-only, while it is attached nowhere.
    fn set_attributes(&self, recursive_readonly: bool) -> Result<(), LaunchError> {
        let attr = MountAttr {
            propagation: self.propagation,
            ..MountAttr::default()
        };
        sys::mount_setattr(self.tree.as_raw_fd(), true, &attr).map_err(self.failed())?;
        if self.readonly {
            set_readonly(&self.tree, recursive_readonly).map_err(self.failed())?;
        }
        Ok(())
    }

    /// Attaches it below `root`, whose links cannot lead out of it; its mount point is made if absent.
    pub(super) fn attach(
        &self,
        inside: &Inside<'_>,
        root: BorrowedFd<'_>,
        setattr: bool,
        owner: Owner,
    ) -> Result<(), LaunchError> {
        let copied = self.part.as_ref().map(|part| inside.copy(&self.tree, part));
        let attached = copied.transpose().and_then(|copy| {
            let tree = copy.as_ref().unwrap_or(&self.tree);
            self.try_attach(tree, root, setattr, owner)
        });
        attached.map_err(self.failed())
    }

    fn try_attach(
        &self,
        tree: &OwnedFd,
        root: BorrowedFd<'_>,
        setattr: bool,
        owner: Owner,
    ) -> Result<(), Errno> {
        let below = self.target.strip_prefix("/").unwrap_or(&self.target);
        let point = inroot::ensure(root, below, self.kind, owner)?;
        sys::attach(tree.as_fd(), point.as_fd())?;
        if !setattr {
            mount_by_path(tree, libc::MS_REC | self.propagation)?;
            if self.readonly {
                remount_readonly(tree)?;
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
