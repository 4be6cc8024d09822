//! System calls neither std nor rustix offer in the form the launcher needs: `clone3` onto an own stack, and calls that must
//! act on the calling task alone.
//!
//! Everything here may run in a child that shares its parent's memory, so nothing allocates. `errno` is shared with the parent
//! too, which does no harm: the parent sleeps in `clone3` meanwhile.

use std::ffi::{CStr, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::error::Errno;

pub(super) const CLONE_VM: u64 = 0x100;
pub(super) const CLONE_FILES: u64 = 0x400;
pub(super) const CLONE_VFORK: u64 = 0x4000;
pub(super) const CLONE_PARENT: u64 = 0x8000;
pub(super) const CLONE_PIDFD: u64 = 0x1000;
pub(super) const CLONE_NEWPID: u64 = libc::CLONE_NEWPID as u64;
pub(super) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args`, up to the field `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub(super) struct MountAttr {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) propagation: u64,
    pub(super) userns_fd: u64,
}

pub(super) const MOUNT_ATTR_RDONLY: u64 = 1;
pub(super) const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Turns a raw system call's result into a value or the error number.
pub(super) fn check(result: c_long) -> Result<c_long, Errno> {
    if result >= 0 {
        Ok(result)
    } else {
        Err(Errno(
            std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
        ))
    }
}

/// A system call on this task. Every argument is widened to a register: variadic calls leave the upper half of an `int` open.
macro_rules! call {
    ($number:expr $(, $arg:expr)* $(,)?) => {
        // SAFETY: the arguments are integers, or pointers to values that live until the call returns, as this call expects.
        $crate::launch::sys::check(unsafe { libc::syscall($number $(, ($arg) as usize)*) })
    };
}
pub(super) use call;

/// Memory used as a child's stack.
pub(super) struct Stack(Memory);

struct Memory(*mut libc::c_void);

// SAFETY: whoever has it is the only one that knows the mapping.
unsafe impl Send for Memory {}

/// The memory used last, for the next child: giving it back to the kernel would interrupt every processor this process runs on.
static KEPT: Mutex<Option<Memory>> = Mutex::new(None);

impl Stack {
    /// Untouched pages cost nothing, so the size is generous: unoptimised builds have deep frames.
    const SIZE: usize = 256 * 1024;

    pub(super) fn new() -> Result<Self, Errno> {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Self(kept.map_or_else(Memory::new, Ok)?))
    }
}

impl Memory {
    fn new() -> Result<Self, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new anonymous mapping touches no memory in use.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Stack::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Self(base))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let memory = Memory(self.0.0);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = Some(memory);
        } else {
            // SAFETY: the mapping is ours, and the child that ran on it has called execve or ended.
            unsafe { libc::munmap(memory.0, Self::SIZE) };
        }
    }
}

/// Makes a copy of this process, as `fork(2)` does, in the v2 group `cgroup` if there is one; 0 in the copy.
///
/// # Safety
/// The process has a single thread, so that nobody holds a lock that the copy would wait for.
pub(super) unsafe fn fork(cgroup: Option<BorrowedFd<'_>>) -> Result<i32, Errno> {
    let mut args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let pid = call!(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>())?;
    Ok(pid as i32)
}

/// Starts `entry(data)` in a new process that shares this one's memory; the calling thread sleeps until it has called execve or
/// ended.
///
/// # Safety
/// `entry` makes system calls only, since other threads of the process may hold any lock. It must never return, and `data` must be
/// valid for it.
pub(super) unsafe fn clone_vfork(
    mut args: CloneArgs,
    stack: &Stack,
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    data: *mut libc::c_void,
) -> Result<(i32, OwnedFd), Errno> {
    args.flags |= CLONE_VFORK;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: the caller's promise.
    let (pid, pidfd) = unsafe { clone_vm(args, stack, entry, data)? };
    // SAFETY: the kernel has stored a descriptor that belongs to nobody else yet.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The same without sleeping; the caller's own parent may be the process's (`CLONE_PARENT`). Its PID and a new pidfd.
///
/// # Safety
/// As above; and `stack` and `data` stay until the process has called execve or ended.
pub(super) unsafe fn clone_vm(
    mut args: CloneArgs,
    stack: &Stack,
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    data: *mut libc::c_void,
) -> Result<(i32, RawFd), Errno> {
    let mut pidfd: RawFd = -1;
    args.flags |= CLONE_VM | CLONE_PIDFD;
    args.pidfd = (&raw mut pidfd) as u64;
    args.stack = stack.0.0 as u64;
    args.stack_size = Stack::SIZE as u64;
    // SAFETY: the caller's promise; the kernel reads `args` before the child runs.
    let result = unsafe { raw_clone3(&args, entry, data) };
    if result < 0 {
        return Err(Errno(-result as i32));
    }
    // SAFETY: the kernel has written it, unseen by the compiler.
    Ok((result as i32, unsafe {
        std::ptr::read_volatile(&raw const pidfd)
    }))
}

#[cfg(target_arch = "x86_64")]
unsafe fn raw_clone3(
    args: &CloneArgs,
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    data: *mut libc::c_void,
) -> i64 {
    let result: i64;
    // SAFETY: the child runs on its own stack and leaves this frame alone: it calls `entry`, which never returns. The parent
    // finds every register but rax, rcx and r11 as it was.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") data,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn raw_clone3(
    args: &CloneArgs,
    entry: unsafe extern "C" fn(*mut libc::c_void) -> !,
    data: *mut libc::c_void,
) -> i64 {
    let result: i64;
    // SAFETY: as above; the parent finds every register but x0 as it was.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk #1",
            "2:",
            inlateout("x0") args => result,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x20") entry,
            in("x21") data,
        );
    }
    result
}

/// `mount_setattr(2)` on what a descriptor refers to.
pub(super) fn mount_setattr(fd: RawFd, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    call!(
        libc::SYS_mount_setattr,
        fd,
        c"".as_ptr(),
        flags,
        std::ptr::from_ref(attr),
        size_of::<MountAttr>()
    )?;
    Ok(())
}

/// A detached copy of the mount at `path` below `dir` with its submounts.
pub(super) fn clone_tree(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(dir, path, flags)?)
}

/// Attaches a detached mount to what `to` refers to.
pub(super) fn attach(mount: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", to, c"", flags)?)
}

/// `setns(2)`, of this task.
pub(super) fn setns(fd: BorrowedFd<'_>, kinds: i32) -> Result<(), Errno> {
    call!(libc::SYS_setns, fd.as_raw_fd(), kinds)?;
    Ok(())
}

/// Whether the kernel knows `mount_setattr` (Linux 5.12).
pub(super) fn has_mount_setattr() -> bool {
    // An invalid descriptor tells a kernel that knows the call (EBADF) from one that does not.
    mount_setattr(-1, false, &MountAttr::default()) != Err(Errno(libc::ENOSYS))
}

/// `unshare(2)`, of this task.
pub(super) fn unshare(kinds: i32) -> Result<(), Errno> {
    call!(libc::SYS_unshare, kinds)?;
    Ok(())
}

/// Blocks every signal (`Some(mask)` puts an old mask back) and returns the mask there was.
pub(super) fn signal_mask(put_back: Option<u64>) -> u64 {
    let new = put_back.unwrap_or(u64::MAX);
    let mut old = 0u64;
    // It can fail only for bad pointers or sizes.
    let _ = call!(
        libc::SYS_rt_sigprocmask,
        libc::SIG_SETMASK,
        &raw const new,
        &raw mut old,
        size_of::<u64>()
    );
    old
}

/// Puts every signal back to its default action and unblocks all. `CLONE_CLEAR_SIGHAND` leaves ignored ones ignored, and Rust
/// programs ignore SIGPIPE.
pub(super) fn default_signals() {
    // A zeroed `struct sigaction` is SIG_DFL with no flags.
    let default = [0u64; 4];
    for signal in 1..=64 {
        let _ = call!(
            libc::SYS_rt_sigaction,
            signal,
            default.as_ptr(),
            0,
            size_of::<u64>()
        );
    }
    signal_mask(Some(0));
}
