//! What Pods may receive and send: the table that lets it through.
//!
//! The table of an earlier engine stays in force until the first change, which takes its place at once. While nobody is bound to rules
//! there is no table.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nat::policy::Change;
use ports::network::{Filter, NetworkError};
use rustix::io::Errno;

use crate::netlink::{Family, Socket};
use crate::{Network, blocking, kernel, lock, nft, setup};

/// Most bytes of one change: room for a hundred thousand members of rules.
const ROOM: usize = 64 << 20;

/// The policies of one engine.
#[derive(Debug)]
pub struct Policies {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    table: String,
    /// What is in force is what was asked for.
    is_known: bool,
}

impl Network {
    /// Where policies are carried out. Changes nothing yet.
    pub fn policies(&self) -> Result<Policies, NetworkError> {
        let socket = Socket::open(Family::Netfilter)
            .and_then(|socket| socket.make_room(ROOM).map(|()| socket))
            .map_err(|error| kernel("open a netfilter socket", error))?;
        Ok(Policies {
            inner: Arc::new(Mutex::new(Inner {
                socket,
                table: setup::policies_table(&self.inner.bridge),
                is_known: false,
            })),
        })
    }
}

#[async_trait]
impl Filter for Policies {
    async fn change(&self, change: Change) -> Result<(), NetworkError> {
        let inner = self.inner.clone();
        blocking(move || lock(&inner).change(&change)).await
    }
}

impl Inner {
    fn change(&mut self, change: &Change) -> Result<(), NetworkError> {
        if !change.anew && !self.is_known {
            let what = "change policies of which nothing is known";
            return Err(kernel(what, Errno::INVAL.into()));
        }
        self.is_known = false;
        let done = match change.opens_all() {
            true => self.socket.transact(&nft::remove(&self.table)),
            false => self
                .socket
                .transact(&nft::policies::messages(&self.table, change)),
        };
        match done {
            Err(refused) if !(change.opens_all() && refused.is(Errno::NOENT)) => {
                return Err(refused.into());
            }
            _ => {}
        }
        self.is_known = true;
        Ok(())
    }
}
