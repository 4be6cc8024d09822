//! The built-in Pod network: a bridge on the node, a veth pair and an address for each Pod, masquerade outward; and what is addressed to
//! services, sent to those behind them; and what Pods may receive and send. Where it is asked for, plugins wire Pods instead ([`cni`]).
//!
//! All of it through netlink, without helper binaries. The address pool and the choice of bridge and range are kept on disk, so
//! that a restarted engine finds its Pods' addresses again. Who is behind a service is not decided here, neither is who may reach whom, nor DNS.
//!
//! Pods reach each other through the node: a Pod has its address alone, not the range, and everything goes to the gateway. So the node sees
//! both ways of what it redirects.
//!
//! Invariants: an address is recorded before it is used and freed after it was taken off; links and ranges of others are never changed, and
//! to their tables nothing is added but ways for Pods through chains that would drop what they do not know ([`Firewalls`]); everything made here is removed by [`Network::remove`].

pub mod cni;
mod conntrack;
mod firewalls;
mod guests;
mod link;
mod netlink;
mod nft;
mod peers;
mod policies;
mod pool;
mod services;
mod setup;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ports::network::{NetworkError, NetworkStatus, PodNetwork};
use ports::runtime::SandboxConfig;
use rustix::io::Errno;

pub use firewalls::Firewalls;
use guests::Guests;
pub use nat::{Family, IpRange, RangeError, Ranges};
use netlink::{Part, Refused, Socket};
pub use peers::Routes;
pub use policies::Policies;
use pool::Pools;
pub use services::Services;
use setup::Chosen;
pub use setup::{Config, kept_ranges, routed};

/// The node's side of the Pod network.
#[derive(Debug)]
pub struct Network {
    inner: Arc<Inner>,
    /// What this opening made, as opposed to what it found.
    made: Made,
}

/// Where the kernel has its settings of IPv6, if it has IPv6.
const IPV6_SETTINGS: &str = "/proc/sys/net/ipv6";

/// What was not there before.
#[derive(Debug, Clone, Copy)]
struct Made {
    record: bool,
    bridge: bool,
}

#[derive(Debug)]
struct Inner {
    bridge: String,
    bridge_index: u32,
    ranges: Ranges,
    /// The node's address in each of them.
    gateways: Vec<IpAddr>,
    node_ips: Vec<IpAddr>,
    pools: Mutex<Pools>,
    guests: Arc<Guests>,
    peers: Arc<peers::Known>,
    /// Whether the kernel would give links addresses of IPv6, also where Pods have none.
    has_ipv6: bool,
    /// For making links.
    making: Mutex<Socket>,
    /// For removing them: the kernel answers only after every reader of the link has gone (an RCU grace period), and nobody
    /// who makes one is to wait for that.
    removing: Mutex<Socket>,
}

impl Network {
    /// Brings the bridge, its address, forwarding and masquerade up, or finds them as an earlier engine left them. What could
    /// not be brought up wholly is taken down again. Blocks for a few milliseconds.
    pub fn open(config: &Config) -> Result<Self, NetworkError> {
        let socket =
            || Socket::open(Part::Route).map_err(|source| kernel("open a netlink socket", source));
        let (mut route, removing) = (socket()?, socket()?);
        let _alone = setup::choose_alone()?;
        let (chosen, is_known) = setup::choose(config, &mut route)?;
        let made = Made {
            record: !is_known,
            bridge: setup::find_link(&mut route, &chosen.bridge)?.is_none(),
        };
        let peers = peers::Known::open(&config.state_dir)?;
        let (pools, bridge_index, node_ips) = bring_up(config, &chosen, &peers, &mut route)
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = take_back(made, &chosen.bridge, &mut route, config);
            })?;
        tracing::debug!(bridge = chosen.bridge, ranges = %chosen.ranges, "Pod network is up");
        Ok(Network {
            inner: Arc::new(Inner {
                bridge: chosen.bridge,
                bridge_index,
                ranges: chosen.ranges,
                gateways: pools.gateways(),
                node_ips,
                pools: Mutex::new(pools),
                guests: Arc::default(),
                peers: Arc::new(peers),
                has_ipv6: Path::new(IPV6_SETTINGS).exists(),
                making: Mutex::new(route),
                removing: Mutex::new(removing),
            }),
            made,
        })
    }

    /// Takes back what [`Network::open`] made, for an engine that cannot start after all; what it found stays.
    pub fn give_up(&self, config: &Config) -> Result<(), NetworkError> {
        let mut removing = lock(&self.inner.removing);
        if self.made.bridge {
            self.inner.peers.forget(&mut removing)?;
        }
        take_back(self.made, &self.inner.bridge, &mut removing, config)
    }

    /// The node's addresses on the Pod network, one of each range: where Pods reach the node, and their default routes.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.inner.gateways.clone()
    }

    /// The ranges Pods get their addresses from.
    pub fn pod_ranges(&self) -> Ranges {
        self.inner.ranges
    }

    /// Their families, the primary one first.
    pub(crate) fn families(&self) -> impl Iterator<Item = Family> {
        self.inner.ranges.families()
    }

    /// The bridge's name.
    pub fn bridge(&self) -> &str {
        &self.inner.bridge
    }

    /// Removes the bridge, the routes to other nodes' Pods, the firewall tables and the record of them. Pods lose their network.
    pub fn remove(&self, config: &Config) -> Result<(), NetworkError> {
        let mut route = lock(&self.inner.removing);
        self.inner.peers.forget(&mut route)?;
        setup::tear_down(&self.inner.bridge, &mut route)?;
        setup::forget(config)
    }
}

/// The pools, the bridge's index, the node's addresses.
fn bring_up(
    config: &Config,
    chosen: &Chosen,
    peers: &peers::Known,
    route: &mut Socket,
) -> Result<(Pools, u32, Vec<IpAddr>), NetworkError> {
    let pools = Pools::open(&config.state_dir.join("addresses"), chosen.ranges)
        .map_err(|source| pool_error("open", source))?;
    let gateways = pools.gateways();
    let bridge_index = setup::bring_up(chosen, &gateways, &peers.lock(), route)?;
    let node_ips = setup::node_ips(config.node_ip, bridge_index, &gateways, route)?;
    Ok((pools, bridge_index, node_ips))
}

fn take_back(
    made: Made,
    bridge: &str,
    route: &mut Socket,
    config: &Config,
) -> Result<(), NetworkError> {
    if made.bridge {
        setup::tear_down(bridge, route)?;
    }
    if made.record {
        setup::forget(config)?;
    }
    Ok(())
}

/// Each use leaves a pool and a socket whole, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn attach(&self, sandbox_id: &str, netns: &OwnedFd) -> Result<NetworkStatus, NetworkError> {
        let (ips, is_known) = self.allocate(sandbox_id)?;
        let host = host_interface(sandbox_id);
        if is_known && setup::find_link(&mut lock(&self.making), &host)?.is_some() {
            return Ok(NetworkStatus { ips });
        }
        let first = ips.first().copied().unwrap_or(self.ranges.primary().base());
        let hardware = link::hardware_address(first);
        let mut wiring = vec![
            link::create_veth(&host, self.bridge_index, netns.as_raw_fd(), hardware),
            link::set_hairpin(&host),
        ];
        // A new link has no address of IPv6 yet from which neighbours could be looked for.
        let v6 = ips.iter().filter(|ip| ip.is_ipv6());
        wiring.extend(v6.map(|ip| link::add_neighbour(self.bridge_index, *ip, hardware)));
        let made = lock(&self.making).transact(&wiring);
        made.map_err(NetworkError::from)
            .and_then(|()| self.configure(netns.as_fd(), &ips))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = self.detach(sandbox_id);
            })?;
        Ok(NetworkStatus { ips })
    }

    /// The sandbox's addresses, and whether it had them before.
    fn allocate(&self, sandbox_id: &str) -> Result<(Vec<IpAddr>, bool), NetworkError> {
        let mut pools = lock(&self.pools);
        let is_known = !pools.of(sandbox_id).is_empty();
        let addresses = pools
            .allocate(sandbox_id)
            .map_err(|source| pool_error("record an address", source))?;
        let addresses = addresses.map_err(|full| NetworkError::Exhausted {
            range: full.to_string(),
        })?;
        Ok((addresses, is_known))
    }

    /// Addresses and routes inside the Pod. An address has no neighbours: all goes to the gateway.
    fn configure(&self, netns: BorrowedFd<'_>, ips: &[IpAddr]) -> Result<(), NetworkError> {
        let mut inside = Socket::open_in(netns, Part::Route)
            .map_err(|source| kernel("enter the Pod's network namespace", source))?;
        let index = setup::link_index(&mut inside, link::POD_INTERFACE)?;
        let mut wiring = Vec::new();
        if self.has_ipv6 {
            wiring.push(link::without_own_addresses(index));
        }
        wiring.push(link::set_up(index));
        for ip in ips {
            let family = Family::of(*ip);
            wiring.push(link::add_address(index, *ip, family.bits()));
            let mut gateways = self.gateways.iter();
            if let Some(gateway) = gateways.find(|gateway| Family::of(**gateway) == family) {
                wiring.push(link::add_default_route(*gateway, index));
                if family == Family::V6 {
                    let bridge = link::hardware_address(self.gateways[0]);
                    wiring.push(link::add_neighbour(index, *gateway, bridge));
                }
            }
        }
        inside.transact(&wiring)?;
        Ok(())
    }

    fn detach(&self, sandbox_id: &str) -> Result<(), NetworkError> {
        let gone = link::delete(&host_interface(sandbox_id));
        match lock(&self.removing).transact(&[gone]) {
            // The Pod's end may be gone already, and this one with it.
            Err(refused) if !refused.is(Errno::NODEV) => return Err(refused.into()),
            _ => {}
        }
        let ips = lock(&self.pools).of(sandbox_id);
        for ip in ips.into_iter().filter(IpAddr::is_ipv6) {
            let gone = link::delete_neighbour(self.bridge_index, ip);
            match lock(&self.making).transact(&[gone]) {
                Err(refused) if !refused.is(Errno::NOENT) => return Err(refused.into()),
                _ => {}
            }
        }
        lock(&self.pools)
            .release(sandbox_id)
            .map_err(|source| pool_error("free an address", source))
    }
}

#[async_trait]
impl PodNetwork for Network {
    async fn attach(
        &self,
        sandbox_id: &str,
        _pod: Option<&SandboxConfig>,
        netns: BorrowedFd<'_>,
    ) -> Result<NetworkStatus, NetworkError> {
        let netns = netns
            .try_clone_to_owned()
            .map_err(|source| kernel("keep the Pod's network namespace", source))?;
        let (inner, id) = (self.inner.clone(), sandbox_id.to_owned());
        blocking(move || inner.attach(&id, &netns)).await
    }

    async fn status(&self, sandbox_id: &str) -> Option<NetworkStatus> {
        let ips = lock(&self.inner.pools).of(sandbox_id);
        (!ips.is_empty()).then_some(NetworkStatus { ips })
    }

    async fn holders(&self) -> Vec<String> {
        lock(&self.inner.pools).holders()
    }

    async fn detach(&self, sandbox_id: &str) -> Result<(), NetworkError> {
        let (inner, id) = (self.inner.clone(), sandbox_id.to_owned());
        blocking(move || inner.detach(&id)).await
    }

    fn node_ips(&self) -> Vec<IpAddr> {
        self.inner.node_ips.clone()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panicked| Err(kernel("wire the Pod", io::Error::other(panicked))))
}

/// The node's end of a Pod's veth: at most 15 characters, as the kernel wants.
fn host_interface(sandbox_id: &str) -> String {
    format!("veth{}", sandbox_id.get(..11).unwrap_or(sandbox_id))
}

fn kernel(what: &str, source: io::Error) -> NetworkError {
    NetworkError::Kernel {
        what: what.to_owned(),
        source: source.into(),
    }
}

fn pool_error(what: &str, source: io::Error) -> NetworkError {
    NetworkError::Pool {
        what: what.to_owned(),
        source,
    }
}

impl From<Refused> for NetworkError {
    fn from(refused: Refused) -> Self {
        NetworkError::Kernel {
            what: refused.what,
            source: refused.source.into(),
        }
    }
}
