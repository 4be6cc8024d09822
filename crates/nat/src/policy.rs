//! The words of traffic that is let through or not: what some Pods may receive and send. Plain values, no Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{IpRange, Protocol};

/// Which way a connection goes, as a Pod sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the Pod.
    In,
    /// From the Pod.
    Out,
}

/// Names a rule while there is one; never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// Names a group of rules while there is one; never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// What lets connections pass: those with one of the peers, to one of the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which connections it is about.
    pub way: Way,
    /// The other end.
    pub peers: Peers,
    /// Where the connection goes to.
    pub ports: Ports,
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Anybody.
    Any,
    /// The rule's members, and addresses in these blocks.
    Some(BTreeSet<Block>),
}

/// A range without some of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// All of it.
    pub range: IpRange,
    /// What is left out.
    pub except: BTreeSet<IpRange>,
}

impl Block {
    /// Whether the address is in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let is_out = self.except.iter().any(|range| range.contains(address));
        self.range.contains(address) && !is_out
    }
}

/// Where a connection may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Anywhere, also without a port.
    Any,
    /// To these, and to those of the rule's doors.
    Some(BTreeSet<PortRange>),
}

/// Ports that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// Their protocol.
    pub protocol: Protocol,
    /// The first of them.
    pub first: u16,
    /// The last of them, not below the first.
    pub last: u16,
}

/// A port at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Door {
    /// Where.
    pub address: IpAddr,
    /// Protocol of `port`.
    pub protocol: Protocol,
    /// Port, not 0.
    pub port: u16,
}

/// The rules a Pod is bound to each way. Without a group it is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bonds {
    /// What lets connections to it pass.
    pub ingress: Option<GroupId>,
    /// What lets connections from it pass.
    pub egress: Option<GroupId>,
}

/// Something that never changes comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn<T> {
    /// It was not there.
    New(T),
    /// It is there no more.
    Gone(T),
}

/// How what is let through changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// It takes the place of whatever there was.
    pub anew: bool,
    /// Rules; with those that go, all of their members and doors.
    pub rules: BTreeMap<RuleId, Turn<Rule>>,
    /// Whether somebody is a member now.
    pub members: BTreeMap<(RuleId, IpAddr), bool>,
    /// Whether somebody has a door now.
    pub doors: BTreeMap<(RuleId, Door), bool>,
    /// Groups of rules.
    pub groups: BTreeMap<GroupId, Turn<BTreeSet<RuleId>>>,
    /// Pods with what they were bound to, and what they are bound to now. A connection has to pass both ends.
    pub pods: BTreeMap<IpAddr, (Bonds, Bonds)>,
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Change::default()
    }

    /// Whether all is let through from now on.
    pub fn opens_all(&self) -> bool {
        self.anew && self.pods.is_empty()
    }
}
