//! One container as pause keeps it: its first process, its streams, its log, its end.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use jiff::Timestamp;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitStatus;

use super::log::LogFile;
use super::output::{Output, Read};
use crate::cgroup::{Group, Tree};
use crate::launch::{LaunchFds, Launched, Launcher, PidNamespace, Stdio};
use crate::wire::{
    ContainerReport, ExitRecord, Refusal, Reply, StartSpec, Started, Stream, exit_file_name,
};

/// Exit code of a container that could not be started (containerd's).
const START_ERROR_CODE: i32 = 128;

/// Where containers' files and cgroups are.
pub(super) struct Home {
    /// The run directory. Launching changes mount namespaces, and with them the working directory, so it is held open.
    pub(super) run_dir: Rc<OwnedFd>,
    /// Every group by its path below the hierarchies' mounts.
    pub(super) cgroups: Tree,
}

/// A container that runs, or whose end is not yet acknowledged or not yet wholly in its log.
pub(super) struct Container {
    id: String,
    started: Option<Started>,
    process: Option<Process>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    log: Option<LogFile>,
    exit: Option<ExitRecord>,
    acknowledged: bool,
    cgroup: Group,
    run_dir: Rc<OwnedFd>,
    shares_pids: bool,
    stdin_once: bool,
    stdin_attached: bool,
}

/// What is kept of a first process while it runs.
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) devpts: Option<OwnedFd>,
    /// Writing end of its input, unless it has none or a terminal.
    stdin: Option<OwnedFd>,
    terminal: bool,
}

/// Pipes' ends for a process without terminal: its own, and ours.
pub(super) struct Pipes {
    pub(super) theirs: [OwnedFd; 3],
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Pipes {
    /// New pipes; without `stdin` the process reads from `/dev/null`.
    pub(super) fn new(stdin: bool) -> io::Result<Self> {
        let (input, stdin) = if stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            (reader, Some(writer))
        } else {
            (OwnedFd::from(std::fs::File::open("/dev/null")?), None)
        };
        let (stdout, out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, err) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self {
            theirs: [input, out, err],
            stdin,
            stdout,
            stderr,
        })
    }

    /// The process's ends, as the launcher takes them.
    pub(super) fn stdio(&self) -> Stdio<'_> {
        let [stdin, stdout, stderr] = &self.theirs;
        Stdio::Files {
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        }
    }
}

/// A terminal whose size is the client's to set.
pub(super) const TERMINAL: Stdio<'static> = Stdio::Terminal { size: (0, 0) };

impl Container {
    /// Starts a container. If it cannot be started, that is its end, and kept like any other.
    pub(super) fn start(
        launcher: &Launcher,
        home: &Home,
        spec: &StartSpec,
        pid_target: Option<&OwnedFd>,
        root: Option<&OwnedFd>,
    ) -> Self {
        let mut container = Self {
            id: spec.launch.id.clone(),
            started: None,
            process: None,
            stdout: None,
            stderr: None,
            log: None,
            exit: None,
            acknowledged: false,
            cgroup: home.cgroups.group(&spec.cgroup),
            run_dir: Rc::clone(&home.run_dir),
            shares_pids: spec.launch.pid_namespace != PidNamespace::New,
            stdin_once: spec.stdin_once && !spec.tty,
            stdin_attached: false,
        };
        if let Err(reason) = container.launch(launcher, spec, pid_target, root) {
            let now = Timestamp::now();
            container.conclude(START_ERROR_CODE, now, Some(reason));
        }
        container
    }

    fn launch(
        &mut self,
        launcher: &Launcher,
        spec: &StartSpec,
        pid_target: Option<&OwnedFd>,
        root: Option<&OwnedFd>,
    ) -> Result<(), String> {
        let io_error = |error: io::Error| error.to_string();
        self.log = Some(
            LogFile::open(&spec.log_path)
                .map_err(|error| format!("failed to open log file: {error}"))?,
        );
        let pipes = if spec.tty {
            None
        } else {
            Some(Pipes::new(spec.stdin).map_err(io_error)?)
        };
        let stdio = pipes.as_ref().map_or(TERMINAL, Pipes::stdio);
        let fds = LaunchFds {
            stdio,
            pid_target: pid_target.map(AsFd::as_fd),
            root: root.map(AsFd::as_fd),
        };
        let launched = launcher
            .launch(&spec.launch, fds)
            .map_err(|error| error.to_string())?;
        let at = Timestamp::now();
        let Launched {
            pid,
            pidfd,
            user,
            home,
            terminal,
            devpts,
        } = launched;
        self.started = Some(Started { at, user, home });
        let mut process = Process {
            pid,
            pidfd,
            devpts,
            stdin: None,
            terminal: spec.tty,
        };
        match (pipes, terminal) {
            (Some(pipes), _) => {
                process.stdin = pipes.stdin;
                self.stdout = Output::new(pipes.stdout, Stream::Stdout).ok();
                self.stderr = Output::new(pipes.stderr, Stream::Stderr).ok();
            }
            (None, Some(terminal)) => self.stdout = Output::new(terminal, Stream::Stdout).ok(),
            (None, None) => {}
        }
        self.process = Some(process);
        Ok(())
    }

    /// Its first process, while it runs.
    pub(super) fn process(&self) -> Result<&Process, Refusal> {
        self.process.as_ref().ok_or(Refusal::NotRunning)
    }

    /// The stream, while there may be more of it.
    pub(super) fn output(&mut self, stream: Stream) -> Option<&mut Output> {
        match stream {
            Stream::Stdout => self.stdout.as_mut(),
            Stream::Stderr => self.stderr.as_mut(),
        }
    }

    /// Takes output that is there. At its end the stream is closed.
    pub(super) fn read(&mut self, stream: Stream) {
        self.take_output(stream, Output::read);
    }

    fn take_output(&mut self, stream: Stream, take: fn(&mut Output, &mut LogFile) -> Read) {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(log) = &mut self.log else { return };
        if let Some(mut output) = slot.take() {
            match take(&mut output, log) {
                Read::End => output.finish(log),
                Read::Some | Read::Empty => *slot = Some(output),
            }
        }
    }

    /// Records the end of its first process, once all it wrote is in the log.
    pub(super) fn ended(&mut self, status: WaitStatus, now: Timestamp) -> ExitRecord {
        self.process = None;
        if self.shares_pids {
            // In a PID namespace of its own the kernel has done this.
            self.kill();
        }
        self.take_output(Stream::Stdout, Output::drain);
        self.take_output(Stream::Stderr, Output::drain);
        self.conclude(exit_code(status), now, None)
    }

    fn conclude(
        &mut self,
        code: i32,
        finished_at: Timestamp,
        start_error: Option<String>,
    ) -> ExitRecord {
        let record = ExitRecord {
            container: self.id.clone(),
            code,
            started_at: self.started.as_ref().map(|started| started.at),
            finished_at,
            oom_killed: start_error.is_none()
                && self.cgroup.oom_kills().is_ok_and(|count| count > 0),
            start_error,
        };
        // Kept in memory as well; a full disk costs it only if this process dies too.
        let _ = write_exit_file(&self.run_dir, &record);
        self.exit = Some(record.clone());
        record
    }

    /// Kills every process of it.
    pub(super) fn kill(&self) {
        // The processes may be gone, and with them the directory.
        let _ = self.cgroup.kill();
        if let Some(process) = &self.process {
            let _ =
                rustix::process::pidfd_send_signal(&process.pidfd, rustix::process::Signal::KILL);
        }
    }

    /// Streams for a client, in the order [`crate::wire::Request::Attach`] promises.
    pub(super) fn attach(&mut self, stdin: bool) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        let kernel = |error: io::Error| Refusal::Kernel(format!("failed to attach: {error}"));
        let process = self.process.as_ref().ok_or(Refusal::NotRunning)?;
        let mut fds = Vec::new();
        let terminal = process.terminal && self.stdout.is_some();
        let mut input = false;
        if let (true, Some(output)) = (terminal, &self.stdout) {
            fds.push(output.duplicate().map_err(kernel)?);
        } else if let (true, Some(writer)) = (stdin, &process.stdin) {
            fds.push(fcntl_dupfd_cloexec(writer, 3).map_err(|error| kernel(error.into()))?);
            input = true;
        }
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            fds.push(output.attach().map_err(kernel)?);
        }
        self.stdin_attached |= input;
        Ok((
            Reply::Attached {
                terminal,
                stdin: input,
            },
            fds,
        ))
    }

    /// A client that had its input is gone: the input ends if it was for one client only.
    pub(super) fn stdin_ended(&mut self) {
        if let (true, true, Some(process)) =
            (self.stdin_attached, self.stdin_once, &mut self.process)
        {
            process.stdin = None;
        }
        self.stdin_attached = false;
    }

    /// The size of its log, when that is worth telling.
    pub(super) fn log_grown(&mut self) -> Option<u64> {
        self.log.as_mut().and_then(LogFile::grown)
    }

    /// Goes on in a new log file.
    pub(super) fn reopen_log(&mut self) -> Result<(), Refusal> {
        let log = self.log.as_mut().ok_or(Refusal::NotRunning)?;
        log.reopen()
            .map_err(|error| Refusal::Kernel(format!("failed to reopen log file: {error}")))
    }

    /// The engine has its end.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = self.exit.is_some();
    }

    /// Nothing is left to do for it.
    pub(super) fn is_done(&self) -> bool {
        self.acknowledged && self.stdout.is_none() && self.stderr.is_none()
    }

    /// Its end, when it has ended.
    pub(super) fn exit(&self) -> Option<&ExitRecord> {
        self.exit.as_ref()
    }

    /// Its start, when it was started.
    pub(super) fn started(&self) -> Option<&Started> {
        self.started.as_ref()
    }

    /// What a newly connected engine is told; nothing, once the engine before it has recorded its end.
    pub(super) fn report(&self) -> Option<ContainerReport> {
        (!self.acknowledged).then(|| ContainerReport {
            container: self.id.clone(),
            started: self.started.clone(),
            exit: self.exit.clone(),
            log_bytes: self.log.as_ref().map_or(0, LogFile::size_bytes),
        })
    }
}

/// Exit code as shells and Kubernetes count.
pub(super) fn exit_code(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(255)
}

fn write_exit_file(run_dir: &OwnedFd, record: &ExitRecord) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, openat, renameat};
    let name = exit_file_name(&record.container);
    let temporary = format!("{name}.tmp");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = openat(run_dir, &temporary, flags, Mode::from_raw_mode(0o600))?;
    std::fs::File::from(file).write_all(&serde_json::to_vec(record)?)?;
    Ok(renameat(run_dir, &temporary, run_dir, &name)?)
}
