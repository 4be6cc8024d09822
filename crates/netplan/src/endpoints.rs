//! Which endpoints traffic goes to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use nat::{Family, Protocol};

/// The label with the name of a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What matters of an EndpointSlice: while this is the same, so are all redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Name of its Service.
    pub(crate) service: String,
    family: Family,
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
    address: IpAddr,
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
    /// Looks at a slice; `None` for one that is nobody's or without addresses (`FQDN`).
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        Some(Slice {
            service: service.clone(),
            family,
            ports: slice.ports.iter().flatten().filter_map(port).collect(),
            endpoints: slice
                .endpoints
                .iter()
                .flatten()
                .filter_map(|endpoint| target(endpoint, family))
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

fn target(endpoint: &Endpoint, family: Family) -> Option<Target> {
    // The others are the same endpoint again.
    let address = endpoint.addresses.first()?.parse().ok();
    Some(Target {
        address: address.filter(|ip| Family::of(*ip) == family)?,
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

/// Where traffic of a family to a named port goes: the ready endpoints, if there is none those that are leaving. With `node` only those on it.
pub(crate) fn backends(
    slices: &[&Slice],
    port: &str,
    protocol: Protocol,
    family: Family,
    node: Option<&str>,
) -> BTreeSet<SocketAddr> {
    let ranked: Vec<(Rank, SocketAddr)> = slices
        .iter()
        .filter(|slice| slice.family == family)
        .flat_map(|slice| {
            let is_meant = move |p: &&Port| p.name == port && p.protocol == protocol;
            let ports = slice.ports.iter().filter(is_meant);
            ports.flat_map(|port| {
                let here = |target: &&Target| node.is_none_or(|node| target.node == node);
                let targets = slice.endpoints.iter().filter(here);
                targets.map(|t| (t.rank, SocketAddr::new(t.address, port.number)))
            })
        })
        .collect();
    let best = ranked.iter().map(|(rank, _)| *rank).min();
    let chosen = ranked.into_iter().filter(|(rank, _)| Some(*rank) == best);
    chosen.map(|(_, backend)| backend).collect()
}
