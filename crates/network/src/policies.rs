//! What Pods may receive and send: the table that lets it through.
//!
//! The table of an earlier engine stays in force until the first change, which takes its place at once. While nobody is bound to rules
//! there is no table.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nat::Family;
use nat::policy::Change;
use ports::network::{Filter, NetworkError};
use rustix::io::Errno;

use crate::netlink::{Part, Socket};
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
    families: Vec<Family>,
    /// What is in force is what was asked for.
    is_known: bool,
}

impl Network {
    /// Where policies are carried out. Changes nothing yet.
    pub fn policies(&self) -> Result<Policies, NetworkError> {
        let socket = Socket::open(Part::Netfilter)
            .and_then(|socket| socket.make_room(ROOM).map(|()| socket))
            .map_err(|error| kernel("open a netfilter socket", error))?;
        Ok(Policies {
            inner: Arc::new(Mutex::new(Inner {
                socket,
                table: setup::policies_table(&self.inner.bridge),
                families: self.families().collect(),
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
        match change.opens_all() {
            true => setup::remove_tables(&mut self.socket, &self.table)?,
            false => {
                let messages = nft::policies::messages(&self.table, &self.families, change);
                self.socket.transact(&messages)?;
            }
        }
        self.is_known = true;
        Ok(())
    }
}
