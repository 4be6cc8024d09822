//! A Pod's own user namespace: what of a container's file system it shifts, and what it hands to the root inside.
//!
//! The launcher itself stays the node's root. Image layers and bind mounts are idmapped, so that ids on disk mean ids inside; what
//! the launcher makes anew (mount points, `/dev`, the writable layer) is given to the root inside. Inside, the node's own ids are
//! nobody's.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use ports::runtime::{IdMapping, UserStatus};
use rustix::fs::{AtFlags, Gid, Uid};

use super::error::{Errno, LaunchError};
use super::sys::{self, MountAttr};

/// A Pod's user namespace, as pause hands it to its launcher.
#[derive(Debug)]
pub struct UserNamespace {
    /// The namespace.
    pub users: OwnedFd,
    /// Its ids on the node.
    pub ids: IdMapping,
    /// The PID namespace the Pod shares, if it does: pause is not in it.
    pub pids: Option<OwnedFd>,
}

impl UserNamespace {
    /// Makes what is on disk belong to the same ids inside. `tree` is a detached mount nobody has used; its submounts are left alone.
    pub(super) fn idmap(&self, tree: &OwnedFd) -> Result<(), Errno> {
        let attr = MountAttr {
            set: sys::MOUNT_ATTR_IDMAP,
            userns_fd: self.users.as_raw_fd() as u64,
            ..MountAttr::default()
        };
        sys::mount_setattr(tree.as_raw_fd(), false, &attr)
    }

    /// The root inside, as the node knows it.
    pub(super) fn root(&self) -> Owner {
        Owner(Some(self.ids.host_id))
    }

    /// A user of the inside as the node knows them, for files that are the node's.
    pub(super) fn on_node(&self, user: &UserStatus) -> UserStatus {
        let shift = |id: u32| id.saturating_add(self.ids.host_id);
        UserStatus {
            uid: shift(user.uid),
            gid: shift(user.gid),
            supplemental_groups: user.supplemental_groups.iter().map(|g| shift(*g)).collect(),
        }
    }

    /// Whether there are such ids inside.
    pub(super) fn check(&self, user: &UserStatus) -> Result<(), LaunchError> {
        let unmapped = |id: &u32| *id >= self.ids.length;
        if unmapped(&user.uid) {
            return Err(LaunchError::UnmappedUser);
        }
        if unmapped(&user.gid) || user.supplemental_groups.iter().any(unmapped) {
            return Err(LaunchError::UnmappedGroup);
        }
        Ok(())
    }
}

/// Whose what the launcher makes for a container is to be: the node's root's, or that of the root inside with this id on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Owner(Option<u32>);

impl Owner {
    /// Hands over what `fd` refers to.
    pub(super) fn take(self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.take_at(fd, "", AtFlags::EMPTY_PATH)
    }

    /// Hands over `name` in `dir`, itself and not what it may link to.
    pub(super) fn take_in(self, dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<(), Errno> {
        self.take_at(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn take_at<P: rustix::path::Arg>(
        self,
        dir: BorrowedFd<'_>,
        name: P,
        flags: AtFlags,
    ) -> Result<(), Errno> {
        let Self(Some(id)) = self else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags)?)
    }

    /// Id `id` of the inside.
    pub(super) fn shift(self, id: u32) -> u32 {
        id.saturating_add(self.0.unwrap_or(0))
    }
}
