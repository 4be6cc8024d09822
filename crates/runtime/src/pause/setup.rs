//! Becoming a Pod's sandbox: namespaces, host name, sysctls, loopback, socket. It is in its cgroup from the beginning, and connected
//! to the engine that started it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ports::runtime::IdMapping;
use rustix::process::DumpableBehavior;
use rustix::thread::UnshareFlags;
use thiserror::Error;

use super::connection::Connection;
use super::users::{self, Users};
use crate::cgroup::Layout;
use crate::launch::Scratch;
use crate::namespaces::{Namespaces, ready_network};
use crate::wire::{PauseSpec, VERSION};

/// Why a pause did not come up.
#[derive(Debug, Error)]
pub(super) enum SetupError {
    /// The specification is of another version.
    #[error("the engine speaks version {0}")]
    Version(u32),
    /// A sysctl could not be set.
    #[error("failed to set sysctl {name}")]
    Sysctl {
        /// Dotted name.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("failed to {what}")]
    Step {
        /// The step.
        what: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl SetupError {
    pub(super) fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Step {
            what,
            source: error.into(),
        }
    }
}

/// What the event loop serves.
pub(super) struct Sandbox {
    /// Where engines connect.
    pub(super) listener: UnixListener,
    /// Readable when a child has ended.
    pub(super) signals: OwnedFd,
    /// The network namespace, when it is the Pod's own.
    pub(super) netns: Option<OwnedFd>,
    /// What containers' mount namespaces are copied from.
    pub(super) scratch: Scratch,
    /// The Pod's own users.
    pub(super) users: Option<Users>,
    /// Where cgroups are.
    pub(super) cgroups: Layout,
}

/// Makes this process the sandbox whose files are in `run_dir`, which becomes its working directory, as the engine says.
pub(super) fn enter(run_dir: &Path, engine: &mut Connection) -> Result<Sandbox, SetupError> {
    let (spec, fds): (PauseSpec, _) = engine
        .inherited()
        .map_err(SetupError::step("read the specification"))?;
    let mut fds = fds.into_iter();
    let mut next = |what| {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        fds.next()
            .ok_or_else(absent)
            .map_err(SetupError::step(what))
    };
    let scratch = next("take the scratch mount namespace")?;
    let listener = next("take the listener")?;
    std::env::set_current_dir(run_dir).map_err(SetupError::step("enter the run directory"))?;
    if spec.version != VERSION {
        return Err(SetupError::Version(spec.version));
    }
    // A leader of its session, out of reach of the terminal the engine may run on. Fails only if it is one already.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Lowering it takes a capability that not every root has.
    let _ = std::fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string());
    let users = match spec.users {
        Some(ids) => Some(users::make(ids, spec.new_pid)),
        None => None,
    };
    let users = users
        .transpose()
        .map_err(SetupError::step("make a user namespace"))?;
    if spec.has_namespaces {
        Namespaces::from_fds(fds.collect())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
            .and_then(|given| given.enter())
            .map_err(SetupError::step("enter namespaces"))?;
    } else if users.is_none() {
        unshare(&spec).map_err(SetupError::step("make namespaces"))?;
    }
    configure(&spec)?;
    if spec.new_pid && users.is_none() {
        become_init().map_err(SetupError::step("make a PID namespace"))?;
    }
    // Containers share this memory until they execute their program; nobody inside may look at it (CVE-2016-9962).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(SetupError::step("become undumpable"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(SetupError::step("become the reaper"))?;
    let signals = child_signals().map_err(SetupError::step("block signals"))?;
    let netns = spec
        .new_network
        .then(|| std::fs::File::open("/proc/self/ns/net").map(OwnedFd::from));
    let netns = netns
        .transpose()
        .map_err(SetupError::step("open the network namespace"))?;
    Ok(Sandbox {
        listener: listener.into(),
        signals,
        netns,
        scratch: scratch.into(),
        users,
        cgroups: spec.cgroups,
    })
}

fn unshare(spec: &PauseSpec) -> io::Result<()> {
    let mut flags = UnshareFlags::empty();
    if spec.new_network {
        flags |= UnshareFlags::NEWNET | UnshareFlags::NEWUTS;
    }
    if spec.new_ipc {
        flags |= UnshareFlags::NEWIPC;
    }
    // SAFETY: single-threaded, and CLONE_FILES is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags)? };
    Ok(())
}

fn configure(spec: &PauseSpec) -> Result<(), SetupError> {
    if spec.new_network {
        if !spec.hostname.is_empty() {
            rustix::system::sethostname(spec.hostname.as_bytes())
                .map_err(SetupError::step("set the host name"))?;
        }
        if !spec.has_namespaces {
            ready_network().map_err(SetupError::step("bring up lo"))?;
        }
    }
    for (name, value) in &spec.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        let value = match spec.users {
            Some(ids) if name == GROUPS_SYSCTL => groups_on_node(value, ids),
            _ => Ok(value.clone()),
        };
        let set = value.and_then(|value| std::fs::write(path, value));
        set.map_err(|source| SetupError::Sysctl {
            name: name.clone(),
            source,
        })?;
    }
    Ok(())
}

/// The one safe sysctl whose value is of groups: it means those of who writes it.
const GROUPS_SYSCTL: &str = "net.ipv4.ping_group_range";

/// A range of groups of the inside, as the node knows them. Groups that are not there are refused, as the kernel would inside.
fn groups_on_node(range: &str, ids: IdMapping) -> io::Result<String> {
    let shift = |group: &str| -> io::Result<u32> {
        let group: u32 = group
            .parse()
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        if group >= ids.length {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(ids.host_id.saturating_add(group))
    };
    let groups = range.split_whitespace().map(shift);
    let groups: Vec<String> = groups
        .map(|group| group.map(|g| g.to_string()))
        .collect::<io::Result<_>>()?;
    Ok(groups.join(" "))
}

/// Goes on as PID 1 of a new PID namespace; the process that was started ends.
fn become_init() -> io::Result<()> {
    // SAFETY: single-threaded, and CLONE_FILES is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID)? };
    // SAFETY: single-threaded, so the child's memory is consistent and no lock is held by a thread that is gone.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        // SAFETY: ends without running destructors; they are the child's now.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Blocks every signal that would end this process and makes SIGCHLD readable. The launcher gives its children an empty mask.
fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the sets are initialised by sigfillset and sigemptyset before they are read; the descriptor is new and ours.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        let fd = libc::signalfd(-1, &raw const child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}
