//! From a Service, the Pods it selects and the EndpointSlices it has: which slices to create, change and delete, as upstream's
//! endpointslice-controller does. Pure.
//!
//! A slice has the addresses of one family behind one set of ports, at most [`MOST_ENDPOINTS`]. An endpoint stays in the slice it is
//! in; those that are new fill slices that change anyway, then one that has room for all of them, then new slices. A Service with no
//! endpoint of a family has one empty slice of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::backend::{Backend, protocol};

/// Most endpoints in a slice.
pub(super) const MOST_ENDPOINTS: usize = 100;
/// The label with the name of a slice's Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says who keeps a slice.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who keeps the slices of this controller.
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label of slices and Endpoints of Services without a cluster address.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Longest name of an object.
const LONGEST_NAME: usize = 253;

/// What has to be done so that the slices of a Service are right.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) create: Vec<EndpointSlice>,
    /// Slices that exist, as they should be.
    pub(super) change: Vec<EndpointSlice>,
    pub(super) delete: Vec<EndpointSlice>,
}

/// An address family, by its name in `addressType` and `ipFamilies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    pub(super) fn has(self, ip: &IpAddr) -> bool {
        ip.is_ipv6() == (self == Family::V6)
    }
}

/// The selector of a Service whose endpoints are to be kept; none for those that have none, or are names elsewhere.
pub(super) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|s| !s.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then_some(selector)
}

/// Whether a Service has no cluster address.
pub(super) fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    matches!(address, None | Some("" | "None"))
}

/// The families a Service has, the first one first.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|s| s.ip_families.as_deref());
    let named = named.unwrap_or_default().iter();
    let mut families = Vec::new();
    for family in named.filter_map(|name| match name.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    if !families.is_empty() {
        return families;
    }
    let address = spec.and_then(|s| s.cluster_ip.as_deref());
    match address.and_then(|a| a.parse::<IpAddr>().ok()) {
        Some(IpAddr::V4(_)) => vec![Family::V4],
        Some(IpAddr::V6(_)) => vec![Family::V6],
        None => vec![Family::V4, Family::V6],
    }
}

/// Whether this Service owns a slice.
pub(super) fn owns(service: &Service, slice: &EndpointSlice) -> bool {
    let owners = slice.metadata.owner_references.iter().flatten();
    let mut services = owners.filter(|o| o.kind == "Service" && o.api_version == "v1");
    services.any(|o| Some(&o.uid) == service.metadata.uid.as_ref())
}

/// What makes the slices of a Service right. `backends` are the Pods it selects, `existing` the slices with its name that this
/// controller keeps.
pub(super) fn changes(
    service: &Service,
    backends: &[&Backend],
    existing: &[EndpointSlice],
) -> Changes {
    let mut all = Changes::default();
    let families = families(service);
    for family in &families {
        let of_family = |slice: &&EndpointSlice| slice.address_type == family.name();
        let existing: Vec<&EndpointSlice> = existing.iter().filter(of_family).collect();
        let changes = of_family_changes(service, *family, backends, &existing);
        all.create.extend(changes.create);
        all.change.extend(changes.change);
        all.delete.extend(changes.delete);
    }
    let other = |slice: &&EndpointSlice| families.iter().all(|f| f.name() != slice.address_type);
    all.delete.extend(existing.iter().filter(other).cloned());
    if service.metadata.deletion_timestamp.is_some() {
        all.create.clear();
    }
    all
}

fn of_family_changes(
    service: &Service,
    family: Family,
    backends: &[&Backend],
    existing: &[&EndpointSlice],
) -> Changes {
    let mut groups: BTreeMap<PortSet, Group> = BTreeMap::new();
    for backend in backends.iter().filter(|b| b.is_reachable()) {
        let ports = ports_of(service, backend);
        let group = groups.entry(PortSet::of(&ports)).or_default();
        group.ports = ports;
        if let Some(endpoint) = endpoint(service, family, backend) {
            group.wanted.insert(Key::of(&endpoint), endpoint);
        }
    }
    let mut changes = Changes::default();
    let mut by_ports: BTreeMap<PortSet, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        if owns(service, slice) {
            let ports = PortSet::of(slice.ports.as_deref().unwrap_or_default());
            by_ports.entry(ports).or_default().push(slice);
        } else {
            changes.delete.push((*slice).clone());
        }
    }
    for (ports, group) in groups {
        let has = by_ports.remove(&ports).unwrap_or_default();
        pack(service, family, group, &has, &mut changes);
    }
    let unwanted = by_ports.into_values().flatten().cloned();
    changes.delete.extend(unwanted);
    if existing.len() == changes.delete.len() && changes.create.is_empty() {
        let placeholder = new_slice(service, family, Vec::new());
        match changes.delete.as_slice() {
            [only] if is_same(only, &placeholder) => changes.delete.clear(),
            _ => changes.create.push(placeholder),
        }
    }
    reuse(service, &mut changes);
    changes
}

/// Endpoints behind one set of ports.
#[derive(Default)]
struct Group {
    ports: Vec<EndpointPort>,
    wanted: BTreeMap<Key, Endpoint>,
}

/// What an endpoint is known again by.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    namespace: Option<String>,
    name: Option<String>,
    hostname: Option<String>,
    addresses: Vec<String>,
}

impl Key {
    fn of(endpoint: &Endpoint) -> Self {
        let target = endpoint.target_ref.as_ref();
        let mut addresses = endpoint.addresses.clone();
        addresses.sort();
        Key {
            namespace: target.and_then(|t| t.namespace.clone()),
            name: target.and_then(|t| t.name.clone()),
            hostname: endpoint.hostname.clone().filter(|h| !h.is_empty()),
            addresses,
        }
    }
}

/// Ports in no order: slices with the same ones are alike.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortSet(Vec<(String, String, Option<i32>, Option<String>)>);

impl PortSet {
    pub(super) fn of(ports: &[EndpointPort]) -> Self {
        let mut ports: Vec<_> = ports
            .iter()
            .map(|port| {
                (
                    port.name.clone().unwrap_or_default(),
                    protocol(port.protocol.as_deref()).to_owned(),
                    port.port,
                    port.app_protocol.clone(),
                )
            })
            .collect();
        ports.sort();
        PortSet(ports)
    }
}

/// Sees to it that the endpoints of a group are each in one slice.
fn pack(
    service: &Service,
    family: Family,
    group: Group,
    existing: &[&EndpointSlice],
    changes: &mut Changes,
) {
    let (mut same, mut changed) = (Vec::new(), Vec::new());
    let Group { ports, mut wanted } = group;
    for slice in existing {
        let has = slice.endpoints.as_deref().unwrap_or_default();
        let kept: Vec<Endpoint> = has
            .iter()
            .filter_map(|e| wanted.remove(&Key::of(e)))
            .collect();
        let is_relabelled = slice.metadata.labels.as_ref() != Some(&labels(service));
        if kept.is_empty() && !has.is_empty() {
            changes.delete.push((*slice).clone());
        } else if kept != has || is_relabelled {
            changed.push(with(service, slice, kept));
        } else {
            same.push((*slice).clone());
        }
    }
    // Stable: of slices that are equally full, the first one is filled first.
    changed.sort_by_key(|slice| std::cmp::Reverse(filled(slice)));
    for slice in &mut changed {
        fill(slice, &mut wanted);
    }
    while !wanted.is_empty() {
        let room = |slice: &EndpointSlice| MOST_ENDPOINTS.checked_sub(filled(slice) + wanted.len());
        let fits = same.iter().enumerate();
        let fits = fits.filter_map(|(i, slice)| Some((room(slice)?, i))).min();
        if let Some((_, index)) = fits {
            let slice = same.remove(index);
            let has = slice.endpoints.clone().unwrap_or_default();
            let mut slice = with(service, &slice, has);
            fill(&mut slice, &mut wanted);
            changed.push(slice);
        } else {
            let mut slice = new_slice(service, family, ports.clone());
            fill(&mut slice, &mut wanted);
            changes.create.push(slice);
        }
    }
    changes.change.extend(changed);
}

fn filled(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn fill(slice: &mut EndpointSlice, wanted: &mut BTreeMap<Key, Endpoint>) {
    let endpoints = slice.endpoints.get_or_insert_default();
    while endpoints.len() < MOST_ENDPOINTS
        && let Some((_, endpoint)) = wanted.pop_first()
    {
        endpoints.push(endpoint);
    }
}

/// A slice that exists, with other endpoints.
fn with(service: &Service, slice: &EndpointSlice, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut slice = slice.clone();
    slice.metadata.labels = Some(labels(service));
    slice.endpoints = Some(endpoints);
    slice
}

/// Makes new slices of those that are not wanted any more.
fn reuse(service: &Service, changes: &mut Changes) {
    let unwanted = std::mem::take(&mut changes.delete);
    for slice in unwanted {
        if !owns(service, &slice) {
            changes.delete.push(slice);
            continue;
        }
        match changes.create.pop() {
            Some(new) => {
                let mut reused = with(service, &slice, new.endpoints.unwrap_or_default());
                reused.ports = new.ports;
                changes.change.push(reused);
            }
            None => changes.delete.push(slice),
        }
    }
}

/// Whether an empty slice is as it should be.
fn is_same(slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
    filled(slice) == 0
        && slice.ports.iter().flatten().next().is_none()
        && slice.metadata.labels == placeholder.metadata.labels
        && slice.metadata.owner_references == placeholder.metadata.owner_references
}

/// What the names of a Service's slices begin with.
pub(super) fn prefix(service: &str) -> String {
    let dash = if service.len() < LONGEST_NAME {
        "-"
    } else {
        ""
    };
    format!("{service}{dash}")
}

fn new_slice(service: &Service, family: Family, ports: Vec<EndpointPort>) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: name.clone(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&name)),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: family.name().into(),
        ports: Some(ports),
        endpoints: Some(Vec::new()),
    }
}

/// The labels of a Service's slices: its own, and who they belong to.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// The ports of a Service at one Pod; those it has no port for are left out.
fn ports_of(service: &Service, backend: &Backend) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(backend.target(port)?),
                protocol: Some(protocol(port.protocol.as_deref()).into()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// A Pod as an endpoint; none if it has no address of this family.
fn endpoint(service: &Service, family: Family, backend: &Backend) -> Option<Endpoint> {
    let addresses = backend.ips.iter().filter(|ip| family.has(ip));
    let addresses: Vec<String> = addresses.map(IpAddr::to_string).collect();
    if addresses.is_empty() {
        return None;
    }
    let spec = service.spec.as_ref();
    let publishes = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
    // Who knows nothing of terminating endpoints must not send to them.
    let ready = publishes || (backend.is_ready && !backend.is_terminating);
    let node = Some(&backend.node).filter(|node| !node.is_empty());
    let distribution = spec.and_then(|s| s.traffic_distribution.as_deref());
    let hints = node.filter(|_| ready && distribution == Some("PreferSameNode"));
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(backend.is_ready),
            terminating: Some(backend.is_terminating),
        }),
        hostname: backend.hostname_in(service),
        node_name: node.cloned(),
        target_ref: Some(backend.reference()),
        hints: hints.map(|node| EndpointHints {
            for_nodes: Some(vec![ForNode { name: node.clone() }]),
            for_zones: None,
        }),
        ..Endpoint::default()
    })
}

/// Slices that nobody needs, where their Service is gone: those a Service owns.
pub(super) fn orphans<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<EndpointSlice> {
    let is_owned = |slice: &&EndpointSlice| {
        let mut owners = slice.metadata.owner_references.iter().flatten();
        owners.any(|o| o.kind == "Service" && o.api_version == "v1")
    };
    slices.into_iter().filter(is_owned).cloned().collect()
}
