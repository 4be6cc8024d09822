//! What a Service's cluster address stands for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use nat::{Front, Protocol, Redirect, Table};

use crate::endpoints::{Slice, backends};

/// A Service with this label is somebody else's to serve.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client stays with an endpoint unless the Service says so, in seconds (upstream's default).
const AFFINITY: u32 = 10_800;

/// What matters of a Service that has a cluster address: while this is the same, so are its redirects for the same endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its fronts, and the name of the port of its slices that each stands for.
    fronts: BTreeMap<Front, String>,
    affinity: Option<u32>,
    /// Only endpoints on the node traffic comes from count (`internalTrafficPolicy: Local`).
    is_local: bool,
}

impl Cluster {
    /// Looks at a Service; `None` for one without a cluster address (headless, `ExternalName`) and for one that another proxy serves.
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        let is_elsewhere = labels.is_some_and(|labels| labels.contains_key(PROXY_NAME));
        if is_elsewhere || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let addresses = addresses(spec);
        if addresses.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten();
        let fronts = ports.flat_map(|port| addresses.iter().filter_map(|a| front(*a, port)));
        Some(Cluster {
            fronts: fronts.collect(),
            affinity: affinity(spec),
            is_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        })
    }
}

/// Its cluster addresses; `None` and what is no IPv4 address are left out.
fn addresses(spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    let first = spec.cluster_ip.iter();
    let all = first.chain(spec.cluster_ips.iter().flatten());
    let mut addresses: Vec<_> = all.filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn front(address: Ipv4Addr, port: &ServicePort) -> Option<(Front, String)> {
    let protocol = Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP"))?;
    let front = Front {
        address,
        protocol,
        port: u16::try_from(port.port).ok().filter(|port| *port > 0)?,
    };
    Some((front, port.name.clone().unwrap_or_default()))
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

/// Where the connections to a Service go that come from Pods of `node`, or from the node itself. `slices` are those of the Service.
pub fn redirects(service: &Cluster, slices: &[&Slice], node: &str) -> Table {
    let fronts = service.fronts.iter().map(|(front, port)| {
        let redirect = Redirect {
            backends: backends(
                slices,
                port,
                front.protocol,
                service.is_local.then_some(node),
            ),
            affinity: service.affinity,
        };
        (*front, redirect)
    });
    fronts.collect()
}
