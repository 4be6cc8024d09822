//! Network, UTS and IPC namespaces: making them, and going there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// A Pod's namespaces that can be made before it is known which Pod it is.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// With the loopback interface up.
    pub(crate) network: OwnedFd,
    pub(crate) uts: OwnedFd,
    pub(crate) ipc: OwnedFd,
}

impl Namespaces {
    /// Makes new ones. A thread goes there and ends there: the process's other threads never leave their own.
    pub(crate) fn new() -> io::Result<Self> {
        let made = std::thread::spawn(|| {
            let all = UnshareFlags::NEWNET | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
            // SAFETY: CLONE_FILES is not among the flags.
            unsafe { rustix::thread::unshare_unsafe(all)? };
            ready_network()?;
            let own = |name| File::open(format!("/proc/thread-self/ns/{name}")).map(OwnedFd::from);
            Ok(Self {
                network: own("net")?,
                uts: own("uts")?,
                ipc: own("ipc")?,
            })
        });
        made.join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that made namespaces panicked")))
    }

    /// As descriptors for another process, which gets them back by [`Namespaces::from_fds`].
    pub(crate) fn into_fds(self) -> [OwnedFd; 3] {
        [self.network, self.uts, self.ipc]
    }

    /// What [`Namespaces::into_fds`] gave away; `None` if that is something else.
    pub(crate) fn from_fds(fds: Vec<OwnedFd>) -> Option<Self> {
        let [network, uts, ipc] = <[OwnedFd; 3]>::try_from(fds).ok()?;
        Some(Self { network, uts, ipc })
    }

    /// Moves the calling thread there.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let each = [
            (&self.network, LinkNameSpaceType::Network),
            (&self.uts, LinkNameSpaceType::HostNameAndNISDomainName),
            (&self.ipc, LinkNameSpaceType::InterProcessCommunication),
        ];
        for (namespace, kind) in each {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
        }
        Ok(())
    }
}

/// Makes this thread's new network namespace ready for use: the loopback interface is up, and other interfaces will have their IPv6
/// addresses at once. Nobody else can have them, as the network gives out each interface's hardware address.
pub(crate) fn ready_network() -> io::Result<()> {
    // Not there without IPv6.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    raise_loopback()
}

fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
