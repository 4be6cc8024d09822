//! A Pod's own user namespace, which owns the Pod's other namespaces.
//!
//! Pause stays the node's root, or it could start no container. So another process is born in the new namespaces, and pause enters all
//! of them but the users'. That process ends at once, unless the Pod shares its PIDs: then it is their PID 1 in pause's place, collects
//! orphans by ignoring their ends, and lives as long as pause.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use ports::runtime::IdMapping;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::launch::UserNamespace;

/// The namespace, and what holds its PID 1.
pub(super) struct Users {
    pub(super) namespace: UserNamespace,
    pub(super) init: Option<Init>,
}

/// PID 1 of the Pod's shared PID namespace, a child of this process. It ends when this is dropped.
pub(super) struct Init {
    pub(super) pid: i32,
    _life: OwnedFd,
}

/// Makes network, IPC and UTS namespaces (and one of PIDs, if they are shared) owned by a new user namespace, and enters the first
/// three. To be called from the process's only thread.
pub(super) fn make(ids: IdMapping, share_pids: bool) -> io::Result<Users> {
    let (ear, life) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let own = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let pids = if share_pids { libc::CLONE_NEWPID } else { 0 };
    let (pid, pidfd) = give_birth(own | pids, &ear)?;
    drop(ear);
    let entered = enter(pid, pidfd.as_fd(), ids, share_pids);
    if let (true, Ok(_)) = (share_pids, &entered) {
        rustix::io::write(&life, &[1])?;
        let init = Some(Init { pid, _life: life });
        return entered.map(|namespace| Users { namespace, init });
    }
    drop(life);
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    entered.map(|namespace| Users {
        namespace,
        init: None,
    })
}

/// Gives the newborn's user namespace its ids and enters its other namespaces.
fn enter(
    pid: i32,
    pidfd: BorrowedFd<'_>,
    ids: IdMapping,
    share_pids: bool,
) -> io::Result<UserNamespace> {
    let open = |kind: &str| fs::File::open(format!("/proc/{pid}/ns/{kind}")).map(OwnedFd::from);
    let namespace = UserNamespace {
        users: open("user")?,
        ids,
        pids: share_pids.then(|| open("pid")).transpose()?,
    };
    let map = format!("0 {} {}\n", ids.host_id, ids.length);
    fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    fs::write(format!("/proc/{pid}/gid_map"), &map)?;
    move_into_thread_name_spaces(
        pidfd,
        ThreadNameSpaceType::NETWORK
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
    )?;
    Ok(namespace)
}

/// A process in new namespaces, a copy of this one: its PID and pidfd.
fn give_birth(namespaces: i32, ear: &OwnedFd) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: like fork: single-threaded, so the child's copy of memory is consistent. The kernel stores the pidfd before it returns.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => be_init(ear),
        // SAFETY: the kernel has made it for us.
        pid => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// What the newborn does: nothing, as root of its namespace, until its maker is gone.
fn be_init(ear: &OwnedFd) -> ! {
    let ear = ear.as_raw_fd();
    let hear = || {
        let mut byte = 0u8;
        // SAFETY: reads into one byte that is ours.
        unsafe { libc::read(ear, (&raw mut byte).cast(), 1) }
    };
    // SAFETY: closes every descriptor but the standard three and the ear; this process uses no other. The remaining calls take numbers
    // only, and are bare because the C library's would look for other threads.
    let ready = unsafe {
        libc::syscall(libc::SYS_close_range, 3, ear - 1, 0);
        libc::syscall(libc::SYS_close_range, ear + 1, u32::MAX, 0);
        hear() == 1
            && libc::syscall(libc::SYS_setgroups, 0, 0) == 0
            && libc::syscall(libc::SYS_setresgid, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0
            // A copy of pause's memory is nobody's business inside.
            && libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
            && libc::signal(libc::SIGCHLD, libc::SIG_IGN) != libc::SIG_ERR
    };
    while ready && hear() != 0 {}
    // SAFETY: ends without running destructors; they are the maker's.
    unsafe { libc::_exit(0) }
}
