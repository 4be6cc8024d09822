//! The birth of a process that shares its parent's memory until it executes its program.

use std::convert::Infallible;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::error::Errno;
use super::process;
use super::sys::{
    self, CLONE_CLEAR_SIGHAND, CLONE_FILES, CLONE_INTO_CGROUP, CLONE_PARENT, CloneArgs, Stack, call,
};

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

/// What one who is born only to bear another does.
struct Between<'a, P: Program, B> {
    before: B,
    child: *mut AtGate<'a, P>,
    flags: u64,
}

/// How it ended.
#[derive(Clone, Copy)]
enum Delivery<F> {
    Born(i32, RawFd),
    Clone(Errno),
    Failed(F),
}

// SAFETY: `before` makes system calls only, by the promise of [`start_between`]'s callers, and so does cloning.
unsafe impl<P: Program, B: Fn() -> Result<(), P::Failure>> Program for Between<'_, P, B> {
    type Failure = Delivery<P::Failure>;

    fn run(&self) -> Result<Infallible, Self::Failure> {
        (self.before)().map_err(Delivery::Failed)?;
        // A sibling's signal at its end is that of this process.
        let args = CloneArgs {
            flags: self.flags | CLONE_PARENT | CLONE_CLEAR_SIGHAND,
            ..CloneArgs::default()
        };
        // SAFETY: `wait_at_gate` never returns and makes system calls only; what it is given, its stack with it, is kept by `Gated`.
        let born = unsafe {
            let stack = &(*self.child).stack;
            sys::clone_vm(args, stack, wait_at_gate::<P>, self.child.cast())
        };
        Err(born.map_or_else(Delivery::Clone, |(pid, fd)| Delivery::Born(pid, fd)))
    }
}

/// The memory a waiting child shares.
struct AtGate<'a, P: Program> {
    program: &'a P,
    failure: Option<P::Failure>,
    stack: Stack,
    /// Its side of the gate.
    own: RawFd,
    /// The other one, which it must not hold.
    other: RawFd,
}

/// A child that was born and waits, while what it needs is made. Dropping this instead of opening the gate ends it.
///
/// The two run at once in the same memory: the child is in one system call that does not fail (so it leaves `errno` alone), and once it
/// goes on the caller is.
pub(super) struct Gated<'a, P: Program> {
    pid: i32,
    pidfd: Option<OwnedFd>,
    gate: Option<OwnedFd>,
    child: *mut AtGate<'a, P>,
}

/// Starts a child as [`start`] does, borne by one between who runs `before` first and is gone when this returns: so the child, the
/// caller's own, is born with that one's rights and what of namespaces it entered. It waits until [`Gated::open`].
///
/// `before` makes system calls only: it runs where a [`Program`] runs.
pub(super) fn start_between<'a, P: Program>(
    program: &'a P,
    before: impl Fn() -> Result<(), P::Failure>,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Gated<'a, P>, NotBorn<P::Failure>> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let cloexec = SocketFlags::CLOEXEC;
    let (gate, own) = socketpair(AddressFamily::UNIX, SocketType::STREAM, cloexec, None)
        .map_err(|e| NotBorn::Clone(e.into()))?;
    let child = Box::into_raw(Box::new(AtGate {
        program,
        failure: None,
        stack: Stack::new().map_err(NotBorn::Clone)?,
        own: own.as_raw_fd(),
        other: gate.as_raw_fd(),
    }));
    let mut gated = Gated {
        pid: 0,
        pidfd: None,
        gate: Some(gate),
        child,
    };
    let between = Between {
        before,
        child,
        flags,
    };
    // One table of descriptors, so that the newborn's pidfd is in the caller's.
    let delivery = match start(&between, CLONE_FILES, cgroup) {
        Err(NotBorn::Failed(delivery)) => delivery,
        Err(NotBorn::Clone(errno)) => Delivery::Clone(errno),
        // It executes nothing.
        Ok(_) => Delivery::Clone(Errno(libc::EIO)),
    };
    match delivery {
        Delivery::Born(pid, pidfd) => {
            gated.pid = pid;
            // SAFETY: the kernel has made it in our table for whoever bore the child, who is gone.
            gated.pidfd = Some(unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok(gated)
        }
        Delivery::Clone(errno) => Err(NotBorn::Clone(errno)),
        Delivery::Failed(failure) => Err(NotBorn::Failed(failure)),
    }
}

impl<P: Program> Gated<'_, P> {
    /// The child, as long as it waits.
    pub(super) fn pidfd(&self) -> Result<BorrowedFd<'_>, Errno> {
        let pidfd = self.pidfd.as_ref().ok_or(Errno(libc::ESRCH))?;
        Ok(pidfd.as_fd())
    }

    /// Lets it go on. Returns its PID and its pidfd once its program is executed.
    pub(super) fn open(mut self) -> Result<(i32, OwnedFd), NotBorn<P::Failure>> {
        if let Some(gate) = &self.gate {
            // A child that is gone already is found out by what follows.
            let _ = rustix::io::write(gate, &[1]);
            // Executing closes its side, and so does its end; it never writes.
            while rustix::io::read(gate, &mut [0u8; 1]) == Err(rustix::io::Errno::INTR) {}
        }
        // SAFETY: the child has left this memory for good, and nobody else writes it.
        let failure = unsafe { std::ptr::read_volatile(&raw const (*self.child).failure) };
        match (failure, self.pidfd.take()) {
            (None, Some(pidfd)) => Ok((self.pid, pidfd)),
            (Some(failure), Some(pidfd)) => {
                process::reap(&pidfd);
                Err(NotBorn::Failed(failure))
            }
            (_, None) => Err(NotBorn::Clone(Errno(libc::ESRCH))),
        }
    }
}

impl<P: Program> Drop for Gated<'_, P> {
    fn drop(&mut self) {
        // The end of the gate is the child's end, too.
        self.gate = None;
        if let Some(pidfd) = self.pidfd.take() {
            process::reap(&pidfd);
        }
        // SAFETY: it came from a box, and the child that used it has executed its program or ended.
        drop(unsafe { Box::from_raw(self.child) });
    }
}

/// A waiting child's first function; `data` points to an [`AtGate`].
unsafe extern "C" fn wait_at_gate<P: Program>(data: *mut c_void) -> ! {
    // SAFETY: `Gated` keeps it and does not touch it until the child has left this memory.
    let shared = unsafe { &mut *data.cast::<AtGate<'_, P>>() };
    let mut byte = [0u8; 1];
    // Its own copy; it would otherwise never see the gate's end.
    let _ = call!(libc::SYS_close, shared.other);
    if call!(libc::SYS_read, shared.own, byte.as_mut_ptr(), 1) == Ok(1) {
        let Err(failure) = shared.program.run();
        shared.failure = Some(failure);
    }
    loop {
        let _ = call!(libc::SYS_exit_group, 127);
    }
}
