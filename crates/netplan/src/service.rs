//! What the addresses and ports of a Service stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use nat::{Address, Front, Outside, Protocol, Redirect, Table, Unserved};

use crate::endpoints::{Slice, backends};

/// A Service with this label is somebody else's to serve.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client stays with an endpoint unless the Service says so, in seconds (upstream's default).
const AFFINITY: u32 = 10_800;

/// What matters of a Service that traffic is redirected for: while this is the same, so are its redirects for the same endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    fronts: BTreeMap<Front, Way>,
    affinity: Option<u32>,
    /// Only endpoints on the node count for cluster addresses (`internalTrafficPolicy: Local`).
    is_internally_local: bool,
    /// Only endpoints on the node count for those who come from outside (`externalTrafficPolicy: Local`).
    is_externally_local: bool,
}

/// What a front stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    /// The name of the port of the Service's slices.
    port: String,
    /// It is for those outside the cluster, too.
    is_external: bool,
}

impl Traffic {
    /// Looks at a Service; `None` for one without a cluster address (headless, `ExternalName`) and for one that another proxy serves.
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        let is_elsewhere = labels.is_some_and(|labels| labels.contains_key(PROXY_NAME));
        if is_elsewhere || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let cluster = addresses(spec);
        if cluster.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten();
        Some(Traffic {
            fronts: ports.flat_map(|port| fronts(&cluster, port)).collect(),
            affinity: affinity(spec),
            is_internally_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            is_externally_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        })
    }
}

/// Its cluster addresses; `None` and what is no IPv4 address are left out.
fn addresses(spec: &ServiceSpec) -> BTreeSet<Ipv4Addr> {
    let first = spec.cluster_ip.iter();
    let all = first.chain(spec.cluster_ips.iter().flatten());
    all.filter_map(|ip| ip.parse().ok()).collect()
}

/// The fronts of a port, and what each stands for: cluster addresses, and the node port on every address of the node but loopback
/// (kube-proxy in nftables mode serves none on loopback either, KEP-3866).
fn fronts(cluster: &BTreeSet<Ipv4Addr>, port: &ServicePort) -> Vec<(Front, Way)> {
    let Some(protocol) = Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP")) else {
        return Vec::new();
    };
    let name = port.name.clone().unwrap_or_default();
    let front = |address: Address, port: i32, is_external| {
        let front = Front {
            address,
            protocol,
            port: u16::try_from(port).ok().filter(|port| *port > 0)?,
        };
        let port = name.clone();
        Some((front, Way { port, is_external }))
    };
    let cluster = cluster.iter().map(|ip| ((*ip).into(), port.port, false));
    let node = port.node_port.map(|port| (Address::Node, port, true));
    let all = cluster.chain(node);
    all.filter_map(|(address, port, is_external)| front(address, port, is_external))
        .collect()
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    Some(seconds.filter(|seconds| *seconds > 0).unwrap_or(AFFINITY))
}

/// Where the connections to a Service go. `slices` are those of the Service; `node` is where its redirects are.
///
/// Policies are for those they are about only: Pods and the node reach what is external as if there were no
/// `externalTrafficPolicy`. Where a policy leaves out every endpoint there is, connections get no answer.
pub fn redirects(service: &Traffic, slices: &[&Slice], node: &str) -> Table {
    let redirect = |front: &Front, way: &Way| {
        let all = backends(slices, &way.port, front.protocol, None);
        let here = || backends(slices, &way.port, front.protocol, Some(node));
        let redirect = Redirect {
            affinity: service.affinity,
            ..Redirect::default()
        };
        match way.is_external {
            true => Redirect {
                backends: all,
                outside: match service.is_externally_local {
                    true => Outside::Only(here()),
                    false => Outside::Same,
                },
                ..redirect
            },
            false if service.is_internally_local => {
                let here = here();
                let unserved = match here.is_empty() && !all.is_empty() {
                    true => Unserved::Drop,
                    false => Unserved::Refuse,
                };
                Redirect {
                    backends: here,
                    unserved,
                    ..redirect
                }
            }
            false => Redirect {
                backends: all,
                ..redirect
            },
        }
    };
    let fronts = service.fronts.iter();
    fronts
        .map(|(front, way)| (*front, redirect(front, way)))
        .collect()
}
