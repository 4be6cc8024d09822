//! Images mounted into a container beside its root: all of one, or a part that is looked for inside it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::error::{Errno, LaunchError};
use super::inroot::{self, Kind};
use super::overlay;
use super::spec::ImageTree;
use super::userns::UserNamespace;

/// An image, mounted and attached nowhere.
pub(super) struct Mounted {
    /// All of it.
    pub(super) tree: OwnedFd,
    /// What of it is to be seen, unless that is all.
    pub(super) part: Option<OwnedFd>,
    pub(super) kind: Kind,
}

/// Mounts an image. `place` and `users` are what [`overlay::mount_readonly`] wants.
pub(super) fn mount(
    image: &ImageTree,
    place: &Path,
    users: Option<&UserNamespace>,
) -> Result<Mounted, LaunchError> {
    let tree = overlay::mount_readonly(&image.layers, place, users).map_err(|e| match e {
        LaunchError::Rootfs { what, errno } => LaunchError::Image {
            image: image.image.clone(),
            what,
            errno,
        },
        other => other,
    })?;
    if image.sub_path.as_os_str().is_empty() {
        return Ok(Mounted {
            tree,
            part: None,
            kind: Kind::Directory,
        });
    }
    let found = find(&tree, &image.sub_path);
    let (part, kind) = found.map_err(|errno| LaunchError::ImagePath {
        image: image.image.clone(),
        path: image.sub_path.display().to_string(),
        errno,
    })?;
    Ok(Mounted {
        tree,
        part: Some(part),
        kind,
    })
}

fn find(tree: &OwnedFd, path: &Path) -> Result<(OwnedFd, Kind), Errno> {
    let part = inroot::open(tree.as_fd(), path, OFlags::PATH)?;
    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&part)?.st_mode).is_dir();
    let kind = if is_dir { Kind::Directory } else { Kind::File };
    Ok((part, kind))
}

/// Whether an image can be mounted, and what is asked for is in it.
pub(crate) fn check(image: &ImageTree, place: &Path) -> Result<(), LaunchError> {
    mount(image, place, None).map(drop)
}
