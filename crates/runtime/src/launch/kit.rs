//! File systems that nearly every container has alike, so that they can be made ahead of its launch, while the engine is busy with other
//! things.

use std::os::fd::{AsFd, OwnedFd};

use rustix::mount::MountAttrFlags;

use super::dev::{self, HARDENED, new_fs};
use super::error::{Errno, LaunchError};
use super::terminal;
use super::userns::Owner;

/// What one container needs of them, attached nowhere. Queues are those of the caller's IPC namespace, objects of the kernel those its
/// network namespace shows.
pub(super) struct Kit {
    /// `/dev`, without what is mounted below it.
    pub(super) dev: OwnedFd,
    /// `/dev/pts`.
    pub(super) devpts: OwnedFd,
    /// `/dev/mqueue`.
    pub(super) mqueue: OwnedFd,
    /// `/sys`.
    pub(super) sys: OwnedFd,
    /// Nothing, and no room for anything: covers directories that are not to be seen.
    pub(super) empty: OwnedFd,
}

impl Kit {
    /// Makes them for a container whose root is `owner`. A privileged one has every device of the node, and may change things in
    /// `/sys`. The umask must be 0.
    pub(super) fn new(owner: Owner, privileged: bool) -> Result<Self, LaunchError> {
        let (devices, change) = match privileged {
            true => (dev::host_devices(), MountAttrFlags::empty()),
            false => (Vec::new(), MountAttrFlags::MOUNT_ATTR_RDONLY),
        };
        let readonly = HARDENED | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let nothing = [("mode", "555"), ("nr_inodes", "1")];
        Ok(Self {
            dev: dev::make_dev(&devices, owner)?,
            devpts: terminal::new_devpts(owner).map_err(mount_error("devpts", "/dev/pts"))?,
            mqueue: new_for(owner, "mqueue", &[]).map_err(mount_error("mqueue", "/dev/mqueue"))?,
            sys: new_fs("sysfs", &[], HARDENED | change).map_err(mount_error("sysfs", "/sys"))?,
            empty: new_fs("tmpfs", &nothing, readonly)
                .map_err(LaunchError::setup("mount tmpfs"))?,
        })
    }
}

/// A new file system whose root directory is `owner`'s.
pub(super) fn new_for(
    owner: Owner,
    kind: &str,
    options: &[(&str, &str)],
) -> Result<OwnedFd, Errno> {
    let mount = new_fs(kind, options, HARDENED)?;
    owner.take(mount.as_fd())?;
    Ok(mount)
}

/// Tells what could not be mounted where.
pub(super) fn mount_error(source: &str, target: &str) -> impl FnOnce(Errno) -> LaunchError + use<> {
    let (source_path, target) = (source.to_owned(), target.to_owned());
    move |errno| LaunchError::Mount {
        source_path,
        target,
        errno,
    }
}
