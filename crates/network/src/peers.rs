//! Pods of other nodes: routes to them through those nodes, and what is said to them from here keeps its sender.
//!
//! The ways are kept on disk: an engine that starts finds what an earlier one has routed, and nothing stays when the network goes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use nat::IpRange;
use ports::network::{NetworkError, Ways};
use rustix::io::Errno;

use crate::netlink::{Part, Refused, Socket};
use crate::nft::Table;
use crate::{Inner, Network, blocking, kernel, link, lock, nft, pool_error, setup};

/// Ranges of other nodes' Pods, and by which neighbour each is reached.
pub(crate) type Peers = BTreeMap<IpRange, IpAddr>;

/// The ways there are. Held while a table is made anew, so that no range is missed.
#[derive(Debug)]
pub(crate) struct Known {
    path: PathBuf,
    peers: Mutex<Peers>,
}

/// The ways of one engine to the Pods of other nodes.
#[derive(Debug)]
pub struct Routes(Arc<Inner>);

impl Known {
    /// What an earlier engine has routed.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, NetworkError> {
        let path = state_dir.join("ways.json");
        let peers = read(&path).map_err(|error| pool_error("read ways.json", error))?;
        Ok(Known {
            path,
            peers: Mutex::new(peers),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Peers> {
        lock(&self.peers)
    }

    fn keep(&self, peers: &Peers) -> Result<(), NetworkError> {
        write(&self.path, peers).map_err(|error| pool_error("write ways.json", error))
    }

    /// Removes every route. No table is touched: they go as a whole.
    pub(crate) fn forget(&self, route: &mut Socket) -> Result<(), NetworkError> {
        let mut peers = self.lock();
        for (range, via) in peers.iter() {
            remove(*range, *via, route)?;
        }
        peers.clear();
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(pool_error("remove", error))
            }
            _ => Ok(()),
        }
    }
}

impl Network {
    /// Where ways to the Pods of other nodes are laid.
    pub fn routes(&self) -> Routes {
        Routes(self.inner.clone())
    }
}

#[async_trait]
impl Ways for Routes {
    async fn lay(&self, ways: BTreeMap<IpRange, IpAddr>) -> Result<(), NetworkError> {
        let inner = self.0.clone();
        blocking(move || inner.lay(ways)).await
    }
}

impl Inner {
    fn lay(&self, mut wanted: Peers) -> Result<(), NetworkError> {
        let is_ours = |family| self.ranges.families().any(|ours| ours == family);
        wanted.retain(|range, _| is_ours(range.family()));
        let mut known = self.peers.lock();
        if known.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let mut both = known.clone();
        both.extend(&wanted);
        // What is on its way out is recorded until it has gone.
        self.peers.keep(&both)?;
        let mut route =
            Socket::open(Part::Route).map_err(|error| kernel("open a netlink socket", error))?;
        for (range, via) in known
            .iter()
            .filter(|(range, _)| !wanted.contains_key(*range))
        {
            remove(*range, *via, &mut route)?;
        }
        // Packets find their way before anything takes their sender for one of the cluster.
        let mut laid = Peers::new();
        for (range, via) in wanted {
            if add(range, via, known.contains_key(&range), &mut route)? {
                laid.insert(range, via);
            }
        }
        *known = laid;
        self.peers.keep(&known)?;
        self.tell(&known)
    }

    /// Changes both tables that know peers. That of Services may not be there yet, or be an earlier engine's.
    fn tell(&self, peers: &Peers) -> Result<(), NetworkError> {
        let mut socket = Socket::open(Part::Netfilter)
            .map_err(|error| kernel("open a netfilter socket", error))?;
        for name in [self.bridge.clone(), setup::services_table(&self.bridge)] {
            for family in self.ranges.families() {
                let table = Table {
                    family,
                    name: &name,
                };
                match socket.transact(&nft::peers::replace(table, peers.keys())) {
                    Err(refused) if !refused.is(Errno::NOENT) => return Err(refused.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Lays a way, in place of an older one of ours; whether it could be. That it could not is told, and no error: others are to be laid all the
/// same.
fn add(
    range: IpRange,
    via: IpAddr,
    is_ours: bool,
    route: &mut Socket,
) -> Result<bool, NetworkError> {
    let why = match route.transact(&[link::add_way(range, via, is_ours)]) {
        Ok(()) => return Ok(true),
        Err(refused) if refused.is(Errno::EXIST) => "this machine has a route there already",
        Err(refused) if is_far(&refused) => "that node is on no link of this machine",
        Err(refused) => return Err(refused.into()),
    };
    tracing::warn!(%range, %via, why, "Pods of another node are not reached");
    Ok(false)
}

/// Whether a neighbour is none.
fn is_far(refused: &Refused) -> bool {
    let answers = [
        Errno::NETUNREACH,
        Errno::HOSTUNREACH,
        Errno::NETDOWN,
        Errno::INVAL,
    ];
    answers.into_iter().any(|answer| refused.is(answer))
}

/// Removes a way; one that has gone already, with its link, is fine.
fn remove(range: IpRange, via: IpAddr, route: &mut Socket) -> Result<(), NetworkError> {
    match route.transact(&[link::delete_way(range, via)]) {
        Err(refused) if !refused.is(Errno::SRCH) => Err(refused.into()),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<Peers> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Peers::new()),
        Err(error) => return Err(error),
    };
    let texts: BTreeMap<String, IpAddr> = serde_json::from_slice(&bytes)?;
    let each = texts.into_iter();
    let ways = each.map(|(range, via)| range.parse().map(|range| (range, via)));
    ways.collect::<Result<_, _>>().map_err(io::Error::other)
}

fn write(path: &Path, peers: &Peers) -> io::Result<()> {
    let texts: BTreeMap<String, IpAddr> = peers
        .iter()
        .map(|(range, via)| (range.to_string(), *via))
        .collect();
    let temporary = path.with_extension("json.tmp");
    fs::write(&temporary, serde_json::to_vec(&texts)?)?;
    fs::rename(temporary, path)
}
