//! Pods on other networks than the bridge's, which plugins made: they reach Services and the node's address as others do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use ports::network::NetworkError;
use rustix::io::Errno;

use crate::netlink::{Message, Part, Socket};
use crate::nft::Table;
use crate::{Network, kernel, lock, nft, setup};

/// Addresses of such Pods. Held while a table is made anew, so that no address is missed.
#[derive(Debug, Default)]
pub(crate) struct Guests(Mutex<BTreeSet<IpAddr>>);

impl Guests {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        lock(&self.0)
    }
}

impl Network {
    /// Lets a Pod on another network reach what those on the bridge reach, at an address of a family they have. Blocks for a moment.
    pub(crate) fn let_in(&self, ip: IpAddr) -> Result<(), NetworkError> {
        let mut guests = self.inner.guests.lock();
        guests.insert(ip);
        self.tell(ip, |table| nft::guests::add(table, ip))
    }

    /// The same no more.
    pub(crate) fn shut_out(&self, ip: IpAddr) -> Result<(), NetworkError> {
        let mut guests = self.inner.guests.lock();
        guests.remove(&ip);
        self.tell(ip, |table| nft::guests::delete(table, ip))
    }

    /// Changes both tables that know guests. That of Services may not be there yet, or be an earlier engine's.
    fn tell(
        &self,
        ip: IpAddr,
        change: impl Fn(Table<'_>) -> Vec<Message>,
    ) -> Result<(), NetworkError> {
        let family = nat::Family::of(ip);
        if !self.families().any(|of| of == family) {
            return Ok(());
        }
        let bridge = &self.inner.bridge;
        let mut socket = Socket::open(Part::Netfilter)
            .map_err(|error| kernel("open a netfilter socket", error))?;
        for name in [bridge.clone(), setup::services_table(bridge)] {
            let table = Table {
                family,
                name: &name,
            };
            match socket.transact(&change(table)) {
                Err(refused) if !refused.is(Errno::NOENT) => return Err(refused.into()),
                _ => {}
            }
        }
        Ok(())
    }
}
