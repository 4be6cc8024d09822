//! A Pod's place on the network (the shape of CNI's ADD and DEL), the traffic that is sent elsewhere than it is addressed to, and what is let through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use async_trait::async_trait;
use cri::SandboxConfig;
use thiserror::Error;
use tokio::sync::watch;

/// Why no Pod can have a place on the network now, in words; `None` when any can.
pub type Unready = Option<Arc<str>>;

/// What a Pod got (CNI result).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkStatus {
    /// Addresses inside the Pod, the node's primary family first.
    pub ips: Vec<IpAddr>,
}

/// Why wiring failed.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// Every address of the range is in use.
    #[error("no free address left in {range}")]
    Exhausted {
        /// The Pod range, as CIDR.
        range: String,
    },
    /// The kernel refused a request.
    #[error("{what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The record of addresses could not be kept.
    #[error("address pool: {what}")]
    Pool {
        /// What was tried.
        what: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// Nothing can be wired now.
    #[error("{why}")]
    NotReady {
        /// What is missing.
        why: String,
    },
    /// A network plugin did not do what it was asked.
    #[error("plugin type={plugin:?} failed ({verb})")]
    Plugin {
        /// Name of its program.
        plugin: String,
        /// What it was asked, as libcni words it.
        verb: &'static str,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Wires Pods to the node. Keyed by sandbox id; both verbs may be repeated.
#[async_trait]
pub trait PodNetwork: Send + Sync {
    /// Gives the namespace behind `netns` its interface, address and routes. A second call for the same sandbox returns the same. `pod` is
    /// whose it is, or `None` where that is not known yet.
    async fn attach(
        &self,
        sandbox_id: &str,
        pod: Option<&SandboxConfig>,
        netns: BorrowedFd<'_>,
    ) -> Result<NetworkStatus, NetworkError>;

    /// What [`PodNetwork::attach`] gave this sandbox, from the persisted pool; `None` if unknown.
    async fn status(&self, sandbox_id: &str) -> Option<NetworkStatus>;

    /// Sandboxes that hold an address, in no order.
    async fn holders(&self) -> Vec<String>;

    /// Removes the interface and frees the address. Unknown sandboxes are fine.
    async fn detach(&self, sandbox_id: &str) -> Result<(), NetworkError>;

    /// Addresses of the node itself on this network, primary family first.
    fn node_ips(&self) -> Vec<IpAddr>;

    /// Whether Pods can be wired, from now on. A network that always can need not say so.
    fn readiness(&self) -> watch::Receiver<Unready> {
        watch::Sender::new(None).subscribe()
    }
}

/// Sends traffic elsewhere than it is addressed to.
#[async_trait]
pub trait Redirects: Send + Sync {
    /// Carries a change out, wholly or not at all, at a cost that grows with the change. The first one after a start, and one after a
    /// failure, has to be [`nat::Change::All`]; until then things are as they were. Connections that exist go on,
    /// wherever they lead; datagrams go where they would be sent now. What is of a family this network does not have is left out.
    async fn change(&self, change: nat::Change) -> Result<(), NetworkError>;
}

/// Leads to the Pods of other nodes.
#[async_trait]
pub trait Ways: Send + Sync {
    /// These are the ranges of other nodes' Pods from now on, each with the neighbour that passes packets on to it: they are routed there,
    /// and what is said to them from here keeps its sender. Those that were led to before and are not among them are strangers again. A
    /// way that the machine's own routes do not allow is told and left out, and so is one of a family this network does not have.
    async fn lay(&self, ways: BTreeMap<nat::IpRange, IpAddr>) -> Result<(), NetworkError>;
}

/// Lets through what some Pods may receive and send, and nothing else to and from them; other Pods are free.
#[async_trait]
pub trait Filter: Send + Sync {
    /// Carries a change out, wholly or not at all, at a cost that grows with the change. The first one after a start, and one after a
    /// failure, has to be [`nat::policy::Change::anew`]; until then things are as they were. Connections that exist go on. What
    /// is of a family this network does not have is left out.
    async fn change(&self, change: nat::policy::Change) -> Result<(), NetworkError>;
}

/// Holds Pods back until what they may receive and send is settled.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Returns when every policy that is known by now and is about the Pod holds at its addresses. To be awaited between the moment the Pod
    /// has them and the start of its first container.
    async fn pass(&self, pod: &PodName<'_>, addresses: &[IpAddr]);
}

/// Which Pod is meant.
#[derive(Debug, Clone, Copy)]
pub struct PodName<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID: not one that comes after it.
    pub uid: &'a str,
}
