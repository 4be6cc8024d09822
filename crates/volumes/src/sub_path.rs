//! subPath (spec `§10.5`): a path inside a volume, opened without leaving it and pinned by a bind mount.
//!
//! Containers may write to the volume while its path is resolved. So the kernel resolves it (openat2(2), RESOLVE_BENEATH: a link
//! that leads out is an error), and what was opened is what is mounted: nobody can exchange it in between.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use ports::volumes::VolumeError;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use rustix::io::Errno;

use crate::io;
use crate::kernel::{self, Mounts};
use crate::layout::make_dir;

/// Opens `sub_path` in the volume at `place`, making missing directories, and binds it to `pin`.
pub(crate) fn ensure(place: &Path, sub_path: &str, pin: &Path) -> Result<PathBuf, VolumeError> {
    let opened = File::from(open_beneath(place, sub_path)?);
    let is_dir = opened
        .metadata()
        .map_err(io(|| format!("stat {sub_path:?}")))?
        .is_dir();
    if pin.symlink_metadata().is_ok() {
        if kernel::same_file(&opened, pin) {
            return Ok(pin.to_owned());
        }
        // An older pin: the file was replaced meanwhile, as file volumes do.
        while Mounts::now()?.has(pin)? {
            kernel::detach(pin)?;
        }
        remove_target(pin)?;
    }
    if let Some(above) = pin.parent() {
        make_dir(above, 0o750)?;
    }
    if is_dir {
        make_dir(pin, 0o750)?;
    } else {
        File::create(pin).map_err(io(|| format!("create {}", pin.display())))?;
    }
    kernel::bind(opened.as_fd(), pin)?;
    Ok(pin.to_owned())
}

fn remove_target(pin: &Path) -> Result<(), VolumeError> {
    let is_dir = pin.symlink_metadata().is_ok_and(|m| m.is_dir());
    let result = if is_dir {
        std::fs::remove_dir(pin)
    } else {
        std::fs::remove_file(pin)
    };
    result.map_err(io(|| format!("remove {}", pin.display())))
}

fn open_beneath(place: &Path, sub_path: &str) -> Result<OwnedFd, VolumeError> {
    let escapes = || VolumeError::Escapes {
        reason: format!("subPath {sub_path:?} leads out of its volume"),
    };
    let failed = |e: Errno| match e {
        Errno::XDEV | Errno::LOOP => escapes(),
        e => io(|| format!("open subPath {sub_path:?}"))(e.into()),
    };
    let root = open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    if let Ok(found) = resolve(&root, Path::new(sub_path)) {
        return Ok(found);
    }
    let mode = File::from(root.try_clone().map_err(io(|| "dup".into()))?)
        .metadata()
        .map_err(io(|| format!("stat {}", place.display())))?
        .mode();
    let mut reached = PathBuf::new();
    let mut above = root.try_clone().map_err(io(|| "dup".into()))?;
    for part in Path::new(sub_path).components() {
        match part {
            Component::CurDir => continue,
            Component::Normal(name) => reached.push(name),
            _ => return Err(escapes()),
        }
        above = match resolve(&root, &reached) {
            Err(Errno::NOENT) => {
                let Component::Normal(name) = part else {
                    return Err(escapes());
                };
                make_below(&above, Path::new(name), mode).map_err(failed)?;
                resolve(&root, &reached).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
    }
    Ok(above)
}

fn resolve(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    loop {
        match openat2(
            root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        ) {
            // The kernel could not rule out a race with a rename; nothing is wrong.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Makes a directory with the volume's own mode, whatever the umask.
fn make_below(above: &OwnedFd, name: &Path, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    mkdirat(above, name, mode)?;
    let made = openat2(
        above,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?;
    rustix::fs::fchmod(made.as_fd(), mode)
}
