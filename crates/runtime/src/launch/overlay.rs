//! A container's root and the images beside it: overlayfs over image layers, as a detached mount.
//!
//! Layers are named by descriptor (`/proc/self/fd/N`): no path is too long for the kernel's 256-byte option values, and the
//! node's paths do not show in the container's mountinfo. Linux 6.5 takes layers one by one (`lowerdir+`, up to 500); older
//! kernels get one option string of up to a page, which holds about 200 layers so named.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::error::{Errno, LaunchError};
use super::spec::Root;
use super::sys::{self, call};
use super::userns::UserNamespace;

/// A page less the terminator: what `mount(2)` takes as data.
const MAX_MOUNT_DATA: usize = 4095;

struct Layers {
    lower: Vec<OwnedFd>,
    /// Where changes go; without it nothing can be changed.
    writable: Option<Writable>,
    /// The container's upper directory: where a mount may be for a moment that needs a place, since nobody else looks there.
    place: OwnedFd,
}

struct Writable {
    upper: OwnedFd,
    work: OwnedFd,
}

fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Mounts the root, attached nowhere. With `users` the caller is in a mount namespace nobody else sees and that ends with this: a kernel
/// before 6.15 takes layers only from mounts that are attached somewhere, and idmapped ones are new.
pub(super) fn mount(root: &Root, users: Option<&UserNamespace>) -> Result<OwnedFd, LaunchError> {
    let mut layers = Layers {
        lower: open_all(&root.layers)?,
        writable: Some(Writable {
            upper: open(&root.upper)?,
            work: open(&root.work)?,
        }),
        place: open(&root.upper)?,
    };
    if let Some(users) = users {
        idmap(&mut layers, &root.layers, users)?;
        let taken = users.root().take(layers.place.as_fd());
        taken.map_err(|e| failed(root.upper.display().to_string(), e))?;
    }
    stack(&layers)
}

/// Mounts the root of a container without users of its own, ahead of its launch.
pub(crate) fn mount_root(root: &Root) -> Result<OwnedFd, LaunchError> {
    mount(root, None)
}

/// Mounts layers of an image, two at least, so that nothing can be changed; attached nowhere. `place` is the upper directory of the container;
/// with `users` the caller is where it is for [`mount`].
pub(super) fn mount_readonly(
    layers: &[PathBuf],
    place: &Path,
    users: Option<&UserNamespace>,
) -> Result<OwnedFd, LaunchError> {
    let mut stacked = Layers {
        lower: open_all(layers)?,
        writable: None,
        place: open(place)?,
    };
    if let Some(users) = users {
        idmap(&mut stacked, layers, users)?;
    }
    stack(&stacked)
}

fn open(path: &Path) -> Result<OwnedFd, LaunchError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(path.display().to_string(), e))
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>, LaunchError> {
    paths.iter().map(|path| open(path)).collect()
}

fn stack(layers: &Layers) -> Result<OwnedFd, LaunchError> {
    if let Some(writable) = &layers.writable {
        forget_volatile(&writable.work);
    }
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|e| failed("fsopen overlay".into(), e))?;
    match configure(fs.as_fd(), layers).and_then(|()| create(fs.as_fd())) {
        Ok(mounted) => Ok(mounted),
        Err((option, errno)) => match (complaint(fs.as_fd()), errno) {
            (Some(what), errno) => Err(LaunchError::Rootfs { what, errno }),
            // A kernel before 6.5 takes any option for the time being, refuses all of them in the end, and does not say why.
            (None, Errno(libc::EINVAL)) => mount_at_once(layers),
            (None, errno) => Err(failed(option.to_owned(), errno)),
        },
    }
}

/// Replaces the lower layers by idmapped mounts of them. They are stacked on the place, whose descriptor still names what is
/// underneath.
fn idmap(layers: &mut Layers, paths: &[PathBuf], users: &UserNamespace) -> Result<(), LaunchError> {
    for (layer, path) in layers.lower.iter_mut().zip(paths) {
        let failed = |e| failed(path.display().to_string(), e);
        let tree = sys::clone_tree(layer.as_fd(), c"").map_err(failed)?;
        users.idmap(&tree).map_err(|errno| LaunchError::IdMap {
            path: path.display().to_string(),
            errno,
        })?;
        sys::attach(tree.as_fd(), layers.place.as_fd()).map_err(failed)?;
        *layer = tree;
    }
    Ok(())
}

/// An earlier launch from the same directories marked them as not to be trusted after a crash, and the kernel refuses them until
/// the mark is gone. Nothing of that launch is built upon.
fn forget_volatile(work: &OwnedFd) {
    let mark = "work/incompat/volatile";
    if rustix::fs::unlinkat(work, format!("{mark}/dirty"), AtFlags::empty()).is_ok() {
        // What cannot be removed is complained about by the mount.
        let _ = rustix::fs::unlinkat(work, mark, AtFlags::REMOVEDIR);
    }
}

fn create(fs: BorrowedFd<'_>) -> Result<OwnedFd, (&'static str, Errno)> {
    let mounted = rustix::mount::fsconfig_create(fs).and_then(|()| {
        let attributes = MountAttrFlags::empty();
        rustix::mount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    });
    mounted.map_err(|e| ("mount overlay", e.into()))
}

fn failed(what: String, errno: impl Into<Errno>) -> LaunchError {
    LaunchError::Rootfs {
        what,
        errno: errno.into(),
    }
}

fn configure(fs: BorrowedFd<'_>, layers: &Layers) -> Result<(), (&'static str, Errno)> {
    let set = |key: &'static str, value: &str| {
        rustix::mount::fsconfig_set_string(fs, key, value).map_err(|e| (key, e.into()))
    };
    for layer in &layers.lower {
        set("lowerdir+", &fd_path(layer))?;
    }
    let Some(writable) = &layers.writable else {
        return Ok(());
    };
    set("upperdir", &fd_path(&writable.upper))?;
    set("workdir", &fd_path(&writable.work))?;
    // A container's writable layer ends with the container, so nothing of it needs to be on disk when it is unmounted.
    rustix::mount::fsconfig_set_flag(fs, "volatile").map_err(|e| ("volatile", e.into()))
}

/// What the kernel wrote into the context's log, if anything.
fn complaint(fs: BorrowedFd<'_>) -> Option<String> {
    let mut log = [0u8; 512];
    let length = rustix::io::read(fs, &mut log).ok()?;
    let text = String::from_utf8_lossy(&log[..length]);
    Some(text.trim_start_matches("e ").trim().to_owned())
}

/// The way of older kernels: one `mount(2)` with every layer in one string. It needs a place.
fn mount_at_once(layers: &Layers) -> Result<OwnedFd, LaunchError> {
    let lower: Vec<String> = layers.lower.iter().map(fd_path).collect();
    let mut data = format!("lowerdir={}", lower.join(":"));
    if let Some(Writable { upper, work }) = &layers.writable {
        let (upper, work) = (fd_path(upper), fd_path(work));
        data.push_str(&format!(",upperdir={upper},workdir={work},volatile"));
    }
    if data.len() > MAX_MOUNT_DATA {
        return Err(failed(
            format!("{} layers", lower.len()),
            Errno(libc::E2BIG),
        ));
    }
    let target = fd_path(&layers.place);
    let c = |s: &str| CString::new(s).unwrap_or_default();
    let (c_target, c_data) = (c(&target), c(&data));
    call!(
        libc::SYS_mount,
        c"overlay".as_ptr(),
        c_target.as_ptr(),
        c"overlay".as_ptr(),
        0,
        c_data.as_ptr()
    )
    .map_err(|e| failed("mount overlay".into(), e))?;
    // The descriptor was opened before and still names what is now underneath; its path names the mount.
    let path = std::fs::read_link(&target).map_err(|e| failed("readlink".into(), e))?;
    let c_path = c(&path.to_string_lossy());
    let copy = sys::clone_tree(CWD, &c_path);
    call!(libc::SYS_umount2, c_path.as_ptr(), libc::MNT_DETACH)
        .map_err(|e| failed("umount overlay".into(), e))?;
    copy.map_err(|e| failed("open_tree overlay".into(), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::inroot;

    fn tree(dir: &Path, layers: usize) -> Root {
        let lower = |n: usize| {
            dir.join(format!(
                "layer-with-a-rather-long-name-so-that-option-strings-would-overflow-{n}"
            ))
        };
        let layers: Vec<PathBuf> = (0..layers).map(lower).collect();
        for (n, layer) in layers.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join(format!("f{n}")), "").unwrap();
            std::fs::write(layer.join("same"), n.to_string()).unwrap();
        }
        let root = Root {
            layers,
            upper: dir.join("upper"),
            work: dir.join("work"),
            readonly: false,
        };
        std::fs::create_dir(&root.upper).unwrap();
        std::fs::create_dir(&root.work).unwrap();
        root
    }

    fn read(mount: &OwnedFd, path: &str) -> String {
        let fd = inroot::open(mount.as_fd(), Path::new(path), OFlags::RDONLY).unwrap();
        std::io::read_to_string(std::fs::File::from(fd)).unwrap()
    }

    #[test]
    fn many_layers_are_stacked_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = tree(dir.path(), 120);
        let mounted = mount(&root, None).unwrap();
        assert_eq!(read(&mounted, "same"), "0");
        assert_eq!(read(&mounted, "f119"), "");
    }

    #[test]
    fn older_kernels_get_one_string() {
        let dir = tempfile::tempdir().unwrap();
        let root = tree(dir.path(), 60);
        let open = |p: &Path| OwnedFd::from(std::fs::File::open(p).unwrap());
        let layers = Layers {
            lower: root.layers.iter().map(|l| open(l)).collect(),
            writable: Some(Writable {
                upper: open(&root.upper),
                work: open(&root.work),
            }),
            place: open(&root.upper),
        };
        let mounted = mount_at_once(&layers).unwrap();
        assert_eq!(
            (read(&mounted, "same"), read(&mounted, "f59")),
            ("0".to_owned(), String::new())
        );
        let readonly = Layers {
            lower: root.layers.iter().map(|l| open(l)).collect(),
            writable: None,
            place: open(&root.upper),
        };
        let mounted = mount_at_once(&readonly).unwrap();
        assert_eq!(read(&mounted, "same"), "0");
        let made = rustix::fs::mkdirat(&mounted, "new", Mode::empty());
        assert_eq!(made, Err(rustix::io::Errno::ROFS));
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mountinfo.contains(dir.path().to_str().unwrap()),
            "nothing stays mounted"
        );
    }

    #[test]
    fn errors_name_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut root = tree(dir.path(), 1);
        root.layers[0] = dir.path().join("absent");
        let error = mount(&root, None).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "failed to mount rootfs: {}/absent: no such file or directory",
                dir.path().display()
            )
        );
    }
}
