//! What the addresses and ports of a Service stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use nat::{Address, Family, Front, IpRange, Outside, Protocol, Redirect, Table, Unserved};

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
    /// Whom it is for (`loadBalancerSourceRanges`); everybody if that is empty.
    sources: BTreeSet<IpRange>,
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
        let addresses = Addresses::of(service, spec);
        if addresses.cluster.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten();
        Some(Traffic {
            fronts: ports.flat_map(|port| fronts(&addresses, port)).collect(),
            affinity: affinity(spec),
            is_internally_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            is_externally_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        })
    }
}

/// What a Service is addressed by. What is not of a family that it has a cluster address of is left out, as kube-proxy does.
struct Addresses {
    cluster: BTreeSet<IpAddr>,
    /// Those of others that lead here (`externalIPs`).
    external: BTreeSet<IpAddr>,
    /// Those of a balancer that keeps the address connections are for.
    balancer: BTreeSet<IpAddr>,
    sources: BTreeSet<IpRange>,
}

impl Addresses {
    fn of(service: &Service, spec: &ServiceSpec) -> Self {
        let cluster = spec.cluster_ip.iter();
        let status = service.status.iter();
        let ingress = status.flat_map(|s| s.load_balancer.iter().flat_map(|b| &b.ingress));
        // A balancer of mode Proxy sends to the node port.
        let keeps = |point: &&LoadBalancerIngress| point.ip_mode.as_deref() != Some("Proxy");
        let points = ingress.flatten().filter(keeps);
        let ranges = spec.load_balancer_source_ranges.iter().flatten();
        let cluster: BTreeSet<IpAddr> = read(cluster.chain(spec.cluster_ips.iter().flatten()));
        let is_served = |ip: &IpAddr| cluster.iter().any(|own| own.is_ipv6() == ip.is_ipv6());
        let served = |mut ips: BTreeSet<IpAddr>| {
            ips.retain(is_served);
            ips
        };
        Addresses {
            external: served(read(spec.external_ips.iter().flatten())),
            balancer: match spec.type_.as_deref() {
                Some("LoadBalancer") => served(read(points.filter_map(|point| point.ip.as_ref()))),
                _ => BTreeSet::new(),
            },
            sources: read(ranges),
            cluster,
        }
    }

    /// Families of the cluster addresses.
    fn families(&self) -> BTreeSet<Family> {
        self.cluster.iter().map(|ip| Family::of(*ip)).collect()
    }

    /// The sources of a family. If all are of another, everybody is let in (upstream's kube-proxy has it so, too).
    fn sources(&self, family: Family) -> BTreeSet<IpRange> {
        let ranges = self.sources.iter().copied();
        ranges.filter(|range| range.family() == family).collect()
    }
}

fn read<'a, T: FromStr + Ord>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<T> {
    texts.filter_map(|text| text.trim().parse().ok()).collect()
}

/// The fronts of a port, and what each stands for. The node port is on every address of the node but those of loopback, and not for some
/// clients only (kube-proxy in nftables mode has it so, too: KEP-3866).
fn fronts(addresses: &Addresses, port: &ServicePort) -> Vec<(Front, Way)> {
    let Some(protocol) = Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP")) else {
        return Vec::new();
    };
    let front = |address: Address, number: i32, is_external, sources| {
        let front = Front {
            address,
            protocol,
            port: u16::try_from(number).ok().filter(|port| *port > 0)?,
        };
        let way = Way {
            port: port.name.clone().unwrap_or_default(),
            is_external,
            sources,
        };
        Some((front, way))
    };
    let all = BTreeSet::new;
    let at =
        |ip: &IpAddr, is_external, sources| front((*ip).into(), port.port, is_external, sources);
    let cluster = addresses.cluster.iter().map(|ip| at(ip, false, all()));
    let external = addresses.external.iter().map(|ip| at(ip, true, all()));
    // An address that is both is the balancer's.
    let balancer = addresses.balancer.iter();
    let balancer = balancer.map(|ip| at(ip, true, addresses.sources(Family::of(*ip))));
    let families = port.node_port.map(|number| (addresses.families(), number));
    let node = families.into_iter().flat_map(|(families, number)| {
        let nodes = families.into_iter().map(Address::Node);
        nodes.map(move |address| (address, number))
    });
    let node = node.map(|(address, number)| front(address, number, true, all()));
    let ways = cluster.chain(external).chain(balancer).chain(node);
    ways.flatten().collect()
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
        let family = front.address.family();
        let at = |node| backends(slices, &way.port, front.protocol, family, node);
        let (all, here) = (at(None), || at(Some(node)));
        let redirect = Redirect {
            affinity: service.affinity,
            sources: way.sources.clone(),
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
