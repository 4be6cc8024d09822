//! What the API server must be told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    /// The range cluster IPs come from.
    pub service_range: ServiceRange,
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

/// An IPv4 range `base/prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceRange {
    base: u32,
    prefix: u8,
}

impl ServiceRange {
    /// The range that holds `address` with `prefix` fixed bits; `None` unless it is between 8 and 30.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<ServiceRange> {
        if !(8..=30).contains(&prefix) {
            return None;
        }
        let mask = u32::MAX << (32 - prefix);
        Some(ServiceRange {
            base: u32::from(address) & mask,
            prefix,
        })
    }

    /// How many addresses there are, network and broadcast included.
    pub fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }

    /// The `n`th address.
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + n)
    }

    /// The first address that can be used: that of the `kubernetes` Service.
    pub fn first(self) -> Ipv4Addr {
        self.nth(1)
    }

    /// Whether `address` can be a cluster IP: inside, and neither network nor broadcast address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        offset > 0 && offset < self.size() - 1
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}
