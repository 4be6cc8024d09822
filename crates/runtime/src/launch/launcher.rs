//! Launching and executing, step by step.

use std::cell::RefCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ports::runtime::UserStatus;
use rustix::fs::{Mode, OFlags};

use super::child::KernelMounts;
use super::error::{Errno, LaunchError};
use super::kit::Kit;
use super::process::{self, OpenCgroups, Own, PidGuard, Prepared, Setting};
use super::rootfs::{self, Mounts, Trees};
use super::scratch::{Namespaces, Scratch};
use super::spec::{ExecFds, ExecSpec, LaunchFds, LaunchSpec, Launched, PidNamespace};
use super::sys;
use super::userns::UserNamespace;
use super::users;

/// Starts processes in containers. One per pause, which must have a single thread: the launcher changes namespaces, umask and
/// signal mask of the calling thread for the time of a call, and its children share the caller's memory until they execute.
///
/// Network, IPC and UTS namespaces are the caller's. Paths in specifications are those of the mount namespace the launcher was
/// made in.
pub struct Launcher {
    own: Own,
    namespaces: Namespaces,
    users: Option<UserNamespace>,
    setattr: bool,
    /// For the next container that is not privileged.
    kit: RefCell<Option<Kit>>,
}

impl Launcher {
    /// Looks at the process it runs in.
    pub fn new(scratch: Scratch) -> Result<Self, LaunchError> {
        let setattr = sys::has_mount_setattr();
        let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", dir, Mode::empty())
            .map_err(LaunchError::setup("open /proc"))?;
        let namespaces = Namespaces::new(&proc, scratch)?;
        let open = OFlags::RDONLY | OFlags::CLOEXEC;
        let pids = rustix::fs::openat(&proc, "self/ns/pid", open, Mode::empty())
            .map_err(LaunchError::setup("open pid namespace"))?;
        let capabilities = rustix::thread::capabilities(None)
            .map_err(LaunchError::setup("read own capabilities"))?
            .permitted
            .bits();
        let last_capability = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
        let last_capability = last_capability
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(40)
            .min(63);
        Ok(Self {
            own: Own {
                proc,
                capabilities,
                last_capability,
                pids,
            },
            namespaces,
            users: None,
            setattr,
            kit: RefCell::default(),
        })
    }

    /// The same, all of whose containers are in a user namespace, which must own the network, IPC and UTS namespaces of the caller.
    #[must_use]
    pub fn with_users(mut self, users: Option<UserNamespace>) -> Self {
        self.users = users;
        self
    }

    /// Whether mounts can be made read-only with their submounts (Linux 5.12).
    pub fn recursive_readonly(&self) -> bool {
        self.setattr
    }

    /// Makes a container's file system and starts its first process. Returns once its program is being executed.
    pub fn launch(&self, spec: &LaunchSpec, fds: LaunchFds<'_>) -> Result<Launched, LaunchError> {
        let _umask = Umask::set(0);
        let trees = self.mount_trees(spec, fds.root)?;
        let user = users::resolve(trees.root.as_fd(), &spec.user)?;
        let on_node = self.on_node(&user.status)?;
        let kit = self.take_kit(spec.privileged)?;
        let mounts = rootfs::prepare(spec, trees, kit, self.setattr, self.users.as_ref())?;
        let devpts = mounts.devpts.as_ref().map(AsFd::as_fd);
        let (stdio, terminal) = process::open_stdio(fds.stdio, devpts, &on_node)?;
        let home =
            Some(user.home).filter(|_| !spec.process.env.iter().any(|(key, _)| key == "HOME"));
        let setting = Setting {
            enter: None,
            mounts: Some(kernel_mounts(spec, &mounts, self.setattr)?),
            new_pid_namespace: spec.pid_namespace == PidNamespace::New,
            users: self.users_fd()?,
        };
        let cgroup = (&spec.cgroup, OpenCgroups::open(&spec.cgroup)?);
        let streams = (stdio, terminal.is_some());
        let prepared = process::prepare(
            &self.own,
            &spec.process,
            &user.status,
            home.as_deref(),
            streams,
            cgroup,
            setting,
        )?;
        let (pid, pidfd) = self.start_inside(spec, &fds, &mounts, terminal.is_some(), prepared)?;
        let terminal = terminal.map(|t| t.master);
        Ok(Launched {
            pid,
            pidfd,
            user: user.status,
            home,
            terminal,
            devpts: mounts.devpts,
        })
    }

    /// Makes what the next launch can have ahead of it, if that is not there.
    ///
    /// # Errors
    /// It cannot be made. The launch tries again.
    pub fn prepare(&self) -> Result<(), LaunchError> {
        let mut kit = self.kit.borrow_mut();
        if kit.is_none() {
            *kit = Some(self.new_kit(false)?);
        }
        Ok(())
    }

    fn take_kit(&self, privileged: bool) -> Result<Kit, LaunchError> {
        let made = match privileged {
            true => None,
            false => self.kit.take(),
        };
        made.map_or_else(|| self.new_kit(privileged), Ok)
    }

    fn new_kit(&self, privileged: bool) -> Result<Kit, LaunchError> {
        let _umask = Umask::set(0);
        let owner = self.users.as_ref().map(UserNamespace::root);
        Kit::new(owner.unwrap_or_default(), privileged)
    }

    fn start_inside(
        &self,
        spec: &LaunchSpec,
        fds: &LaunchFds<'_>,
        mounts: &Mounts,
        console: bool,
        prepared: Prepared,
    ) -> Result<(i32, OwnedFd), LaunchError> {
        let _pids = match &spec.pid_namespace {
            PidNamespace::Target(id) => {
                let target = fds
                    .pid_target
                    .ok_or_else(|| LaunchError::NoTarget(id.clone()))?;
                Some(self.own.children_in(target).map_err(|e| match e {
                    LaunchError::Stopped => LaunchError::NoTarget(id.clone()),
                    other => other,
                })?)
            }
            PidNamespace::Pause => self.shared_pids()?,
            PidNamespace::New => None,
        };
        let inside = self.namespaces.enter()?;
        mounts.attach(&inside, spec)?;
        if console {
            mounts.attach_console()?;
        }
        prepared.start(&self.own)
    }

    fn mount_trees(
        &self,
        spec: &LaunchSpec,
        root: Option<BorrowedFd<'_>>,
    ) -> Result<Trees, LaunchError> {
        let _aside = match &self.users {
            Some(_) => Some(self.namespaces.aside()?),
            None => None,
        };
        rootfs::mount_trees(spec, root, self.users.as_ref())
    }

    /// The user as files of the node know them.
    fn on_node(&self, user: &UserStatus) -> Result<UserStatus, LaunchError> {
        match &self.users {
            Some(users) => users.check(user).map(|()| users.on_node(user)),
            None => Ok(user.clone()),
        }
    }

    fn users_fd(&self) -> Result<Option<OwnedFd>, LaunchError> {
        let users = self.users.as_ref().map(|u| u.users.try_clone()).transpose();
        users.map_err(LaunchError::setup("dup"))
    }

    /// Children go where the Pod's processes are, if that is not where the caller is.
    fn shared_pids(&self) -> Result<Option<PidGuard<'_>>, LaunchError> {
        let pids = self.users.as_ref().and_then(|users| users.pids.as_ref());
        pids.map(|pids| self.own.children_in(pids.as_fd()))
            .transpose()
    }

    /// Starts another process in a running container. Returns once its program is being executed.
    pub fn exec(&self, spec: &ExecSpec, fds: ExecFds<'_>) -> Result<Launched, LaunchError> {
        let _umask = Umask::set(0);
        let user: UserStatus = spec.user.clone();
        let on_node = self.on_node(&user)?;
        let (stdio, terminal) = process::open_stdio(fds.stdio, fds.devpts, &on_node)?;
        let enter = fds
            .target
            .try_clone_to_owned()
            .map_err(LaunchError::setup("dup"))?;
        let setting = Setting {
            enter: Some(enter),
            mounts: None,
            new_pid_namespace: false,
            users: self.users_fd()?,
        };
        let cgroup = (&spec.cgroup, OpenCgroups::open(&spec.cgroup)?);
        let prepared = process::prepare(
            &self.own,
            &spec.process,
            &user,
            None,
            (stdio, terminal.is_some()),
            cgroup,
            setting,
        )?;
        let _pids = self.own.children_in(fds.target)?;
        let (pid, pidfd) = prepared.start(&self.own).map_err(|e| match e {
            // Its PID namespace takes no more processes, or it is gone altogether.
            LaunchError::Setup {
                errno: Errno(libc::ESRCH),
                ..
            } => LaunchError::Stopped,
            LaunchError::Setup {
                step: "clone",
                errno: Errno(libc::ENOMEM),
            } => LaunchError::Stopped,
            other => other,
        })?;
        Ok(Launched {
            pid,
            pidfd,
            user,
            home: None,
            terminal: terminal.map(|t| t.master),
            devpts: None,
        })
    }
}

/// The process's umask, put back when dropped.
struct Umask(Mode);

impl Umask {
    fn set(mask: u32) -> Self {
        Self(rustix::process::umask(Mode::from_raw_mode(mask)))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

fn kernel_mounts(
    spec: &LaunchSpec,
    mounts: &Mounts,
    setattr: bool,
) -> Result<KernelMounts, LaunchError> {
    let empty = mounts.empty.try_clone();
    Ok(KernelMounts {
        cgroup2: mounts.cgroup2,
        writable: spec.privileged,
        empty: empty.map_err(LaunchError::setup("dup"))?,
        masked: c_paths(&spec.masked_paths)?,
        readonly: c_paths(&spec.readonly_paths)?,
        setattr,
    })
}

fn c_paths(paths: &[PathBuf]) -> Result<Vec<CString>, LaunchError> {
    let c = |p: &PathBuf| {
        CString::new(Path::as_os_str(p).as_bytes()).map_err(|_| LaunchError::Nul { what: "path" })
    };
    paths.iter().map(c).collect()
}
