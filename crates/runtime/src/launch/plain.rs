//! A process of the engine's own, born inside its cgroup.
//!
//! Moving a running process between cgroups waits for an RCU grace period in the kernel, some 10 ms; one that is born in a v2 group
//! and enters v1 hierarchies by itself waits for nothing. The engine has threads, so between `clone3` and `execve` the child calls
//! nothing but the kernel, as `posix_spawn` does.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::child;
use super::error::{Errno, LaunchError};
use super::process::{self, OpenCgroups};
use super::spec::CgroupEntry;
use super::sys::{self, CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CloneArgs, Stack, call};

/// What the child needs, made before it is born.
struct Plan {
    cgroups: OpenCgroups,
    program: CString,
    /// Pointers into `_words`, and the null that ends them.
    argv: Vec<*const libc::c_char>,
    _words: Vec<CString>,
    /// Standard input, output and error.
    stdio: [OwnedFd; 3],
    failure: Option<(&'static str, Errno)>,
}

/// Starts `program` (its own name first among `args`) without an environment, its standard output going to `stdout` and nothing
/// else open, as a member of the groups of `cgroup`; its PID and a pidfd. Returns once it is executed.
pub(crate) fn spawn_in(
    cgroup: &CgroupEntry,
    program: &Path,
    args: &[OsString],
    stdout: OwnedFd,
) -> Result<(i32, OwnedFd), LaunchError> {
    let words: Vec<CString> = args
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| LaunchError::setup("read arguments")(Errno(libc::EINVAL)))?;
    let program = CString::new(program.as_os_str().as_bytes())
        .map_err(|_| LaunchError::setup("read arguments")(Errno(libc::EINVAL)))?;
    let mut plan = Plan {
        cgroups: OpenCgroups::open(cgroup)?,
        program,
        argv: words
            .iter()
            .map(|word| word.as_ptr())
            .chain([std::ptr::null()])
            .collect(),
        _words: words,
        stdio: stdio(stdout)?,
        failure: None,
    };
    let mut args = CloneArgs {
        flags: CLONE_CLEAR_SIGHAND,
        ..CloneArgs::default()
    };
    if let Some(v2) = &plan.cgroups.v2 {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = v2.as_raw_fd() as u64;
    }
    let stack = Stack::new().map_err(LaunchError::setup("allocate stack"))?;
    let data = std::ptr::from_mut::<Plan>(&mut plan).cast();
    let mask = sys::signal_mask(None);
    // SAFETY: `entry` makes system calls only and never returns; the plan outlives the child's use of it, which ends with execve
    // or exit, before `clone_vfork` returns.
    let born = unsafe { sys::clone_vfork(args, &stack, entry, data) };
    sys::signal_mask(Some(mask));
    let (pid, pidfd) = born.map_err(LaunchError::setup("clone"))?;
    // SAFETY: the child wrote through the pointer it got, unseen by the compiler; it has left this memory for good.
    match unsafe { std::ptr::read_volatile(&raw const plan.failure) } {
        None => Ok((pid, pidfd)),
        Some((step, errno)) => {
            process::reap(&pidfd);
            Err(LaunchError::Setup { step, errno })
        }
    }
}

/// The three streams, above the numbers they will get.
fn stdio(stdout: OwnedFd) -> Result<[OwnedFd; 3], LaunchError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())
        .map_err(LaunchError::setup("open /dev/null"))?;
    let above = |fd: &OwnedFd| {
        child::above_stdio(fd.as_fd()).map_err(LaunchError::setup("dup standard streams"))
    };
    Ok([above(&null)?, above(&stdout)?, above(&null)?])
}

/// The child's only function; `data` points to a [`Plan`].
unsafe extern "C" fn entry(data: *mut libc::c_void) -> ! {
    // SAFETY: the parent's thread passes its plan and sleeps, so nobody else uses it.
    let plan = unsafe { &mut *data.cast::<Plan>() };
    let Err(failure) = run(plan);
    plan.failure = Some(failure);
    loop {
        let _ = call!(libc::SYS_exit_group, 127);
    }
}

fn run(plan: &Plan) -> Result<std::convert::Infallible, (&'static str, Errno)> {
    for tasks in &plan.cgroups.procs {
        rustix::io::write(tasks, b"0").map_err(|e| ("enter cgroup", e.into()))?;
    }
    for (target, source) in plan.stdio.iter().enumerate() {
        call!(libc::SYS_dup3, source.as_raw_fd(), target as RawFd, 0)
            .map_err(|e| ("set up streams", e))?;
    }
    sys::default_signals();
    let environment = [std::ptr::null::<libc::c_char>()];
    let executed = call!(
        libc::SYS_execve,
        plan.program.as_ptr(),
        plan.argv.as_ptr(),
        environment.as_ptr()
    );
    match executed {
        Err(errno) => Err(("execute", errno)),
        Ok(_) => Err(("execute", Errno(libc::EIO))),
    }
}
