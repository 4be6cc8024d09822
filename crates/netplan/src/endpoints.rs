//! Which endpoints traffic goes to.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use nat::Protocol;

/// The label with the name of a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What matters of an EndpointSlice: while this is the same, so are all redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Name of its Service.
    pub(crate) service: String,
    ports: Vec<Port>,
    endpoints: Vec<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: Protocol,
    number: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    address: Ipv4Addr,
    node: String,
    rank: Rank,
}

/// How good an endpoint is. Those that are neither are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Ready, or published though it is not.
    Ready,
    /// On its way out, but still serving: better than nothing (upstream's KEP-1669).
    Leaving,
}

impl Slice {
    /// Looks at a slice; `None` for one that is nobody's or of another address family.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        if slice.address_type != "IPv4" {
            return None;
        }
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        Some(Slice {
            service: service.clone(),
            ports: slice.ports.iter().flatten().filter_map(port).collect(),
            endpoints: slice
                .endpoints
                .iter()
                .flatten()
                .filter_map(target)
                .collect(),
        })
    }
}

fn port(port: &EndpointPort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP"))?,
        number: u16::try_from(port.port?)
            .ok()
            .filter(|number| *number > 0)?,
    })
}

fn target(endpoint: &Endpoint) -> Option<Target> {
    Some(Target {
        // The others are the same endpoint again.
        address: endpoint.addresses.first()?.parse().ok()?,
        node: endpoint.node_name.clone().unwrap_or_default(),
        rank: rank(endpoint)?,
    })
}

/// What is not said of an endpoint counts in its favour.
fn rank(endpoint: &Endpoint) -> Option<Rank> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(true);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    match (ready, serving && terminating) {
        (true, _) => Some(Rank::Ready),
        (false, true) => Some(Rank::Leaving),
        (false, false) => None,
    }
}

/// Where traffic to a named port goes: the ready endpoints, if there is none those that are leaving. With `node` only those on it.
pub(crate) fn backends(
    slices: &[&Slice],
    port: &str,
    protocol: Protocol,
    node: Option<&str>,
) -> BTreeSet<SocketAddrV4> {
    let ranked: Vec<(Rank, SocketAddrV4)> = slices
        .iter()
        .flat_map(|slice| {
            let is_meant = move |p: &&Port| p.name == port && p.protocol == protocol;
            let ports = slice.ports.iter().filter(is_meant);
            ports.flat_map(|port| {
                let here = |target: &&Target| node.is_none_or(|node| target.node == node);
                let targets = slice.endpoints.iter().filter(here);
                targets.map(|t| (t.rank, SocketAddrV4::new(t.address, port.number)))
            })
        })
        .collect();
    let best = ranked.iter().map(|(rank, _)| *rank).min();
    let chosen = ranked.into_iter().filter(|(rank, _)| Some(*rank) == best);
    chosen.map(|(_, backend)| backend).collect()
}
