//! Processes of the engine's own, born inside their cgroups.
//!
//! Moving a running process between cgroups waits for an RCU grace period in the kernel, some 10 ms; one that is born in a v2 group
//! and enters v1 hierarchies by itself waits for nothing.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::birth::{self, NotBorn, Program};
use super::child::{self, Pointers};
use super::error::{Errno, LaunchError};
use super::process::OpenCgroups;
use super::spec::CgroupEntry;
use super::sys::{self, call};

/// What the child needs, made before it is born.
struct Plan {
    cgroups: OpenCgroups,
    program: CString,
    argv: Pointers,
    envp: Pointers,
    /// Standard input, output and error.
    stdio: [OwnedFd; 3],
}

/// Starts `program` (its own name first among `args`) without an environment, its standard input being `stdin` and nothing else
/// open, as a member of the groups of `cgroup`; its pidfd. Returns once it is executed.
pub(crate) fn spawn_in(
    cgroup: &CgroupEntry,
    program: &Path,
    args: &[OsString],
    stdin: OwnedFd,
) -> Result<OwnedFd, LaunchError> {
    let words = args
        .iter()
        .map(|word| c_string(word))
        .collect::<Result<_, _>>()?;
    let plan = Plan {
        cgroups: OpenCgroups::open(cgroup)?,
        program: c_string(program.as_os_str())?,
        argv: Pointers::new(words),
        envp: Pointers::new(Vec::new()),
        stdio: stdio(stdin)?,
    };
    match birth::start(&plan, 0, plan.cgroups.v2.as_ref().map(AsFd::as_fd)) {
        Ok((_, pidfd)) => Ok(pidfd),
        Err(NotBorn::Clone(errno)) => Err(LaunchError::setup("clone")(errno)),
        Err(NotBorn::Failed((step, errno))) => Err(LaunchError::Setup { step, errno }),
    }
}

/// On which side of a birth one is.
pub(crate) enum Side {
    /// The one that bore.
    Parent,
    /// The newborn; whether it is where it was to be born.
    Newborn(Result<(), LaunchError>),
}

/// Makes a copy of this process, as a member of the groups of `cgroup`. The parent does not wait for it.
///
/// # Safety
/// The process has a single thread.
pub(crate) unsafe fn fork_in(cgroup: &CgroupEntry) -> Result<Side, LaunchError> {
    let cgroups = OpenCgroups::open(cgroup)?;
    // SAFETY: the caller's promise.
    match unsafe { sys::fork(cgroups.v2.as_ref().map(AsFd::as_fd)) } {
        Ok(0) => Ok(Side::Newborn(
            cgroups
                .enter_v1()
                .map_err(LaunchError::setup("enter cgroup")),
        )),
        Ok(_) => Ok(Side::Parent),
        Err(errno) => Err(LaunchError::setup("clone")(errno)),
    }
}

fn c_string(word: &OsStr) -> Result<CString, LaunchError> {
    CString::new(word.as_bytes()).map_err(|_| LaunchError::Nul { what: "command" })
}

/// The three streams, above the numbers they will get.
fn stdio(stdin: OwnedFd) -> Result<[OwnedFd; 3], LaunchError> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(LaunchError::setup("open /dev/null"))?;
    let above = |fd: &OwnedFd| {
        child::above_stdio(fd.as_fd()).map_err(LaunchError::setup("dup standard streams"))
    };
    Ok([above(&stdin)?, above(&null)?, above(&null)?])
}

// SAFETY: it makes system calls only, on descriptors and strings of the plan.
unsafe impl Program for Plan {
    type Failure = (&'static str, Errno);

    fn run(&self) -> Result<Infallible, Self::Failure> {
        let entered = self.cgroups.enter_v1();
        entered.map_err(|errno| ("enter cgroup", errno))?;
        for (target, source) in self.stdio.iter().enumerate() {
            call!(libc::SYS_dup3, source.as_raw_fd(), target as RawFd, 0)
                .map_err(|e| ("set up streams", e))?;
        }
        sys::default_signals();
        let executed = call!(
            libc::SYS_execve,
            self.program.as_ptr(),
            self.argv.as_ptr(),
            self.envp.as_ptr()
        );
        Err(("execute", executed.err().unwrap_or(Errno(libc::EIO))))
    }
}
