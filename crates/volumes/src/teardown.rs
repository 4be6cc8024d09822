//! The end of a Pod's directory: unmounted first, then removed without following a link or entering another file system.

use std::path::Path;

use ports::volumes::VolumeError;

use crate::kernel::{MountPoint, Mounts};
use crate::{io, kernel, nfs};

/// Removes the directory and everything mounted below it. A missing directory is fine.
pub(crate) fn remove(dir: &Path) -> Result<(), VolumeError> {
    let dir = match dir.canonicalize() {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(|| format!("resolve {}", dir.display()))(e)),
    };
    let mounts = Mounts::now()?;
    let (below, elsewhere): (Vec<MountPoint<'_>>, Vec<MountPoint<'_>>) =
        mounts.points().partition(|point| point.is_below(&dir));
    for point in below.iter().rev() {
        match point.served() {
            Some(served) => nfs::release(&point.path, &served, &elsewhere)?,
            None => kernel::detach(&point.path)?,
        }
    }
    if !below.is_empty()
        && let Some(point) = Mounts::now()?.below(&dir).next()
    {
        return Err(VolumeError::Io {
            what: format!("{} is still mounted", point.path.display()),
            source: std::io::ErrorKind::ResourceBusy.into(),
        });
    }
    // The standard library descends by file descriptors and never through links.
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(io(|| format!("remove {}", dir.display()))(e))
        }
        _ => Ok(()),
    }
}
