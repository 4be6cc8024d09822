//! The birth of a process that shares its parent's memory until it executes its program.

use std::convert::Infallible;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::error::Errno;
use super::process;
use super::sys::{self, CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CloneArgs, Stack, call};

/// What a child does between its birth and its program.
///
/// # Safety
/// [`Program::run`] makes system calls only, on what was prepared before: it neither allocates nor unwinds, since other threads of
/// the parent may hold any lock.
pub(super) unsafe trait Program {
    /// Why it did not come to its program.
    type Failure: Copy;

    /// Ends in `execve`, or returns why not.
    fn run(&self) -> Result<Infallible, Self::Failure>;
}

/// Why there is no process.
pub(super) enum NotBorn<F> {
    /// The kernel made none.
    Clone(Errno),
    /// It ended before its program, and was reaped.
    Failed(F),
}

/// The memory parent and child share.
struct Shared<'a, P: Program> {
    program: &'a P,
    failure: Option<P::Failure>,
}

/// Starts a child with every signal at its default, in the v2 group `cgroup` if there is one; `flags` are `clone3`'s beyond that.
/// Returns its PID and a pidfd once its program is executed.
pub(super) fn start<P: Program>(
    program: &P,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(i32, OwnedFd), NotBorn<P::Failure>> {
    let stack = Stack::new().map_err(NotBorn::Clone)?;
    let mut args = CloneArgs {
        flags: flags | CLONE_CLEAR_SIGHAND,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let mut shared = Shared {
        program,
        failure: None,
    };
    let data = std::ptr::from_mut(&mut shared).cast();
    let mask = sys::signal_mask(None);
    // SAFETY: `entry` never returns and, by the trait's contract, makes system calls only; what it is given outlives its use of it,
    // which ends with execve or exit, before `clone_vfork` returns.
    let born = unsafe { sys::clone_vfork(args, &stack, entry::<P>, data) };
    sys::signal_mask(Some(mask));
    let (pid, pidfd) = born.map_err(NotBorn::Clone)?;
    // SAFETY: the child wrote through the pointer it got, unseen by the compiler; it has left this memory for good.
    match unsafe { std::ptr::read_volatile(&raw const shared.failure) } {
        None => Ok((pid, pidfd)),
        Some(failure) => {
            process::reap(&pidfd);
            Err(NotBorn::Failed(failure))
        }
    }
}

/// The child's first function; `data` points to a [`Shared`].
unsafe extern "C" fn entry<P: Program>(data: *mut c_void) -> ! {
    // SAFETY: the parent's thread passes it and sleeps, so nobody else uses it.
    let shared = unsafe { &mut *data.cast::<Shared<'_, P>>() };
    let Err(failure) = shared.program.run();
    shared.failure = Some(failure);
    loop {
        let _ = call!(libc::SYS_exit_group, 127);
    }
}
