//! The words of redirected traffic: where connections are addressed to, and where they go instead; and of what is let through
//! ([`policy`]). Plain values, no Kubernetes.

pub mod policy;
mod range;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use range::{Family, IpRange, RangeError, Ranges, number, octets};

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in an IP header (IANA).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol of this name, in capitals as Kubernetes writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// The address that connections are addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// This one.
    Ip(IpAddr),
    /// Every address of a family this machine has, but those of loopback. Written as `node`, or `node6`.
    Node(Family),
}

impl Address {
    /// Of which family.
    pub fn family(self) -> Family {
        match self {
            Address::Ip(ip) => Family::of(ip),
            Address::Node(family) => family,
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Address::Ip(ip)
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Address::Ip(ip.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => ip.fmt(f),
            Address::Node(Family::V4) => f.write_str("node"),
            Address::Node(Family::V6) => f.write_str("node6"),
        }
    }
}

/// What connections are addressed to. Written as `tcp/10.96.0.1/443`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Front {
    /// Where to.
    pub address: Address,
    /// Protocol of `port`.
    pub protocol: Protocol,
    /// Port, not 0.
    pub port: u16,
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.protocol, self.address, self.port)
    }
}

/// Where the connections of a front go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// One of these by chance for each connection of the engine's Pods and of this machine. Of the front's family, as all addresses here.
    pub backends: BTreeSet<SocketAddr>,
    /// Where the connections of everybody else go.
    pub outside: Outside,
    /// What becomes of connections while there is no backend at all.
    pub unserved: Unserved,
    /// Seconds after a client's last connection within which it is sent where it was sent before.
    pub affinity: Option<u32>,
    /// If there are any, clients with other addresses get no answer.
    pub sources: BTreeSet<IpRange>,
}

/// Where connections go that come neither from the engine's Pods nor from this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outside {
    /// Where they are addressed to: the front is none for them.
    #[default]
    Untouched,
    /// Where all others go.
    Same,
    /// One of these. If there is none but there are backends for others, connections get no answer.
    Only(BTreeSet<SocketAddr>),
}

/// What becomes of a connection that nobody is there to serve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unserved {
    /// The client is told.
    #[default]
    Refuse,
    /// The client gets no answer.
    Drop,
}

impl Redirect {
    /// Every backend, whoever is sent there.
    pub fn all_backends(&self) -> BTreeSet<SocketAddr> {
        let mut all = self.backends.clone();
        if let Outside::Only(backends) = &self.outside {
            all.extend(backends);
        }
        all
    }
}

/// Every front and where its connections go.
pub type Table = BTreeMap<Front, Redirect>;

/// How a table is to become another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is this one from now on, whatever it was.
    All(Table),
    /// Some of it changes.
    Some {
        /// Fronts that are new or other than they were.
        set: Table,
        /// Fronts that are there no more.
        gone: BTreeSet<Front>,
    },
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        matches!(self, Change::Some { set, gone } if set.is_empty() && gone.is_empty())
    }

    /// Carries it out on a table.
    pub fn apply_to(self, table: &mut Table) {
        match self {
            Change::All(all) => *table = all,
            Change::Some { set, gone } => {
                table.retain(|front, _| !gone.contains(front));
                table.extend(set);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_lead_from_one_table_to_another() {
        let front = |port| Front {
            address: Ipv4Addr::new(10, 96, 0, 7).into(),
            protocol: Protocol::Tcp,
            port,
        };
        let sticky = Redirect {
            affinity: Some(5),
            ..Redirect::default()
        };
        let mut table = Table::from([
            (front(1), Redirect::default()),
            (front(2), Redirect::default()),
        ]);
        let change = Change::Some {
            set: [(front(2), sticky.clone()), (front(3), sticky.clone())].into(),
            gone: [front(1)].into(),
        };
        change.apply_to(&mut table);
        assert_eq!(
            table,
            [(front(2), sticky.clone()), (front(3), sticky)].into()
        );
        Change::All(Table::new()).apply_to(&mut table);
        assert!(table.is_empty());
        assert_eq!(front(80).to_string(), "tcp/10.96.0.7/80");
        let node_port = Front {
            address: Address::Node(Family::V4),
            ..front(30080)
        };
        assert_eq!(node_port.to_string(), "tcp/node/30080");
        let of_v6 = Front {
            address: Address::Node(Family::V6),
            ..node_port
        };
        assert_eq!(of_v6.to_string(), "tcp/node6/30080");
    }
}
