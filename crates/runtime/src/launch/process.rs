//! From a process specification to the child's plan: everything that can be decided before the child is born.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ports::runtime::UserStatus;
use rustix::fs::{Mode, OFlags};

use super::birth::{self, NotBorn};
use super::child::{self, Begun, Failure, KernelMounts, Plan, Pointers};
use super::error::{Errno, LaunchError};
use super::spec::{CapabilitySets, CgroupEntry, ProcessSpec, SeccompProgram, Stdio};
use super::sys::{self, CLONE_NEWPID};
use super::terminal::{self, Terminal};

/// The kernel's own search path when the environment has none, as in runc's callers.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Cgroups opened while the node's paths can be seen.
pub(super) struct OpenCgroups {
    pub(super) v2: Option<OwnedFd>,
    pub(super) procs: Vec<OwnedFd>,
    paths: Vec<String>,
}

impl OpenCgroups {
    pub(super) fn open(entry: &CgroupEntry) -> Result<Self, LaunchError> {
        let failed = |path: &std::path::Path| {
            let path = path.display().to_string();
            move |e: rustix::io::Errno| LaunchError::Cgroup {
                path,
                errno: e.into(),
            }
        };
        let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let v2 = entry
            .v2
            .as_deref()
            .map(|p| rustix::fs::open(p, dir, Mode::empty()).map_err(failed(p)))
            .transpose()?;
        let (mut procs, mut paths) = (Vec::new(), Vec::new());
        for path in entry.v1.values() {
            // The child is one thread, which `tasks` moves at once; `cgroup.procs` would wait for an RCU grace period.
            let file = path.join("tasks");
            procs.push(
                rustix::fs::open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(failed(path))?,
            );
            paths.push(path.display().to_string());
        }
        Ok(Self { v2, procs, paths })
    }

    /// Moves the calling process, which must have one thread, into the v1 groups. System calls only.
    pub(super) fn enter_v1(&self) -> Result<(), Errno> {
        for tasks in &self.procs {
            rustix::io::write(tasks, b"0")?;
        }
        Ok(())
    }
}

/// What the launcher knows of the process it runs in.
pub(super) struct Own {
    /// The node's `/proc`.
    pub(super) proc: OwnedFd,
    /// Capabilities pause may hand on.
    pub(super) capabilities: u64,
    pub(super) last_capability: u32,
    /// The PID namespace its children are born in.
    pub(super) pids: OwnedFd,
}

impl Own {
    /// Children born until the guard is dropped are in the PID namespace of `target`, a process or the namespace itself.
    pub(super) fn children_in(&self, target: BorrowedFd<'_>) -> Result<PidGuard<'_>, LaunchError> {
        match sys::setns(target, libc::CLONE_NEWPID) {
            Ok(()) => Ok(PidGuard(&self.pids)),
            Err(Errno(libc::ESRCH)) => Err(LaunchError::Stopped),
            Err(errno) => Err(LaunchError::Setup {
                step: "setns into pid namespace",
                errno,
            }),
        }
    }
}

pub(super) struct PidGuard<'a>(&'a OwnedFd);

impl Drop for PidGuard<'_> {
    fn drop(&mut self) {
        if sys::setns(self.0.as_fd(), libc::CLONE_NEWPID).is_err() {
            // Later containers would be born in somebody else's namespace. It cannot fail but for want of kernel memory.
            std::process::abort();
        }
    }
}

/// What makes the difference between a launch and an exec.
pub(super) struct Setting {
    pub(super) enter: Option<OwnedFd>,
    pub(super) mounts: Option<KernelMounts>,
    pub(super) new_pid_namespace: bool,
    /// Another user namespace than the launcher's.
    pub(super) users: Option<OwnedFd>,
}

/// A plan with what the parent keeps of it.
pub(super) struct Prepared {
    plan: Plan,
    /// Mounts made by the node's root, because the container's may not.
    mounts: Option<KernelMounts>,
    cgroup: Option<OwnedFd>,
    cgroup_path: String,
    cgroup_paths: Vec<String>,
    new_pid_namespace: bool,
    name: String,
}

/// Turns a specification into a plan. `user` is resolved, `stdio` opened.
pub(super) fn prepare(
    own: &Own,
    spec: &ProcessSpec,
    user: &UserStatus,
    home: Option<&str>,
    stdio: ([OwnedFd; 3], bool),
    cgroup: (&CgroupEntry, OpenCgroups),
    setting: Setting,
) -> Result<Prepared, LaunchError> {
    let name = spec
        .argv
        .first()
        .filter(|n| !n.is_empty())
        .ok_or(LaunchError::NoCommand)?
        .clone();
    let env = environment(&spec.env, home);
    let searched = !name.contains('/');
    let candidates = if searched {
        candidates(&name, &env)
    } else {
        vec![name.clone()]
    };
    let (opened, entry) = (cgroup.1, cgroup.0);
    // In a user namespace everything may be had that there is, whatever the engine itself lacks.
    let own_capabilities = match setting.users {
        Some(_) => u64::MAX >> (63 - own.last_capability),
        None => own.capabilities,
    };
    let (mounts, others) = match setting.users {
        Some(_) => (None, setting.mounts),
        None => (setting.mounts, None),
    };
    let plan = Plan {
        cgroup_procs: opened.procs,
        proc: own.proc.try_clone().map_err(LaunchError::setup("dup"))?,
        enter: setting.enter,
        mounts,
        apart: others.as_ref().map_or(0, KernelMounts::namespaces),
        users: setting.users,
        stdio: stdio.0,
        terminal: stdio.1,
        oom_score_adj: spec
            .oom_score_adj
            .and_then(|score| CString::new(score.to_string()).ok()),
        rlimits: spec.rlimits.iter().map(clamp).collect(),
        uid: user.uid,
        gid: user.gid,
        groups: user.supplemental_groups.clone(),
        cwd: c_string(
            "working directory",
            if spec.cwd.is_empty() { "/" } else { &spec.cwd },
        )?,
        capabilities: limit(spec.capabilities, own_capabilities),
        last_capability: own.last_capability,
        no_new_privs: spec.no_new_privs,
        seccomp: spec.seccomp.as_ref().map(filter).transpose()?,
        candidates: c_strings("command", &candidates)?,
        searched,
        argv: Pointers::new(c_strings("command", &spec.argv)?),
        envp: Pointers::new(c_strings(
            "environment",
            &env.iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>(),
        )?),
    };
    Ok(Prepared {
        plan,
        mounts: others,
        cgroup: opened.v2,
        cgroup_path: entry
            .v2
            .as_ref()
            .map(|p| p.display().to_string())
            .unwrap_or_default(),
        cgroup_paths: opened.paths,
        new_pid_namespace: setting.new_pid_namespace,
        name,
    })
}

impl Prepared {
    /// Starts the child and waits until it executes its program; a child that failed is reaped.
    pub(super) fn start(self, own: &Own) -> Result<(i32, OwnedFd), LaunchError> {
        let cgroup = self.cgroup.as_ref().map(AsFd::as_fd);
        let flags = if self.new_pid_namespace {
            CLONE_NEWPID
        } else {
            0
        };
        let born = match &self.mounts {
            None => birth::start(&self.plan, flags, cgroup),
            Some(mounts) if !self.new_pid_namespace => {
                self.make(mounts)?;
                birth::start(&self.plan, flags, cgroup)
            }
            Some(mounts) => {
                let begun = Begun(&self.plan);
                let before = || child::begin(&self.plan);
                // Born inside, so that the new namespace is the inside's; it waits for mounts that can be made only from within it.
                let gated = birth::start_between(&begun, before, flags, cgroup)
                    .map_err(|error| self.unborn(error))?;
                let child = gated.pidfd().map_err(LaunchError::setup("clone"))?;
                let pids = own.children_in(child)?;
                self.make(mounts)?;
                drop(pids);
                gated.open()
            }
        };
        born.map_err(|error| self.unborn(error))
    }

    /// Has the kernel's file systems mounted by a process of the node's root.
    fn make(&self, mounts: &KernelMounts) -> Result<(), LaunchError> {
        let cgroup = self.cgroup.as_ref().map(AsFd::as_fd);
        match birth::start(mounts, 0, cgroup) {
            Err(NotBorn::Failed(None)) => Ok(()),
            Err(NotBorn::Failed(Some(failure))) => Err(self.explain(failure)),
            Err(NotBorn::Clone(errno)) => Err(LaunchError::setup("clone")(errno)),
            // It executes nothing.
            Ok(_) => Err(LaunchError::setup("clone")(Errno(libc::EIO))),
        }
    }

    fn unborn(&self, error: NotBorn<Failure>) -> LaunchError {
        match (error, &self.cgroup) {
            (NotBorn::Failed(failure), _) => self.explain(failure),
            (NotBorn::Clone(errno), Some(_)) => LaunchError::Cgroup {
                path: self.cgroup_path.clone(),
                errno,
            },
            (NotBorn::Clone(errno), None) => LaunchError::setup("clone")(errno),
        }
    }

    fn explain(&self, failure: Failure) -> LaunchError {
        let text = |c: &CString| c.to_string_lossy().into_owned();
        let candidate = |n: usize| self.plan.candidates.get(n).map(text).unwrap_or_default();
        match failure {
            Failure::Step(step, errno) => LaunchError::Setup { step, errno },
            Failure::Cgroup(n, errno) => LaunchError::Cgroup {
                path: self.cgroup_paths.get(n).cloned().unwrap_or_default(),
                errno,
            },
            Failure::Chdir(errno) => LaunchError::Chdir {
                path: text(&self.plan.cwd),
                errno,
            },
            Failure::Outside => LaunchError::Outside,
            Failure::Mount(path, errno) => LaunchError::Mount {
                source_path: kernel_fs(path).to_owned(),
                target: path.to_owned(),
                errno,
            },
            Failure::Protect(n, errno) => {
                let mounts = self.plan.mounts.as_ref().or(self.mounts.as_ref());
                let path = mounts
                    .and_then(|m| m.masked.iter().chain(&m.readonly).nth(n))
                    .map(text)
                    .unwrap_or_default();
                LaunchError::Mount {
                    source_path: path.clone(),
                    target: path,
                    errno,
                }
            }
            Failure::NotInPath => LaunchError::NotInPath(self.name.clone()),
            Failure::Stat(errno) => LaunchError::Stat {
                path: self.name.clone(),
                errno,
            },
            Failure::NotExecutable(n, errno) => LaunchError::NotExecutable {
                path: candidate(n),
                errno,
            },
            Failure::Exec(n, errno) => LaunchError::Exec {
                path: candidate(n),
                errno,
            },
        }
    }
}

fn kernel_fs(path: &str) -> &'static str {
    if path == "/proc" { "proc" } else { "cgroup2" }
}

/// Reaps a child that has ended or is about to.
pub(super) fn reap(pidfd: &OwnedFd) {
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    );
}

/// Opens the standard streams for the child and hands them to its user, as runc does, so that `/dev/stdout` can be opened.
pub(super) fn open_stdio(
    stdio: Stdio<'_>,
    devpts: Option<BorrowedFd<'_>>,
    user: &UserStatus,
) -> Result<([OwnedFd; 3], Option<Terminal>), LaunchError> {
    let dup = |fd: BorrowedFd<'_>| {
        child::above_stdio(fd).map_err(LaunchError::setup("dup standard streams"))
    };
    let (streams, terminal) = match stdio {
        Stdio::Files {
            stdin,
            stdout,
            stderr,
        } => ([dup(stdin)?, dup(stdout)?, dup(stderr)?], None),
        Stdio::Terminal { size } => {
            let devpts = devpts.ok_or(LaunchError::NoDevpts)?;
            let terminal =
                terminal::open(devpts, size).map_err(LaunchError::setup("open terminal"))?;
            let slave = terminal.slave.as_fd();
            ([dup(slave)?, dup(slave)?, dup(slave)?], Some(terminal))
        }
    };
    for stream in &streams {
        own_stream(stream, user, terminal.is_some());
    }
    Ok((streams, terminal))
}

fn own_stream(stream: &OwnedFd, user: &UserStatus, terminal: bool) {
    use rustix::fs::FileType;
    let Ok(stat) = rustix::fs::fstat(stream) else {
        return;
    };
    // Pipes and terminals only: a device or file of the node keeps its owner.
    let ours = terminal
        || matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Fifo | FileType::Socket
        );
    if ours && stat.st_uid != user.uid {
        let gid = if terminal { stat.st_gid } else { user.gid };
        let _ = rustix::fs::fchown(
            stream,
            Some(rustix::fs::Uid::from_raw(user.uid)),
            Some(rustix::fs::Gid::from_raw(gid)),
        );
    }
}

/// The environment with later entries winning, and `HOME` if it has none.
fn environment(env: &[(String, String)], home: Option<&str>) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String)> = Vec::with_capacity(env.len() + 1);
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(env.len());
    for (key, value) in env {
        match places.get(key.as_str()) {
            Some(&n) => merged[n].1.clone_from(value),
            None => {
                places.insert(key, merged.len());
                merged.push((key.clone(), value.clone()));
            }
        }
    }
    if let (Some(home), false) = (home, places.contains_key("HOME")) {
        merged.push(("HOME".to_owned(), home.to_owned()));
    }
    merged
}

/// Where a name without slash may be, in the order of `PATH`. Relative entries are passed over, as Go's LookPath does.
fn candidates(name: &str, env: &[(String, String)]) -> Vec<String> {
    let path = env
        .iter()
        .find(|(k, _)| k == "PATH")
        .map_or(DEFAULT_PATH, |(_, v)| v);
    path.split(':')
        .filter(|d| d.starts_with('/'))
        .map(|d| format!("{}/{name}", d.trim_end_matches('/')))
        .collect()
}

fn c_string(what: &'static str, text: &str) -> Result<CString, LaunchError> {
    CString::new(text).map_err(|_| LaunchError::Nul { what })
}

fn c_strings(what: &'static str, texts: &[String]) -> Result<Vec<CString>, LaunchError> {
    texts.iter().map(|t| c_string(what, t)).collect()
}

fn limit(sets: CapabilitySets, own: u64) -> CapabilitySets {
    CapabilitySets {
        bounding: sets.bounding & own,
        effective: sets.effective & own,
        permitted: sets.permitted & own,
        inheritable: sets.inheritable & own,
        ambient: sets.ambient & own,
    }
}

fn filter(program: &SeccompProgram) -> Result<(Vec<u64>, u32), LaunchError> {
    // BPF_MAXINSNS; the kernel would refuse it less clearly.
    if program.instructions.is_empty() || program.instructions.len() > 4096 {
        return Err(LaunchError::Setup {
            step: "load seccomp filter",
            errno: Errno(libc::EINVAL),
        });
    }
    Ok((program.instructions.clone(), program.flags))
}

/// A limit no higher than pause's own hard limit: raising it needs CAP_SYS_RESOURCE, which an engine in a container lacks.
fn clamp(limit: &super::spec::Rlimit) -> (u32, libc::rlimit64) {
    let mut own = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let read = super::sys::call!(libc::SYS_prlimit64, 0, limit.resource, 0, &raw mut own);
    let top = if read.is_ok() { own.rlim_max } else { u64::MAX };
    let hard = limit.hard.min(top);
    (
        limit.resource,
        libc::rlimit64 {
            rlim_cur: limit.soft.min(hard),
            rlim_max: hard,
        },
    )
}
