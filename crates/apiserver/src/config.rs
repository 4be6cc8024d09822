//! What the API server must be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Settings of an [`crate::ApiServer`]; they do not change while it runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where keys and certificates are kept (files 0600, made when missing).
    pub state_dir: PathBuf,
    /// The address clients reach the server at, as bound: it goes into the kubeconfig.
    pub address: SocketAddr,
    /// The address Pods reach the server at, for the `kubernetes` Endpoints; never a loopback address. `None`: there are none.
    pub advertise: Option<SocketAddr>,
    /// More addresses the serving certificate must be valid for.
    pub extra_addresses: Vec<IpAddr>,
    /// The range cluster IPs come from; its family is the primary one.
    pub service_range: ServiceRange,
    /// That of the other family, if there are addresses of both.
    pub second_service_range: Option<ServiceRange>,
    /// Where the cluster's name server is reached, for the Service `kube-dns`. `None`: there is none.
    pub name_server: Option<NameServer>,
    /// DNS suffix of Services, such as `cluster.local`; also names the token issuer.
    pub cluster_domain: String,
}

/// The sockets of a name server, of one address.
#[derive(Debug, Clone, Copy)]
pub struct NameServer {
    /// For datagrams.
    pub udp: SocketAddr,
    /// For connections.
    pub tcp: SocketAddr,
}

impl Config {
    /// The ranges cluster IPs come from, the primary family's first.
    pub(crate) fn service_ranges(&self) -> impl Iterator<Item = ServiceRange> {
        [Some(self.service_range), self.second_service_range]
            .into_iter()
            .flatten()
    }
}

/// A range `base/prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceRange {
    is_v6: bool,
    base: u128,
    prefix: u8,
}

impl ServiceRange {
    /// The range that holds `address` with `prefix` fixed bits; `None` unless it is between 8 and 30, or 64 and 126 of IPv6 (KEP-1880).
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Option<ServiceRange> {
        let address = address.into();
        let (lengths, bits) = match address.is_ipv6() {
            false => (8..=30, 32),
            true => (64..=126, 128),
        };
        if !lengths.contains(&prefix) {
            return None;
        }
        let host = (1 << (bits - u32::from(prefix))) - 1;
        Some(ServiceRange {
            is_v6: address.is_ipv6(),
            base: number(address) & !host,
            prefix,
        })
    }

    /// Its family, as the API names it.
    pub fn family(self) -> &'static str {
        if self.is_v6 { "IPv6" } else { "IPv4" }
    }

    /// Where its addresses end for Services: the last one of IPv4 is for broadcast.
    pub fn end(self) -> u128 {
        match self.is_v6 {
            false => (1 << (32 - u32::from(self.prefix))) - 1,
            true => 1 << (128 - u32::from(self.prefix)),
        }
    }

    /// The `n`th address.
    pub fn nth(self, n: u128) -> IpAddr {
        match self.is_v6 {
            false => Ipv4Addr::from((self.base + n) as u32).into(),
            true => Ipv6Addr::from(self.base + n).into(),
        }
    }

    /// The first address that can be used: that of the `kubernetes` Service.
    pub fn first(self) -> IpAddr {
        self.nth(1)
    }

    /// Whether `address` can be a cluster IP: inside, and neither the network's nor that for broadcast.
    pub fn contains(self, address: IpAddr) -> bool {
        let offset = number(address).wrapping_sub(self.base);
        address.is_ipv6() == self.is_v6 && offset > 0 && offset < self.end()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.nth(0), self.prefix)
    }
}
