//! Firewalls of others, which Pods' traffic meets as well: ways through those that drop what they do not know.
//!
//! A machine with Docker drops by policy what is passed on between networks that Docker did not make, one with a firewall for desktops
//! whatever comes in unasked. There the Pods of this machine would reach nobody, and not even the name server.

use std::io;
use std::sync::{Arc, Mutex};

use nat::Family;
use ports::network::NetworkError;
use rustix::io::Errno;

use crate::netlink::{Notices, Part, Received, Refused, Socket};
use crate::nft::barrier::{self, Barrier};
use crate::{Inner, Network, blocking, kernel, lock, setup};

/// Opens ways for the Pods of a bridge through every chain that would drop their packets; those that are open stay.
pub(crate) fn open(
    netfilter: &mut Socket,
    bridge: &str,
    families: &[Family],
) -> Result<(), NetworkError> {
    let barriers = barriers(netfilter, families)?;
    for barrier in barriers.iter().filter(|barrier| barrier.is_closed) {
        let own = own(netfilter, barrier, bridge)?;
        if own.len() == barrier.ways() {
            continue;
        }
        tolerate(netfilter.transact(&barrier.open(bridge, &own)))?;
        tracing::info!(?barrier, "Pods may pass");
    }
    Ok(())
}

/// Closes them.
pub(crate) fn close(netfilter: &mut Socket, bridge: &str) -> Result<(), NetworkError> {
    for barrier in barriers(netfilter, &Family::ALL)? {
        let own = own(netfilter, &barrier, bridge)?;
        if !own.is_empty() {
            tolerate(netfilter.transact(&barrier.close(&own)))?;
        }
    }
    Ok(())
}

fn barriers(netfilter: &mut Socket, families: &[Family]) -> Result<Vec<Barrier>, NetworkError> {
    let mut barriers = Vec::new();
    netfilter.dump(&barrier::chains(), |body| {
        barriers.extend(Barrier::parse(body, families));
    })?;
    Ok(barriers)
}

/// The handles of a bridge's rules in a chain.
fn own(netfilter: &mut Socket, barrier: &Barrier, bridge: &str) -> Result<Vec<u64>, NetworkError> {
    let mut own = Vec::new();
    tolerate(netfilter.dump(&barrier.rules(), |body| {
        own.extend(barrier::own(body, bridge))
    }))?;
    Ok(own)
}

/// Its owner may take a chain away meanwhile, and tells of one that comes back.
fn tolerate(done: Result<(), Refused>) -> Result<(), NetworkError> {
    match done {
        Err(refused) if !refused.is(Errno::NOENT) => Err(refused.into()),
        _ => Ok(()),
    }
}

/// Follows what others do to their firewalls.
#[derive(Debug)]
pub struct Firewalls {
    notices: Notices,
    network: Arc<Inner>,
    netfilter: Arc<Mutex<Socket>>,
}

impl Network {
    /// Begins to follow the firewalls of others. To be called within an async runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn firewalls(&self) -> Result<Firewalls, NetworkError> {
        let follow = || -> io::Result<(Notices, Socket)> {
            Ok((Notices::of_firewall()?, Socket::open(Part::Netfilter)?))
        };
        let (notices, netfilter) =
            follow().map_err(|error| kernel("follow the machine's firewall", error))?;
        Ok(Firewalls {
            notices,
            network: self.inner.clone(),
            netfilter: Arc::new(Mutex::new(netfilter)),
        })
    }
}

impl Firewalls {
    /// Keeps the ways of Pods open as chains come and lose rules. Never returns unless the kernel tells nothing more.
    pub async fn run(mut self) {
        let own = setup::tables(&self.network.bridge);
        loop {
            let (network, netfilter) = (self.network.clone(), self.netfilter.clone());
            let opened = blocking(move || {
                let families: Vec<Family> = network.ranges.families().collect();
                open(&mut lock(&netfilter), &network.bridge, &families)
            });
            if let Err(error) = opened.await {
                tracing::warn!(%error, "Pods may not get through the machine's firewall");
            }
            let concerns = |notice: &Received<'_>| barrier::concerns(notice, &own);
            if let Err(error) = self.notices.next(concerns).await {
                tracing::error!(%error, "the machine's firewall cannot be followed");
                return;
            }
        }
    }
}
