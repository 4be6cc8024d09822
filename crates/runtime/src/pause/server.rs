//! The event loop: the engine's calls, containers' output, children's ends.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use jiff::Timestamp;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::WaitOptions;

use super::connection::{Connection, Heard};
use super::container::{Container, Home, Pipes, TERMINAL, exit_code};
use super::setup::Sandbox;
use super::users::{Init, Users};
use crate::cgroup::Tree;
use crate::launch::{ExecFds, ExecSpec, Launcher, PidNamespace};
use crate::wire::{Call, Event, Message, Refusal, Reply, Request, StartSpec, Stream, VERSION};

const SIGNALS: u64 = 0;
const LISTENER: u64 = 1;
const FIRST_FREE: u64 = 2;
/// Events taken from the kernel at a time.
const EVENTS: usize = 16;

/// What a token of the epoll set stands for, beyond the fixed ones.
enum Source {
    Connection,
    Output { container: String, stream: Stream },
}

pub(super) struct Server {
    listener: UnixListener,
    signals: OwnedFd,
    netns: Option<OwnedFd>,
    launcher: Launcher,
    home: Home,
    epoll: Rc<OwnedFd>,
    sources: BTreeMap<u64, Source>,
    next_token: u64,
    /// The engine, and its token.
    connection: Option<(u64, Connection)>,
    containers: BTreeMap<String, Container>,
    /// Processes besides the containers' first, by PID: the engine's names for them.
    execs: BTreeMap<i32, String>,
    /// PID 1 of the Pod's shared PIDs, when that is not this process.
    init: Option<Init>,
    /// Ends to be told after the answer that is being made.
    held: Vec<Message>,
    stopping: bool,
}

type Answer = Result<(Reply, Vec<OwnedFd>), Refusal>;

impl Server {
    pub(super) fn new(sandbox: Sandbox) -> io::Result<Self> {
        let Sandbox {
            listener,
            signals,
            netns,
            scratch,
            users,
            cgroups,
        } = sandbox;
        let (namespace, init) = match users {
            Some(Users { namespace, init }) => (Some(namespace), init),
            None => (None, None),
        };
        let launcher = Launcher::new(scratch).map_err(io::Error::other)?;
        let epoll = Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let home = Home {
            run_dir: Rc::new(std::fs::File::open(".")?.into()),
            cgroups: Tree::new(cgroups, ""),
        };
        epoll::add(
            &*epoll,
            &signals,
            EventData::new_u64(SIGNALS),
            EventFlags::IN,
        )?;
        epoll::add(
            &*epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        Ok(Self {
            listener,
            signals,
            netns,
            launcher: launcher.with_users(namespace),
            home,
            epoll,
            sources: BTreeMap::new(),
            next_token: FIRST_FREE,
            connection: None,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            init,
            held: Vec::new(),
            stopping: false,
        })
    }

    /// Serves until told to shut down and the last child is reaped.
    pub(super) fn run(&mut self) {
        let mut events: [epoll::Event; EVENTS] = std::array::from_fn(|_| epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        });
        loop {
            let count = match epoll::wait(&*self.epoll, &mut events, None) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                // Only a broken descriptor table brings this, and then nothing can be served.
                Err(_) => return,
            };
            for event in &events[..count] {
                match event.data.u64() {
                    SIGNALS => {
                        if self.reap(None) {
                            return;
                        }
                    }
                    LISTENER => self.accept(),
                    token => self.serve(token, event.flags),
                }
            }
        }
    }

    fn serve(&mut self, token: u64, flags: EventFlags) {
        match self.sources.get(&token) {
            Some(Source::Connection) => {
                if flags.contains(EventFlags::OUT) {
                    self.flush();
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.hear();
                }
            }
            Some(Source::Output { container, stream }) => {
                let (container, stream) = (container.clone(), *stream);
                if let Some(container) = self.containers.get_mut(&container) {
                    container.read(stream);
                }
                self.tell_growth(&container);
                self.tidy(&container);
            }
            // Removed while handling an earlier event of the same batch.
            None => {}
        }
    }

    // ---- the engine ----

    fn accept(&mut self) {
        if let Ok((socket, _)) = self.listener.accept()
            && let Ok(connection) = Connection::new(socket)
        {
            self.take(connection);
        }
    }

    /// Takes the newest engine; the one before it is gone or about to be.
    pub(super) fn take(&mut self, connection: Connection) {
        self.hang_up();
        let token = self.next_token;
        self.next_token += 1;
        if epoll::add(
            &*self.epoll,
            &connection.socket,
            EventData::new_u64(token),
            EventFlags::IN,
        )
        .is_ok()
        {
            self.sources.insert(token, Source::Connection);
            self.connection = Some((token, connection));
            // Its first call may have been read already.
            self.hear();
        }
    }

    /// Lets the engine go. Clients attached through it are gone with it.
    fn hang_up(&mut self) {
        if let Some((token, connection)) = self.connection.take() {
            let _ = epoll::delete(&*self.epoll, &connection.socket);
            self.sources.remove(&token);
            self.containers
                .values_mut()
                .for_each(Container::stdin_ended);
        }
    }

    fn hear(&mut self) {
        let Some((token, connection)) = &mut self.connection else {
            return;
        };
        let token = *token;
        match connection.hear() {
            Heard::End => self.hang_up(),
            Heard::Calls(calls) => {
                for (call, fds) in calls {
                    // A reply that cannot be sent ends the connection; calls of a gone engine are void.
                    if self
                        .connection
                        .as_ref()
                        .is_some_and(|(current, _)| *current == token)
                    {
                        self.answer(call, fds);
                    }
                }
            }
        }
    }

    fn flush(&mut self) {
        let gone = self
            .connection
            .as_mut()
            .is_some_and(|(_, connection)| connection.flush().is_err());
        self.after_sending(gone);
    }

    fn tell(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        let gone = self
            .connection
            .as_mut()
            .is_some_and(|(_, connection)| connection.tell(message, fds).is_err());
        self.after_sending(gone);
    }

    /// Tells the engine, if there is one, of a log that has become large.
    fn tell_growth(&mut self, container: &str) {
        let grown = self.connection.as_ref().and_then(|_| {
            let container = self.containers.get_mut(container)?;
            container.log_grown()
        });
        if let Some(bytes) = grown {
            let container = container.to_owned();
            let event = Event::LogGrown { container, bytes };
            self.tell(&Message::Event(event), Vec::new());
        }
    }

    fn after_sending(&mut self, gone: bool) {
        if gone {
            return self.hang_up();
        }
        if let Some((token, connection)) = &self.connection {
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, connection.is_congested());
            let _ = epoll::modify(
                &*self.epoll,
                &connection.socket,
                EventData::new_u64(*token),
                flags,
            );
        }
    }

    fn answer(&mut self, call: Call, fds: Vec<OwnedFd>) {
        let number = call.number;
        // The first container is about to be started when the engine says hello, unless it is another engine.
        let prepare = match &call.request {
            Request::Hello { .. } => self.containers.is_empty(),
            request => matches!(request, Request::Prepare),
        };
        let (outcome, fds) = match self.perform(call.request, fds) {
            Ok((reply, fds)) => (Ok(reply), fds),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        self.tell(&Message::Reply { number, outcome }, fds);
        for end in std::mem::take(&mut self.held) {
            self.tell(&end, Vec::new());
        }
        if prepare {
            // The start tells of what it lacks.
            let _ = self.launcher.prepare();
        }
    }

    fn perform(&mut self, request: Request, fds: Vec<OwnedFd>) -> Answer {
        let done = Ok((Reply::Done, Vec::new()));
        match request {
            Request::Hello { version } => self.hello(version),
            Request::Prepare => done,
            Request::Start(spec) => {
                let answer = self.start(&spec, fds.first());
                // Others may have ended while it was launched: that is told first, as it happened first. Once it is told to stop, only
                // the loop may take the last end, by which it knows that it is over.
                if !self.stopping {
                    self.reap(Some(&spec.launch.id));
                }
                answer
            }
            Request::Signal { container, signal } => self.signal(&container, signal),
            Request::Kill { container } => {
                self.container(&container)?.kill();
                done
            }
            Request::Exec {
                container,
                exec,
                spec,
                tty,
                stdin,
            } => self.exec(&container, exec, &spec, tty, stdin),
            Request::EndExec { exec } => {
                self.end_exec(&exec);
                done
            }
            Request::Attach { container, stdin } => self.container(&container)?.attach(stdin),
            Request::StdinEnded { container } => {
                self.container(&container)?.stdin_ended();
                done
            }
            Request::ReopenLog { container } => {
                self.container(&container)?.reopen_log()?;
                done
            }
            Request::Acknowledge { container } => {
                self.container(&container)?.acknowledge();
                self.tidy(&container);
                done
            }
            Request::Shutdown => {
                self.end_all();
                // Nothing may be left to reap; then no signal comes.
                if self.reap(None) {
                    std::process::exit(0);
                }
                done
            }
        }
    }

    /// Ends everything; the loop ends with the last of it.
    fn end_all(&mut self) {
        self.stopping = true;
        self.init = None;
        self.containers.values().for_each(Container::kill);
    }

    // ---- what is asked ----

    fn container(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        self.containers.get_mut(id).ok_or(Refusal::NotRunning)
    }

    fn hello(&self, version: u32) -> Answer {
        if version != VERSION {
            return Err(Refusal::Version { version: VERSION });
        }
        let containers = self
            .containers
            .values()
            .filter_map(Container::report)
            .collect();
        let netns = self
            .netns
            .as_ref()
            .map(|netns| rustix::io::fcntl_dupfd_cloexec(netns, 3))
            .transpose();
        let netns = netns.map_err(|error| Refusal::Kernel(error.to_string()))?;
        Ok((
            Reply::State {
                version: VERSION,
                containers,
            },
            netns.into_iter().collect(),
        ))
    }

    fn start(&mut self, spec: &StartSpec, root: Option<&OwnedFd>) -> Answer {
        let id = &spec.launch.id;
        if self.containers.contains_key(id) || self.stopping {
            return Err(Refusal::AlreadyStarted);
        }
        let target = match &spec.launch.pid_namespace {
            PidNamespace::Target(target) => self
                .containers
                .get(target)
                .and_then(|target| target.process().ok())
                .map(|process| &process.pidfd),
            PidNamespace::New | PidNamespace::Pause => None,
        };
        let container = Container::start(&self.launcher, &self.home, spec, target, root);
        let outcome = match (container.started(), container.exit()) {
            (Some(started), _) => Ok((Reply::Started(started.clone()), Vec::new())),
            (None, exit) => Err(Refusal::Launch(
                exit.and_then(|exit| exit.start_error.clone())
                    .unwrap_or_default(),
            )),
        };
        self.containers.insert(id.clone(), container);
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.watch_output(id, stream);
        }
        outcome
    }

    fn watch_output(&mut self, id: &str, stream: Stream) {
        let Some(output) = self
            .containers
            .get_mut(id)
            .and_then(|container| container.output(stream))
        else {
            return;
        };
        let token = self.next_token;
        self.next_token += 1;
        if output.watch(&self.epoll, token).is_ok() {
            self.sources.insert(
                token,
                Source::Output {
                    container: id.to_string(),
                    stream,
                },
            );
        }
    }

    fn signal(&mut self, container: &str, signal: i32) -> Answer {
        let pid = self.container(container)?.process()?.pid;
        // SAFETY: no memory is involved; the process is our child and not reaped, so the PID is its own.
        if unsafe { libc::kill(pid, signal) } < 0 {
            return Err(Refusal::Kernel(format!(
                "failed to signal container: {}",
                io::Error::last_os_error()
            )));
        }
        Ok((Reply::Done, Vec::new()))
    }

    fn exec(
        &mut self,
        container: &str,
        exec: String,
        spec: &ExecSpec,
        tty: bool,
        stdin: bool,
    ) -> Answer {
        let process = self
            .containers
            .get(container)
            .ok_or(Refusal::NotRunning)?
            .process()?;
        let kernel = |error: io::Error| Refusal::Kernel(format!("failed to exec: {error}"));
        let pipes = if tty {
            None
        } else {
            Some(Pipes::new(stdin).map_err(kernel)?)
        };
        let stdio = pipes.as_ref().map_or(TERMINAL, Pipes::stdio);
        let fds = ExecFds {
            stdio,
            target: process.pidfd.as_fd(),
            devpts: process.devpts.as_ref().map(AsFd::as_fd),
        };
        let launched = self
            .launcher
            .exec(spec, fds)
            .map_err(|error| Refusal::Launch(error.to_string()))?;
        self.execs.insert(launched.pid, exec);
        let streams = match pipes {
            Some(pipes) => pipes
                .stdin
                .into_iter()
                .chain([pipes.stdout, pipes.stderr])
                .collect(),
            None => launched.terminal.into_iter().collect(),
        };
        Ok((Reply::Executing, streams))
    }

    fn end_exec(&self, exec: &str) {
        let found = self.execs.iter().find(|(_, name)| *name == exec);
        let pid = found.and_then(|(pid, _)| rustix::process::Pid::from_raw(*pid));
        if let Some(pid) = pid {
            // Not reaped yet, so the number is still its own; and it leads its group from its start.
            let kill = rustix::process::Signal::KILL;
            let _ = rustix::process::kill_process_group(pid, kill);
        }
    }

    // ---- children ----

    /// Reaps every child that has ended. `true` when it is time to exit. The end of container `newest` is told only after the answer
    /// to its start.
    fn reap(&mut self, newest: Option<&str>) -> bool {
        let mut discarded = [0u8; 128 * 4];
        while rustix::io::read(&self.signals, &mut discarded).is_ok() {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if status.exited() || status.signaled() => {
                    self.ended(pid.as_raw_nonzero().get(), status, newest);
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return false,
                Err(_) => return self.stopping,
            }
        }
    }

    fn ended(&mut self, pid: i32, status: rustix::process::WaitStatus, newest: Option<&str>) {
        if self.init.as_ref().is_some_and(|init| init.pid == pid) {
            // With its PID 1 every process of the namespace has ended, and none can be born in it.
            return self.end_all();
        }
        if let Some(exec) = self.execs.remove(&pid) {
            return self.tell(
                &Message::Event(Event::ExecExited {
                    exec,
                    code: exit_code(status),
                }),
                Vec::new(),
            );
        }
        let is_first = |container: &&mut Container| {
            container.process().is_ok_and(|process| process.pid == pid)
        };
        // Others are orphans that this process, as their reaper, only had to collect.
        if let Some(container) = self.containers.values_mut().find(is_first) {
            let record = container.ended(status, Timestamp::now());
            let id = record.container.clone();
            let end = Message::Event(Event::Exited(record));
            if newest == Some(id.as_str()) {
                self.held.push(end);
            } else {
                self.tell(&end, Vec::new());
            }
            self.tidy(&id);
        }
    }

    /// Drops what a container no longer needs.
    fn tidy(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        self.sources.retain(|_, source| match source {
            Source::Output {
                container: of,
                stream,
            } => of != id || container.output(*stream).is_some(),
            Source::Connection => true,
        });
        if container.is_done() {
            self.containers.remove(id);
        }
    }
}
