//! A nearly empty mount namespace from which every container's is copied.
//!
//! Copying pause's own namespace would copy every mount of the node, of which each Pod adds some, and would let the container's
//! namespace hold references to all of them. The scratch namespace has one read-only tmpfs with the directory [`ROOT`], so a
//! copy costs the same however many Pods there are. The engine makes it once ([`Scratch`]) and hands it to every pause.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::process::{chdir, fchdir, pivot_root};

use super::binds::{self, SCRATCH_PROC};
use super::dev::new_fs;
use super::error::{Errno, LaunchError};
use super::sys::{self, call};

/// Where the container's root is attached for the moment before it becomes `/`.
const ROOT: &str = "/r";

/// The scratch mount namespace. It lives as long as a descriptor of it.
#[derive(Debug)]
pub struct Scratch(OwnedFd);

impl Scratch {
    /// Makes one, from the mount namespace of the caller, which stays where it is.
    pub fn new() -> Result<Self, LaunchError> {
        let step = "make scratch mount namespace";
        // A thread that leaves the namespace for good, and ends.
        std::thread::Builder::new()
            .name("scratch".into())
            .spawn(|| {
                let proc =
                    rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                sys::unshare(libc::CLONE_NEWNS)?;
                empty_out(sys::has_mount_setattr())?;
                own_namespace(&proc)
            })
            .map_err(LaunchError::setup(step))?
            .join()
            .unwrap_or(Err(Errno(libc::EIO)))
            .map(Self)
            .map_err(LaunchError::setup(step))
    }
}

impl From<OwnedFd> for Scratch {
    /// `fd` refers to a scratch namespace made in this mount namespace.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Scratch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The node's mount namespace and the scratch one.
pub(super) struct Namespaces {
    home: OwnedFd,
    scratch: Scratch,
}

/// Being in a new mount namespace; dropping it goes back to the node's.
pub(super) struct Inside<'a>(&'a Namespaces);

fn own_namespace(proc: &OwnedFd) -> Result<OwnedFd, Errno> {
    Ok(rustix::fs::openat(
        proc,
        "thread-self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

impl Namespaces {
    /// Remembers the caller's namespace. `proc` is the node's `/proc`.
    pub(super) fn new(proc: &OwnedFd, scratch: Scratch) -> Result<Self, LaunchError> {
        let home = own_namespace(proc).map_err(LaunchError::setup("open mount namespace"))?;
        Ok(Self { home, scratch })
    }

    /// Enters a new copy of the scratch namespace.
    pub(super) fn enter(&self) -> Result<Inside<'_>, LaunchError> {
        sys::setns(self.scratch.as_fd(), libc::CLONE_NEWNS)
            .map_err(LaunchError::setup("enter scratch mount namespace"))?;
        let inside = Inside(self);
        sys::unshare(libc::CLONE_NEWNS).map_err(LaunchError::setup("unshare mount namespace"))?;
        Ok(inside)
    }

    /// Enters a new copy of the node's namespace that nobody else sees.
    pub(super) fn aside(&self) -> Result<Inside<'_>, LaunchError> {
        sys::unshare(libc::CLONE_NEWNS).map_err(LaunchError::setup("unshare mount namespace"))?;
        let inside = Inside(self);
        make_private().map_err(LaunchError::setup("make mounts private"))?;
        Ok(inside)
    }
}

fn make_private() -> Result<(), Errno> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    call!(libc::SYS_mount, 0, c"/".as_ptr(), 0, flags, 0)?;
    Ok(())
}

fn go_home(home: &OwnedFd) {
    if sys::setns(home.as_fd(), libc::CLONE_NEWNS).is_err() {
        // Going on would make node paths mean a container's files. It cannot fail but for want of kernel memory.
        std::process::abort();
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        go_home(&self.0.home);
    }
}

/// Replaces all mounts of the (new) current namespace by the scratch tmpfs.
fn empty_out(setattr: bool) -> Result<(), Errno> {
    make_private()?;
    let node_proc = if setattr {
        None
    } else {
        Some(sys::clone_tree(CWD, c"/proc")?)
    };
    let tmpfs = new_fs(
        "tmpfs",
        &[("mode", "755"), ("nr_inodes", "8")],
        MountAttrFlags::empty(),
    )?;
    for dir in [ROOT, SCRATCH_PROC] {
        rustix::fs::mkdirat(&tmpfs, &dir[1..], Mode::from_raw_mode(0o755))?;
    }
    let anywhere = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    sys::attach(tmpfs.as_fd(), anywhere.as_fd())?;
    fchdir(&tmpfs)?;
    replace_root()?;
    if let Some(node_proc) = node_proc {
        let point = rustix::fs::open(SCRATCH_PROC, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::attach(node_proc.as_fd(), point.as_fd())?;
        return binds::remount_readonly(&tmpfs);
    }
    binds::set_readonly(&tmpfs, false)
}

/// Makes the working directory, a mount's root, the namespace's root and drops the old one (`pivot_root(2)`, "pivot_root(".", ".")").
fn replace_root() -> Result<(), Errno> {
    pivot_root(".", ".")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

impl Inside<'_> {
    /// Attaches the container's root where it can be built on.
    pub(super) fn attach_root(&self, root: &OwnedFd) -> Result<(), Errno> {
        let point = rustix::fs::open(ROOT, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::attach(root.as_fd(), point.as_fd())
    }

    /// A detached copy of a part of a detached mount. Kernels before 6.15 copy only what is attached, so it is for a moment.
    pub(super) fn copy(&self, mount: &OwnedFd, part: &OwnedFd) -> Result<OwnedFd, Errno> {
        let point = rustix::fs::open(SCRATCH_PROC, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::attach(mount.as_fd(), point.as_fd())?;
        let copy = sys::clone_tree(part.as_fd(), c"");
        rustix::mount::unmount(SCRATCH_PROC, rustix::mount::UnmountFlags::DETACH)?;
        copy
    }

    /// Makes it the root of the namespace, and nothing else is left in it.
    pub(super) fn pivot(&self, root: &OwnedFd) -> Result<(), Errno> {
        fchdir(root)?;
        replace_root()
    }
}
