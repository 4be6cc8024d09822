//! Builds a container's file system: kernel file systems and bind mounts over its root.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::binds::{self, Bind};
use super::error::{Errno, LaunchError};
use super::images::{self, Mounted};
use super::inroot::{self, Kind};
use super::kit::{Kit, mount_error, new_for};
use super::scratch::Inside;
use super::spec::{CgroupEntry, LaunchSpec};
use super::userns::{Owner, UserNamespace};
use super::{overlay, sys};

/// Every mount of a container, detached, prepared while the node's paths can be seen.
pub(super) struct Mounts {
    pub(super) root: OwnedFd,
    pub(super) devpts: Option<OwnedFd>,
    binds: Vec<Bind>,
    dev: Option<OwnedFd>,
    shm: Option<OwnedFd>,
    mqueue: Option<OwnedFd>,
    sys: Option<OwnedFd>,
    cgroup_v1: Option<CgroupView>,
    /// Covers directories that are not to be seen.
    pub(super) empty: OwnedFd,
    /// The child mounts cgroup2 at `/sys/fs/cgroup`.
    pub(super) cgroup2: bool,
    privileged: bool,
    setattr: bool,
    owner: Owner,
}

/// What `/sys/fs/cgroup` shows with v1 controllers: the container's own directory of each hierarchy. A v2 hierarchy beside them has
/// none of its limits and is not shown, as OCI runtimes do: who finds it would look for limits there.
struct CgroupView {
    base: OwnedFd,
    trees: BTreeMap<String, OwnedFd>,
}

/// Makes every mount that is not in the kit. The umask must be 0.
pub(super) fn prepare(
    spec: &LaunchSpec,
    Trees { root, images }: Trees,
    kit: Kit,
    setattr: bool,
    users: Option<&UserNamespace>,
) -> Result<Mounts, LaunchError> {
    let owner = users.map(UserNamespace::root).unwrap_or_default();
    let images = spec.images.iter().zip(images).collect();
    let binds = binds::prepare(&spec.mounts, images, setattr, users)?;
    // A mount of the Pod's own takes the place of ours.
    let ours = |path: &str| !binds.iter().any(|b| b.target == Path::new(path));
    let (own_dev, own_sys) = (ours("/dev"), ours("/sys"));
    let shm = (own_dev && ours("/dev/shm"))
        .then(|| prepare_shm(spec.shm.as_deref(), owner))
        .transpose()?;
    let own_cgroup = own_sys && ours("/sys/fs/cgroup");
    let v1 = own_cgroup && !spec.cgroup.v1.is_empty();
    let cgroup_v1 = v1
        .then(|| cgroup_view(&spec.cgroup, owner).map_err(mount_error("cgroup", "/sys/fs/cgroup")))
        .transpose()?;
    let cgroup2 = own_cgroup && !v1 && spec.cgroup.v2.is_some();
    Ok(Mounts {
        root,
        mqueue: Some(kit.mqueue).filter(|_| own_dev && ours("/dev/mqueue")),
        devpts: Some(kit.devpts).filter(|_| own_dev),
        dev: Some(kit.dev).filter(|_| own_dev),
        sys: Some(kit.sys).filter(|_| own_sys),
        empty: kit.empty,
        binds,
        shm,
        cgroup_v1,
        cgroup2,
        privileged: spec.privileged,
        setattr,
        owner,
    })
}

fn prepare_shm(path: Option<&Path>, owner: Owner) -> Result<OwnedFd, LaunchError> {
    let Some(path) = path else {
        return new_for(owner, "tmpfs", &[("mode", "1777"), ("size", "65536k")])
            .map_err(mount_error("shm", "/dev/shm"));
    };
    let source = path.display().to_string();
    clone_path(path).map_err(mount_error(&source, "/dev/shm"))
}

fn clone_path(path: &Path) -> Result<OwnedFd, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    sys::clone_tree(CWD, &path)
}

fn cgroup_view(entry: &CgroupEntry, owner: Owner) -> Result<CgroupView, Errno> {
    let base = new_for(owner, "tmpfs", &[("mode", "755")])?;
    let mut trees = BTreeMap::new();
    for (name, path) in &entry.v1 {
        rustix::fs::mkdirat(&base, name, Mode::from_raw_mode(0o755))?;
        // `cpu,cpuacct` is found under either name.
        for alias in name.split(',').filter(|alias| alias != name) {
            rustix::fs::symlinkat(name, &base, alias)?;
        }
        trees.insert(name.clone(), clone_path(path)?);
    }
    Ok(CgroupView { base, trees })
}

impl Mounts {
    /// Attaches everything and makes the working directory; the container's root becomes `/`.
    pub(super) fn attach(&self, inside: &Inside<'_>, spec: &LaunchSpec) -> Result<(), LaunchError> {
        let rootfs = |what: &'static str| {
            move |errno| LaunchError::Rootfs {
                what: what.to_owned(),
                errno,
            }
        };
        inside
            .attach_root(&self.root)
            .map_err(rootfs("attach root"))?;
        let root = self.root.as_fd();
        plain_directory(root, "proc", self.owner)?;
        self.attach_dev(root)?;
        self.attach_sys(root)?;
        for bind in &self.binds {
            bind.attach(inside, root, self.setattr, self.owner)?;
        }
        let cwd = PathBuf::from(&spec.process.cwd);
        let below = cwd.strip_prefix("/").unwrap_or(&cwd);
        let made = inroot::ensure(root, below, Kind::Directory, self.owner);
        made.map_err(|errno| LaunchError::MakeDir {
            path: spec.process.cwd.clone(),
            errno,
        })?;
        if spec.root.readonly {
            self.make_readonly(&self.root)
                .map_err(rootfs("make root read-only"))?;
        }
        inside.pivot(&self.root).map_err(rootfs("pivot_root"))
    }

    /// A terminal's other side appears as `/dev/console`, as OCI asks.
    pub(super) fn attach_console(&self) -> Result<(), LaunchError> {
        let (Some(dev), Some(devpts)) = (&self.dev, &self.devpts) else {
            return Ok(());
        };
        let attach = || -> Result<(), Errno> {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
            let point = rustix::fs::openat(dev, "console", flags, Mode::from_raw_mode(0o600))?;
            // The first terminal of a new devpts has the number 0.
            sys::attach(
                sys::clone_tree(devpts.as_fd(), c"0")?.as_fd(),
                point.as_fd(),
            )
        };
        attach().map_err(mount_error("/dev/pts/0", "/dev/console"))
    }

    fn attach_dev(&self, root: BorrowedFd<'_>) -> Result<(), LaunchError> {
        let Some(dev) = &self.dev else { return Ok(()) };
        let point = plain_directory(root, "dev", self.owner)?;
        sys::attach(dev.as_fd(), point.as_fd()).map_err(mount_error("tmpfs", "/dev"))?;
        for (name, mount) in [
            ("pts", &self.devpts),
            ("shm", &self.shm),
            ("mqueue", &self.mqueue),
        ] {
            if let Some(mount) = mount {
                attach_below(mount, dev, name)
                    .map_err(mount_error(name, &format!("/dev/{name}")))?;
            }
        }
        Ok(())
    }

    fn attach_sys(&self, root: BorrowedFd<'_>) -> Result<(), LaunchError> {
        let Some(sysfs) = &self.sys else {
            return Ok(());
        };
        let point = plain_directory(root, "sys", self.owner)?;
        sys::attach(sysfs.as_fd(), point.as_fd()).map_err(mount_error("sysfs", "/sys"))?;
        let Some(view) = &self.cgroup_v1 else {
            return Ok(());
        };
        self.attach_cgroups(sysfs, view)
            .map_err(mount_error("cgroup", "/sys/fs/cgroup"))
    }

    fn attach_cgroups(&self, sysfs: &OwnedFd, view: &CgroupView) -> Result<(), Errno> {
        attach_below(&view.base, sysfs, "fs/cgroup")?;
        for (name, tree) in &view.trees {
            attach_below(tree, &view.base, name)?;
            if !self.privileged {
                self.make_readonly(tree)?;
            }
        }
        if self.privileged {
            Ok(())
        } else {
            self.make_readonly(&view.base)
        }
    }

    fn make_readonly(&self, mount: &OwnedFd) -> Result<(), Errno> {
        if self.setattr {
            binds::set_readonly(mount, false)
        } else {
            binds::remount_readonly(mount)
        }
    }
}

/// Attaches to a path below a mount we have just made ourselves.
fn attach_below(mount: &OwnedFd, parent: &OwnedFd, path: &str) -> Result<(), Errno> {
    let point = rustix::fs::openat(
        parent,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    sys::attach(mount.as_fd(), point.as_fd())
}

/// A directory at the top of the root, made if absent. A link in its place could make a kernel file system appear elsewhere.
fn plain_directory(root: BorrowedFd<'_>, name: &str, owner: Owner) -> Result<OwnedFd, LaunchError> {
    let path = format!("/{name}");
    let made = match rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => owner.take_in(root, name.as_ref()),
        Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    };
    if let Err(errno) = made {
        return Err(LaunchError::MakeDir { path, errno });
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(root, name, flags, Mode::empty()).map_err(|_| LaunchError::MountPoint(path))
}

/// What is made of images' layers, attached nowhere.
pub(super) struct Trees {
    pub(super) root: OwnedFd,
    /// [`LaunchSpec::images`], in that order.
    images: Vec<Mounted>,
}

/// Mounts what is made of images' layers, but for a root that is mounted already ([`overlay`] says where the caller is).
pub(super) fn mount_trees(
    spec: &LaunchSpec,
    root: Option<BorrowedFd<'_>>,
    users: Option<&UserNamespace>,
) -> Result<Trees, LaunchError> {
    let root = match root {
        Some(root) => root
            .try_clone_to_owned()
            .map_err(LaunchError::setup("dup"))?,
        None => overlay::mount(&spec.root, users)?,
    };
    let images = spec.images.iter();
    let images = images.map(|image| images::mount(image, &spec.root.upper, users));
    Ok(Trees {
        root,
        images: images.collect::<Result<_, _>>()?,
    })
}
