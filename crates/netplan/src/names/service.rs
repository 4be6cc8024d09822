//! What of Services, EndpointSlices and Pods has to do with names.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

/// The label with the name of a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What a Service's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// Addresses of the cluster.
    Cluster {
        addresses: BTreeSet<IpAddr>,
        ports: BTreeSet<Port>,
    },
    /// Its endpoints.
    Headless,
    /// A name elsewhere (`ExternalName`).
    Alias(String),
}

/// A port with a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    /// In lower case, as names have it.
    pub(super) protocol: String,
    pub(super) number: u16,
}

impl Named {
    /// Looks at a Service; `None` for one that has no name to stand for yet.
    pub(super) fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return spec.external_name.clone().map(Named::Alias);
        }
        let given = spec.cluster_ip.iter();
        let given = given.chain(spec.cluster_ips.iter().flatten());
        if given.clone().any(|ip| ip == "None") {
            return Some(Named::Headless);
        }
        let addresses: BTreeSet<IpAddr> = given.filter_map(|ip| ip.parse().ok()).collect();
        (!addresses.is_empty()).then(|| Named::Cluster {
            addresses,
            ports: spec.ports.iter().flatten().filter_map(port).collect(),
        })
    }

    /// The addresses that are its own.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let own = match self {
            Named::Cluster { addresses, .. } => Some(addresses),
            Named::Headless | Named::Alias(_) => None,
        };
        own.into_iter().flatten().copied()
    }
}

fn port(port: &ServicePort) -> Option<Port> {
    let protocol = port.protocol.as_deref();
    named_port(port.name.as_deref(), protocol, Some(port.port))
}

fn slice_port(port: &EndpointPort) -> Option<Port> {
    named_port(port.name.as_deref(), port.protocol.as_deref(), port.port)
}

fn named_port(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.filter(|name| !name.is_empty())?.to_owned(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        number: u16::try_from(number?).ok()?,
    })
}

/// A slice, as far as names are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// Name of its Service.
    pub(super) service: String,
    pub(super) ports: Vec<Port>,
    /// Those that are ready, or published though they are not.
    pub(super) endpoints: Vec<Host>,
}

/// An endpoint that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) addresses: Vec<IpAddr>,
    hostname: Option<String>,
}

impl Slice {
    /// Looks at a slice; `None` for one that is nobody's.
    pub(super) fn of(slice: &EndpointSlice) -> Option<Self> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        let endpoints = slice.endpoints.iter().flatten();
        Some(Slice {
            service: service.clone(),
            ports: slice
                .ports
                .iter()
                .flatten()
                .filter_map(slice_port)
                .collect(),
            endpoints: endpoints.filter_map(host).collect(),
        })
    }
}

/// What is not said of an endpoint counts in its favour.
fn host(endpoint: &Endpoint) -> Option<Host> {
    let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
    let addresses = endpoint.addresses.iter();
    ready.unwrap_or(true).then(|| Host {
        addresses: addresses.filter_map(|ip| ip.parse().ok()).collect(),
        hostname: endpoint.hostname.clone().filter(|name| !name.is_empty()),
    })
}

impl Host {
    /// What it is called below its Service at one of its addresses.
    pub(super) fn name(&self, address: IpAddr) -> String {
        self.hostname.clone().unwrap_or_else(|| dashed(address))
    }
}

/// An address as a label, as upstream makes them.
pub(super) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// Where a Pod is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodAt {
    /// Its addresses; none before it has a network and after it has ended.
    pub addresses: Vec<IpAddr>,
    /// They are the node's as well, so who asks from there may be somebody else.
    pub on_host: bool,
}
