//! What the new process does between its birth and its program.
//!
//! It shares memory with its parent, which sleeps until the program is executed or the child has ended. So everything was
//! prepared by the parent: here nothing allocates, nothing unwinds, and user and group are set by bare system calls (the C
//! library's versions would act on the parent's threads). A failure is written down in the shared memory ([`super::birth`]), then the child ends.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::birth::Program;
use super::error::Errno;
use super::spec::CapabilitySets;
use super::sys::{self, MOUNT_ATTR_RDONLY, MountAttr, call};

/// Where the child failed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    /// A step named in the message.
    Step(&'static str, Errno),
    /// Entering the n-th v1 cgroup.
    Cgroup(usize, Errno),
    /// Entering the working directory.
    Chdir(Errno),
    /// The working directory is out of the root.
    Outside,
    /// A mount at a fixed path.
    Mount(&'static str, Errno),
    /// Masking or making read-only the n-th path.
    Protect(usize, Errno),
    /// No candidate of the search path is a program.
    NotInPath,
    /// A program named by its path is absent.
    Stat(Errno),
    /// The n-th candidate is no program this user may execute.
    NotExecutable(usize, Errno),
    /// The n-th candidate could not be executed.
    Exec(usize, Errno),
}

/// Kernel file systems that must be mounted from inside the new namespaces.
pub(super) struct KernelMounts {
    /// Mount cgroup2, seen from a cgroup namespace of its own.
    pub(super) cgroup2: bool,
    /// Leave it writable.
    pub(super) writable: bool,
    /// An empty read-only tmpfs, detached, to cover directories with.
    pub(super) empty: OwnedFd,
    /// Paths to cover, then paths to make read-only.
    pub(super) masked: Vec<CString>,
    pub(super) readonly: Vec<CString>,
    /// Whether the kernel knows `mount_setattr`.
    pub(super) setattr: bool,
}

impl KernelMounts {
    /// What of its own a container in a user namespace has when these are made for it (`CLONE_NEW*`).
    pub(super) fn namespaces(&self) -> i32 {
        if self.cgroup2 {
            libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP
        } else {
            libc::CLONE_NEWNS
        }
    }
}

/// Everything the child needs.
pub(super) struct Plan {
    pub(super) cgroup_procs: Vec<OwnedFd>,
    /// The node's `/proc`.
    pub(super) proc: OwnedFd,
    /// Container to enter (exec).
    pub(super) enter: Option<OwnedFd>,
    /// Mounts to make (launch).
    pub(super) mounts: Option<KernelMounts>,
    /// User namespace to be root of, before becoming its user.
    pub(super) users: Option<OwnedFd>,
    /// `CLONE_NEW*` of what is to be had apart, in that user namespace.
    pub(super) apart: i32,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) terminal: bool,
    pub(super) oom_score_adj: Option<CString>,
    pub(super) rlimits: Vec<(u32, libc::rlimit64)>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) cwd: CString,
    pub(super) capabilities: CapabilitySets,
    /// Bounding capabilities to drop.
    pub(super) last_capability: u32,
    pub(super) no_new_privs: bool,
    pub(super) seccomp: Option<(Vec<u64>, u32)>,
    /// Programs to try, in order; one when named by its path.
    pub(super) candidates: Vec<CString>,
    /// The candidates come from `PATH`.
    pub(super) searched: bool,
    pub(super) argv: Pointers,
    pub(super) envp: Pointers,
}

/// C strings with the null-terminated array of pointers that `execve` takes.
pub(super) struct Pointers {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Pointers {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        // The strings' bytes are on the heap and stay where they are when the vector moves.
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        Self {
            _strings: strings,
            pointers,
        }
    }

    /// For `execve`, as long as this lives.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

// SAFETY: everything below makes system calls only, on what the plan holds.
unsafe impl Program for Plan {
    type Failure = Failure;

    fn run(&self) -> Result<Infallible, Failure> {
        run(self)
    }
}

/// A plan of which the first part is done ([`begin`]).
pub(super) struct Begun<'a>(pub(super) &'a Plan);

// SAFETY: as above.
unsafe impl Program for Begun<'_> {
    type Failure = Failure;

    fn run(&self) -> Result<Infallible, Failure> {
        go_on(self.0)
    }
}

/// By itself it is what the node's root does for a container that may not: it makes the mounts and ends.
// SAFETY: as above.
unsafe impl Program for KernelMounts {
    /// `None`: they are made.
    type Failure = Option<Failure>;

    fn run(&self) -> Result<Infallible, Self::Failure> {
        let made = make_kernel_mounts(self).and_then(|()| protect_paths(self));
        Err(made.err())
    }
}

fn step<E: Into<Errno>>(name: &'static str) -> impl FnOnce(E) -> Failure {
    move |e| Failure::Step(name, e.into())
}

fn run(plan: &Plan) -> Result<Infallible, Failure> {
    begin(plan)?;
    go_on(plan)
}

/// Where it belongs: cgroups and namespaces.
pub(super) fn begin(plan: &Plan) -> Result<(), Failure> {
    // Before any namespace or right is given up: these are the node's files.
    for (n, procs) in plan.cgroup_procs.iter().enumerate() {
        rustix::io::write(procs, b"0").map_err(|e| Failure::Cgroup(n, e.into()))?;
    }
    set_oom_score(plan);
    if let Some(target) = &plan.enter {
        let kinds = libc::CLONE_NEWNS
            | libc::CLONE_NEWCGROUP
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        sys::setns(target.as_fd(), kinds).map_err(step("setns into container"))?;
    }
    if let Some(users) = &plan.users {
        sys::setns(users.as_fd(), libc::CLONE_NEWUSER)
            .map_err(step("setns into user namespace"))?;
        // Until here it is nobody inside.
        call!(libc::SYS_setgroups, 0, 0).map_err(step("setgroups"))?;
        call!(libc::SYS_setresgid, 0, 0, 0).map_err(step("setgid"))?;
        call!(libc::SYS_setresuid, 0, 0, 0).map_err(step("setuid"))?;
    }
    Ok(())
}

fn go_on(plan: &Plan) -> Result<Infallible, Failure> {
    take_stdio(plan)?;
    // A session keyring of its own: else keys of the engine's session could be searched. Not every kernel or quota allows it.
    let _ = call!(
        libc::SYS_keyctl,
        1, /* KEYCTL_JOIN_SESSION_KEYRING */
        0
    );
    if let Some(mounts) = &plan.mounts {
        make_kernel_mounts(mounts)?;
        protect_paths(mounts)?;
    }
    if plan.apart != 0 {
        // Every mount made so far is locked by this: it cannot be undone from inside.
        sys::unshare(plan.apart).map_err(step("unshare namespaces"))?;
    }
    let _ = call!(libc::SYS_umask, 0o022);
    for (resource, limit) in &plan.rlimits {
        call!(
            libc::SYS_prlimit64,
            0,
            *resource,
            std::ptr::from_ref(limit),
            0
        )
        .map_err(step("set rlimit"))?;
    }
    become_user(plan)?;
    execute(plan)
}

fn set_oom_score(plan: &Plan) {
    let Some(score) = &plan.oom_score_adj else {
        return;
    };
    // Lowering it needs CAP_SYS_RESOURCE, which an engine in a container lacks: best effort.
    if let Ok(file) = rustix::fs::openat(
        &plan.proc,
        c"self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(&file, score.to_bytes());
    }
}

fn take_stdio(plan: &Plan) -> Result<(), Failure> {
    for (target, source) in plan.stdio.iter().enumerate() {
        call!(libc::SYS_dup3, source.as_raw_fd(), target as RawFd, 0)
            .map_err(step("dup standard streams"))?;
    }
    call!(libc::SYS_setsid).map_err(step("setsid"))?;
    if plan.terminal {
        call!(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0).map_err(step("set controlling terminal"))?;
    }
    // The parent opens everything close-on-exec; this is the second lock (Linux 5.11).
    let _ = call!(
        libc::SYS_close_range,
        3,
        u32::MAX,
        libc::CLOSE_RANGE_CLOEXEC
    );
    Ok(())
}

fn make_kernel_mounts(mounts: &KernelMounts) -> Result<(), Failure> {
    let hardened = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount_kernel(c"proc", c"/proc", hardened).map_err(|e| Failure::Mount("/proc", e))?;
    if mounts.cgroup2 {
        sys::unshare(libc::CLONE_NEWCGROUP).map_err(step("unshare cgroup namespace"))?;
        let attrs = if mounts.writable {
            hardened
        } else {
            hardened | MountAttrFlags::MOUNT_ATTR_RDONLY
        };
        mount_kernel(c"cgroup2", c"/sys/fs/cgroup", attrs)
            .map_err(|e| Failure::Mount("/sys/fs/cgroup", e))?;
    }
    Ok(())
}

/// Mounts a kernel file system at a directory that is known to be a plain one.
fn mount_kernel(kind: &CStr, at: &CStr, attrs: MountAttrFlags) -> Result<(), Errno> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), c"source", kind)?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let mount = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attrs)?;
    let target = rustix::fs::openat(
        CWD,
        at,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    sys::attach(mount.as_fd(), target.as_fd())
}

fn protect_paths(mounts: &KernelMounts) -> Result<(), Failure> {
    let mut empty_used = false;
    for (n, path) in mounts.masked.iter().enumerate() {
        mask(mounts, path, &mut empty_used).map_err(|e| Failure::Protect(n, e))?;
    }
    for (n, path) in mounts.readonly.iter().enumerate() {
        make_readonly(mounts, path).map_err(|e| Failure::Protect(mounts.masked.len() + n, e))?;
    }
    Ok(())
}

/// Opens what is to be protected; `None` when there is nothing.
fn find(path: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn mask(mounts: &KernelMounts, path: &CStr, empty_used: &mut bool) -> Result<(), Errno> {
    let Some(target) = find(path)? else {
        return Ok(());
    };
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode).is_dir();
    if !is_dir {
        return sys::attach(sys::clone_tree(CWD, c"/dev/null")?.as_fd(), target.as_fd());
    }
    if std::mem::replace(empty_used, true) {
        // Attached by the first use, it can be copied.
        return sys::attach(
            sys::clone_tree(mounts.empty.as_fd(), c"")?.as_fd(),
            target.as_fd(),
        );
    }
    sys::attach(mounts.empty.as_fd(), target.as_fd())
}

fn make_readonly(mounts: &KernelMounts, path: &CStr) -> Result<(), Errno> {
    let Some(target) = find(path)? else {
        return Ok(());
    };
    if mounts.setattr {
        let copy = sys::clone_tree(target.as_fd(), c"")?;
        sys::mount_setattr(
            copy.as_raw_fd(),
            true,
            &MountAttr {
                set: MOUNT_ATTR_RDONLY,
                ..MountAttr::default()
            },
        )?;
        return sys::attach(copy.as_fd(), target.as_fd());
    }
    sys::attach(
        sys::clone_tree(target.as_fd(), c"")?.as_fd(),
        target.as_fd(),
    )?;
    // These are paths below /proc and /sys, whose mounts have exactly these flags.
    let flags = libc::MS_REMOUNT
        | libc::MS_BIND
        | libc::MS_RDONLY
        | libc::MS_NOSUID
        | libc::MS_NODEV
        | libc::MS_NOEXEC;
    call!(libc::SYS_mount, 0, path.as_ptr(), 0, flags, 0)?;
    Ok(())
}

/// Gives up rights in the order that keeps each step possible: bounding set, ids, filter, capabilities.
fn become_user(plan: &Plan) -> Result<(), Failure> {
    let sets = &plan.capabilities;
    for n in (0..=plan.last_capability).filter(|n| sets.bounding & (1 << n) == 0) {
        call!(libc::SYS_prctl, libc::PR_CAPBSET_DROP, n, 0, 0, 0)
            .map_err(step("drop bounding capability"))?;
    }
    // As root first, like runc: an image's directory may be closed to its own user.
    let entered = chdir(plan);
    call!(libc::SYS_prctl, libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).map_err(step("keep capabilities"))?;
    call!(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr())
        .map_err(step("setgroups"))?;
    call!(libc::SYS_setresgid, plan.gid, plan.gid, plan.gid).map_err(step("setgid"))?;
    call!(libc::SYS_setresuid, plan.uid, plan.uid, plan.uid).map_err(step("setuid"))?;
    match entered {
        Err(Failure::Chdir(Errno(libc::EPERM | libc::EACCES))) => chdir(plan)?,
        other => other?,
    }
    if !plan.no_new_privs {
        // Installing a filter without no_new_privs takes CAP_SYS_ADMIN, which setuid has made ineffective and the sets may drop.
        if plan.seccomp.is_some() {
            raise_permitted().map_err(step("apply capabilities"))?;
        }
        install_filter(plan)?;
    }
    set_capabilities(sets).map_err(step("apply capabilities"))?;
    let _ = call!(libc::SYS_prctl, libc::PR_SET_KEEPCAPS, 0, 0, 0, 0);
    set_ambient(sets).map_err(step("apply ambient capabilities"))?;
    if plan.no_new_privs {
        call!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            .map_err(step("set no_new_privs"))?;
        install_filter(plan)?;
    }
    Ok(())
}

fn chdir(plan: &Plan) -> Result<(), Failure> {
    call!(libc::SYS_chdir, plan.cwd.as_ptr()).map_err(Failure::Chdir)?;
    // A directory reached through a leaked descriptor has no name below the root.
    let mut name = [0u8; libc::PATH_MAX as usize];
    call!(libc::SYS_getcwd, name.as_mut_ptr(), name.len()).map_err(|_| Failure::Outside)?;
    if name[0] == b'/' {
        Ok(())
    } else {
        Err(Failure::Outside)
    }
}

/// `struct __user_cap_header_struct` and its data, version 3.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

fn raise_permitted() -> Result<(), Errno> {
    let header = CapHeader {
        version: CAP_VERSION_3,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    call!(libc::SYS_capget, &raw const header, data.as_mut_ptr())?;
    for half in &mut data {
        half.effective = half.permitted;
    }
    call!(libc::SYS_capset, &raw const header, data.as_ptr())?;
    Ok(())
}

fn set_capabilities(sets: &CapabilitySets) -> Result<(), Errno> {
    let header = CapHeader {
        version: CAP_VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| CapData {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    call!(libc::SYS_capset, &raw const header, data.as_ptr())?;
    Ok(())
}

fn set_ambient(sets: &CapabilitySets) -> Result<(), Errno> {
    call!(
        libc::SYS_prctl,
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL,
        0,
        0,
        0
    )?;
    for n in (0..64u32).filter(|n| sets.ambient & (1 << n) != 0) {
        call!(
            libc::SYS_prctl,
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE,
            n,
            0,
            0
        )?;
    }
    Ok(())
}

/// `struct sock_fprog`.
#[repr(C)]
struct FilterProgram {
    len: u16,
    filter: *const u64,
}

fn install_filter(plan: &Plan) -> Result<(), Failure> {
    let Some((instructions, flags)) = &plan.seccomp else {
        return Ok(());
    };
    let program = FilterProgram {
        len: instructions.len() as u16,
        filter: instructions.as_ptr(),
    };
    call!(
        libc::SYS_seccomp,
        1, /* SECCOMP_SET_MODE_FILTER */
        *flags,
        &raw const program
    )
    .map_err(step("load seccomp filter"))?;
    Ok(())
}

fn execute(plan: &Plan) -> Result<Infallible, Failure> {
    sys::default_signals();
    for (n, path) in plan.candidates.iter().enumerate() {
        let result = call!(
            libc::SYS_execve,
            path.as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr()
        );
        let errno = result.err().unwrap_or(Errno(libc::EIO));
        let is_there = is_directory(path);
        match errno.0 {
            libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP | libc::ENAMETOOLONG
                if is_there.is_none() =>
            {
                if !plan.searched {
                    return Err(Failure::Stat(errno));
                }
            }
            // Like Go's LookPath, which passes over files it may not execute.
            libc::EACCES if plan.searched => {}
            libc::EACCES if is_there == Some(true) => {
                return Err(Failure::NotExecutable(n, Errno(libc::EISDIR)));
            }
            libc::EACCES => return Err(Failure::NotExecutable(n, errno)),
            _ => return Err(Failure::Exec(n, errno)),
        }
    }
    Err(Failure::NotInPath)
}

/// Whether a path names a directory; `None` when it names nothing this user can see.
fn is_directory(path: &CStr) -> Option<bool> {
    let stat = rustix::fs::statat(CWD, path, rustix::fs::AtFlags::empty()).ok()?;
    Some(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Copies of descriptors above the standard three, so that taking the streams' places overwrites none of them.
pub(super) fn above_stdio(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}
