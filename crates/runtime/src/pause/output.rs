//! One output stream of a container: read once, written to the log and to whoever is attached.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use jiff::Timestamp;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::log::{LineCutter, LogFile};
use crate::wire::Stream;

/// Bytes taken from a stream at a time.
const READ_BYTES: usize = 16 << 10;
/// What an attached client may lag behind, in bytes. More than an unprivileged pipe's default, no more than any kernel allows.
const ATTACH_BYTES: usize = 1 << 20;

/// Where a container's output comes from: a pipe's reading end, or a terminal's controlling side. Non-blocking.
pub(super) struct Output {
    fd: OwnedFd,
    /// The epoll set it is in.
    watched_by: Option<Rc<OwnedFd>>,
    cutter: LineCutter,
    /// Writing ends of attached clients' pipes.
    attached: Vec<OwnedFd>,
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There may be more.
    Some,
    /// Nothing now.
    Empty,
    /// Nobody can write to it any more.
    End,
}

impl Output {
    pub(super) fn new(fd: OwnedFd, stream: Stream) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            fd,
            watched_by: None,
            cutter: LineCutter::new(stream),
            attached: Vec::new(),
        })
    }

    /// Puts it into an epoll set, until it is dropped.
    pub(super) fn watch(&mut self, epoll: &Rc<OwnedFd>, token: u64) -> io::Result<()> {
        epoll::add(
            &**epoll,
            &self.fd,
            EventData::new_u64(token),
            EventFlags::IN,
        )?;
        self.watched_by = Some(Rc::clone(epoll));
        Ok(())
    }

    /// Another descriptor of the same file.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)?)
    }

    /// Reads once, and hands on what was read.
    pub(super) fn read(&mut self, log: &mut LogFile) -> Read {
        let mut buffer = [0u8; READ_BYTES];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) | Err(Errno::IO) => Read::End,
            Ok(count) => {
                self.cutter.push(&buffer[..count], Timestamp::now(), log);
                self.tee(&buffer[..count]);
                Read::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Read::Empty,
            Err(_) => Read::End,
        }
    }

    /// Reads all that is there.
    pub(super) fn drain(&mut self, log: &mut LogFile) -> Read {
        loop {
            match self.read(log) {
                Read::Some => {}
                done => return done,
            }
        }
    }

    /// Ends the log's last line; attached clients see their end when this is dropped.
    pub(super) fn finish(mut self, log: &mut LogFile) {
        self.cutter.finish(Timestamp::now(), log);
    }

    /// A client's reading end of all output from now on.
    pub(super) fn attach(&mut self) -> io::Result<OwnedFd> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        // Past the user's share of pipe pages the kernel refuses; the default size serves too.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, ATTACH_BYTES);
        self.attached.push(writer);
        Ok(reader)
    }

    /// Gives attached clients the bytes. Those that lag further than their pipe holds miss some; the log has them all.
    fn tee(&mut self, data: &[u8]) {
        self.attached.retain(|client| {
            let mut rest = data;
            while !rest.is_empty() {
                match rustix::io::write(client.as_fd(), rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => return false,
                }
            }
            true
        });
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Clients may hold the same terminal, so closing it would leave it in the set.
        if let Some(epoll) = &self.watched_by {
            let _ = epoll::delete(&**epoll, &self.fd);
        }
    }
}
