//! A netlink socket: one datagram out, acknowledgements in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::message::{Message, Received, received};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A request the kernel did not carry out.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Refused {
    /// What the request was for.
    pub(crate) what: String,
    /// The kernel's errno.
    #[source]
    pub(crate) source: io::Error,
}

impl Refused {
    pub(crate) fn is(&self, errno: rustix::io::Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }
}

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// Links, addresses, routes (`NETLINK_ROUTE`).
    Route,
    /// Firewall (`NETLINK_NETFILTER`).
    Netfilter,
}

/// A socket bound to the network namespace it was opened in, whichever thread uses it later.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(part: Part) -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, which is rustix's None.
        let protocol = match part {
            Part::Route => None,
            Part::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Makes room for messages that are sent together: at most so many bytes.
    pub(crate) fn make_room(&self, bytes: usize) -> io::Result<()> {
        rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, bytes)?;
        Ok(())
    }

    /// Opens a socket in another network namespace. A thread goes there and ends there: the process's other threads never leave
    /// their own.
    pub(crate) fn open_in(netns: BorrowedFd<'_>, part: Part) -> io::Result<Self> {
        let opened = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    rustix::thread::move_into_link_name_space(
                        netns,
                        Some(rustix::thread::LinkNameSpaceType::Network),
                    )?;
                    Socket::open(part)
                })
                .join()
        });
        opened.unwrap_or_else(|_| {
            Err(io::Error::other(
                "the thread that entered the namespace panicked",
            ))
        })
    }

    /// Sends all messages at once and waits until each is acknowledged. The first refusal is returned; the kernel still carries
    /// out the rest (nf_tables batches excepted, which are all or nothing).
    pub(crate) fn transact(&mut self, messages: &[Message]) -> Result<(), Refused> {
        let first = self
            .send(messages)
            .map_err(|source| failed(messages, source))?;
        let mut awaited = messages.iter().filter(|m| m.is_acknowledged()).count();
        let mut refused = None;
        let mut buffer = vec![0; 16 * 1024];
        while awaited > 0 {
            let length = self
                .receive(&mut buffer)
                .map_err(|source| failed(messages, source))?;
            for reply in received(&buffer[..length]).filter(|r| r.kind == NLMSG_ERROR) {
                let index = reply.sequence.wrapping_sub(first) as usize;
                let Some(message) = messages.get(index) else {
                    continue;
                };
                if message.is_acknowledged() {
                    awaited -= 1;
                }
                if let Some(source) = errno(&reply) {
                    let whole_batch = !message.is_acknowledged();
                    refused.get_or_insert(Refused {
                        what: message.what().to_owned(),
                        source,
                    });
                    if whole_batch {
                        awaited = 0;
                    }
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends a dump request and hands each answer's body to `each`.
    pub(crate) fn dump(
        &mut self,
        message: &Message,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Refused> {
        let one = std::slice::from_ref(message);
        self.send(one).map_err(|source| failed(one, source))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = self
                .receive(&mut buffer)
                .map_err(|source| failed(one, source))?;
            for reply in received(&buffer[..length]) {
                match reply.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return errno(&reply).map_or(Ok(()), |source| Err(failed(one, source)));
                    }
                    _ => each(reply.body),
                }
            }
        }
    }

    /// Sends one request whose answer is a single message, and reads that with `parse`.
    pub(crate) fn get<T>(
        &mut self,
        message: &Message,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Refused> {
        let one = std::slice::from_ref(message);
        self.send(one).map_err(|source| failed(one, source))?;
        let mut buffer = vec![0; 16 * 1024];
        let length = self
            .receive(&mut buffer)
            .map_err(|source| failed(one, source))?;
        let Some(reply) = received(&buffer[..length]).next() else {
            return Ok(None);
        };
        match (reply.kind == NLMSG_ERROR).then(|| errno(&reply)).flatten() {
            Some(source) => Err(failed(one, source)),
            None => Ok(parse(reply.body)),
        }
    }

    fn send(&mut self, messages: &[Message]) -> io::Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(1024);
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            datagram.extend(message.encode(self.sequence));
        }
        rustix::net::send(self.fd.as_fd(), &datagram, SendFlags::empty())?;
        Ok(first)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(self.fd.as_fd(), &mut *buffer, RecvFlags::empty())
        })?;
        Ok(length)
    }
}

fn failed(messages: &[Message], source: io::Error) -> Refused {
    Refused {
        what: messages
            .first()
            .map(|m| m.what().to_owned())
            .unwrap_or_default(),
        source,
    }
}

fn errno(reply: &Received<'_>) -> Option<io::Error> {
    let code = i32::from_ne_bytes(reply.body.get(0..4)?.try_into().ok()?);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}
