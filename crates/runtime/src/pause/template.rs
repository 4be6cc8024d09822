//! The process that all pauses are copies of.
//!
//! Executing a program of this size and starting its libraries takes one or two milliseconds of a processor, copying a process that has
//! done so a fraction of that. The engine executes the template once and asks it for each pause ([`Birth`]). It does nothing else, keeps
//! nothing of those it bore, and ends with the engine; they do not.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use super::connection::Connection;
use crate::launch::{Side, fork_in};
use crate::wire::{Birth, Incoming, Message, Refusal};

/// What a copy begins with.
pub(super) struct Newborn {
    /// Its sandbox's run directory.
    pub(super) run_dir: PathBuf,
    /// To the engine.
    pub(super) connection: Connection,
}

/// Bears pauses for whoever is at the other end of standard input. Returns in each of them, and with `None` in the template itself when the
/// engine is gone. `argument` is the last word of the command line, whose place the newborn's run directory takes.
pub(super) fn serve(argument: &OsStr) -> io::Result<Option<Newborn>> {
    // Out of reach of the terminal the engine may run on. Fails only if it leads a session already.
    let _ = rustix::process::setsid();
    let engine = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let title = Title::of(argument);
    // Nobody asks how they ended, so the kernel need not remember.
    set_child_signal(libc::SIG_IGN);
    let mut incoming = Incoming::default();
    loop {
        while let Some((birth, fds)) = incoming.pop::<Birth>().map_err(io::Error::other)? {
            let Some(connection) = fds.into_iter().next() else {
                continue;
            };
            if let Some(connection) = bear(&birth, connection)? {
                set_child_signal(libc::SIG_DFL);
                title.set(&birth.run_dir);
                return Ok(Some(Newborn {
                    run_dir: birth.run_dir,
                    connection,
                }));
            }
        }
        match poll(&mut [PollFd::new(&engine, PollFlags::IN)], None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if incoming.receive(engine.as_fd())? == 0 {
            return Ok(None);
        }
    }
}

/// `None` in the template; the engine is told if there is no newborn.
fn bear(birth: &Birth, connection: OwnedFd) -> io::Result<Option<Connection>> {
    let mut connection = Connection::new(connection.into())?;
    // SAFETY: this process has one thread.
    match unsafe { fork_in(&birth.cgroup) } {
        Ok(Side::Parent) => Ok(None),
        Ok(Side::Newborn(Ok(()))) => Ok(Some(connection)),
        Ok(Side::Newborn(Err(error))) => {
            refuse(&mut connection, error.to_string());
            Err(io::Error::other(error))
        }
        Err(error) => {
            refuse(&mut connection, error.to_string());
            Ok(None)
        }
    }
}

/// Says why there is no pause, in answer to the first call, whichever that is. Who asked may be gone already.
pub(super) fn refuse(engine: &mut Connection, reason: String) {
    let _ = engine.tell(
        &Message::Reply {
            number: 0,
            outcome: Err(Refusal::Setup(reason)),
        },
        Vec::new(),
    );
}

fn set_child_signal(action: libc::sighandler_t) {
    // SAFETY: no handler of ours is among the two actions there are.
    unsafe { libc::signal(libc::SIGCHLD, action) };
}

/// The last word of the command line where others read it (`proc(5)`, `cmdline`): the memory the program was started with.
struct Title {
    /// Address and length in bytes; none if it is not where it should be.
    place: Option<(*mut u8, usize)>,
}

impl Title {
    fn of(argument: &OsStr) -> Self {
        let length = argument.len();
        let place = end_of_arguments()
            .and_then(|end| end.checked_sub(length + 1))
            .map(|start| (start as *mut u8, length))
            // SAFETY: the kernel says that the words of the command line end there, and this is the last one.
            .filter(|(start, length)| unsafe {
                std::slice::from_raw_parts(*start, *length) == argument.as_bytes()
            });
        Self { place }
    }

    /// Puts a path there, as much of it as there is room for.
    fn set(&self, path: &Path) {
        let Some((start, length)) = self.place else {
            return;
        };
        // SAFETY: it is writable memory of the stack's, and nobody else has a reference to it: the words were copied at the start.
        let room = unsafe { std::slice::from_raw_parts_mut(start, length) };
        let path = path.as_os_str().as_bytes();
        let fits = path.len().min(length);
        room[..fits].copy_from_slice(&path[..fits]);
        room[fits..].fill(0);
    }
}

/// Address behind the command line's last byte (`proc(5)`, `stat`, field 49).
fn end_of_arguments() -> Option<usize> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split_ascii_whitespace().nth(46)?.parse().ok()
}
