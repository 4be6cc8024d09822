//! What the kernel tells without being asked.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use super::message::{Received, received};

/// The group of those who hear of nf_tables (`NFNLGRP_NFTABLES`), as a bit.
const FIREWALL: u32 = 1 << 6;

/// Notices of changes in the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Notices(AsyncFd<OwnedFd>);

impl Notices {
    /// Of what happens to firewalls from now on.
    pub(crate) fn of_firewall() -> io::Result<Notices> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(rustix::net::netlink::NETFILTER),
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, FIREWALL))?;
        #[expect(
            deprecated,
            reason = "the descriptor is owned, so it stays what it is; the successor needs unsafe"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Notices(fd))
    }

    /// Returns when there was a message that is `wanted`, or when more happened than there was room for.
    pub(crate) async fn next(&mut self, wanted: impl Fn(&Received<'_>) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let mut ready = self.0.readable().await?;
            let mut heard = false;
            loop {
                match rustix::net::recv(ready.get_inner(), &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => {
                        heard |= received(&buffer[..length]).any(|notice| wanted(&notice));
                    }
                    Err(Errno::NOBUFS) => heard = true,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if heard {
                return Ok(());
            }
        }
    }
}
