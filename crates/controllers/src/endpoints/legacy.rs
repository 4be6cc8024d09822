//! From a Service and the Pods it selects: its Endpoints object, the older form of its slices, as upstream's endpoints controller
//! writes it. Pure.
//!
//! It has one address family, nothing of Pods that end (but with `publishNotReadyAddresses`), and at most [`MOST_ADDRESSES`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service, ServicePort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::backend::{Backend, protocol};
use super::slices::{self, HEADLESS};

/// The label that says who keeps an Endpoints object.
pub(super) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Who keeps those of this controller.
pub(super) const MANAGER: &str = "endpoint-controller";
/// The annotation of an object that lacks addresses because there are too many.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses in an object.
const MOST_ADDRESSES: usize = 1000;

/// The Endpoints of a Service as they should be; none if those there are right. What else is in `existing` is kept.
pub(super) fn change(
    service: &Service,
    backends: &[&Backend],
    existing: Option<&Endpoints>,
) -> Option<Endpoints> {
    let mut subsets = subsets(service, backends);
    let is_truncated = truncate(&mut subsets);
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    wanted.metadata.labels = Some(labels(service));
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if is_truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    wanted.metadata.annotations.take_if(|a| a.is_empty());
    (existing != Some(&wanted)).then_some(wanted)
}

/// What the object becomes that was found where none was known, and is another's so far.
pub(super) fn take_over(found: Endpoints, wanted: Endpoints) -> Endpoints {
    let mut taken = found;
    taken.subsets = wanted.subsets;
    taken.metadata.labels = wanted.metadata.labels;
    let annotations = taken.metadata.annotations.get_or_insert_default();
    annotations.remove(OVER_CAPACITY);
    annotations.extend(wanted.metadata.annotations.unwrap_or_default());
    taken
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if slices::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// Addresses by what tells them apart: address and Pod.
type Addresses = BTreeMap<(String, String), (EndpointAddress, bool)>;

/// Addresses with the ports they all have, in the order of the Service's ports.
fn subsets(service: &Service, backends: &[&Backend]) -> Vec<EndpointSubset> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let publishes = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
    let mut by_port: BTreeMap<(usize, i32), (Option<EndpointPort>, Addresses)> = BTreeMap::new();
    for backend in backends.iter().filter(|b| b.is_reachable()) {
        let Some(address) = address(service, backend) else {
            continue;
        };
        if backend.is_terminating && !publishes {
            continue;
        }
        let key = (address.ip.clone(), backend.uid.clone());
        let value = (address, publishes || backend.is_ready);
        for (at, port) in ports_of(service, ports, backend) {
            let entry = by_port
                .entry(at)
                .or_insert_with(|| (port, Addresses::new()));
            entry.1.insert(key.clone(), value.clone());
        }
    }
    let mut packed: Vec<(Addresses, Vec<EndpointPort>)> = Vec::new();
    for (port, addresses) in by_port.into_values() {
        match packed.iter_mut().find(|(same, _)| *same == addresses) {
            Some((_, ports)) => ports.extend(port),
            None => packed.push((addresses, port.into_iter().collect())),
        }
    }
    packed.into_iter().map(subset).collect()
}

fn subset((addresses, ports): (Addresses, Vec<EndpointPort>)) -> EndpointSubset {
    let (ready, not_ready): (Vec<_>, Vec<_>) =
        addresses.into_values().partition(|(_, ready)| *ready);
    let some = |addresses: Vec<(EndpointAddress, bool)>| {
        let addresses: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
        (!addresses.is_empty()).then_some(addresses)
    };
    EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(not_ready),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

/// The ports of a Service at one Pod, by their place in the Service and their number. A headless Service may have none, and has its
/// addresses then all the same.
fn ports_of(
    service: &Service,
    ports: &[ServicePort],
    backend: &Backend,
) -> Vec<((usize, i32), Option<EndpointPort>)> {
    if ports.is_empty() && slices::is_headless(service) {
        return vec![((0, 0), None)];
    }
    let numbered = ports.iter().enumerate();
    let known = numbered.filter_map(|(place, port)| Some((place, port, backend.target(port)?)));
    known
        .map(|(place, port, number)| {
            let port = EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: number,
                protocol: Some(protocol(port.protocol.as_deref()).into()),
                app_protocol: port.app_protocol.clone(),
            };
            ((place, number), Some(port))
        })
        .collect()
}

/// The first address of a Pod of the Service's first family.
fn address(service: &Service, backend: &Backend) -> Option<EndpointAddress> {
    let family = *slices::families(service).first()?;
    let ip = backend.ips.iter().find(|ip| family.has(ip));
    Some(EndpointAddress {
        ip: ip.map(IpAddr::to_string)?,
        hostname: backend.hostname_in(service),
        node_name: Some(backend.node.clone()).filter(|node| !node.is_empty()),
        target_ref: Some(backend.reference()),
    })
}

/// Leaves [`MOST_ADDRESSES`]: ready ones before others, and of each subset its share. Whether there were more.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|s| count(&s.addresses)).sum();
    let others: usize = subsets.iter().map(|s| count(&s.not_ready_addresses)).sum();
    if ready + others <= MOST_ADDRESSES {
        return false;
    }
    let shortens_ready = ready > MOST_ADDRESSES;
    let (most, of) = match shortens_ready {
        true => (MOST_ADDRESSES, ready),
        false => (MOST_ADDRESSES - ready, others),
    };
    let mut left = most;
    for subset in &mut *subsets {
        let list = match shortens_ready {
            true => {
                subset.not_ready_addresses = None;
                &mut subset.addresses
            }
            false => &mut subset.not_ready_addresses,
        };
        let share = (count(list) * most).div_ceil(of).min(left);
        if let Some(addresses) = list.as_mut() {
            addresses.truncate(share);
            left -= addresses.len();
        }
        list.take_if(|addresses| addresses.is_empty());
    }
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    true
}
