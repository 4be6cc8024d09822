//! How much a Pod asks for as a whole, and how much a node has, in one measure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::Pod;

use crate::kinds;
use crate::observed::ContainerKind;
use crate::resources::{self, List};

/// What a Pod is one of.
const PODS: &str = "pods";
/// The resources that are looked at before all others, in this order.
const FIRST: [&str; 4] = [PODS, "cpu", "memory", "ephemeral-storage"];
/// The address of a port on all addresses of the node.
const EVERY_ADDRESS: &str = "0.0.0.0";

/// Amounts by resource: thousandths of a processor, and whole units of everything else. A Pod is one of the node's `pods`, and holds
/// the node's ports that it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    amounts: BTreeMap<String, i64>,
    ports: BTreeSet<HostPort>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct HostPort {
    port: i32,
    protocol: String,
    address: String,
}

/// What there is too little of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Name of the resource.
    pub resource: String,
    /// What is asked for.
    pub requested: i64,
    /// What others hold.
    pub used: i64,
    /// What there is.
    pub capacity: i64,
}

impl Share {
    /// What a Pod asks for.
    pub fn of(pod: &Pod) -> Self {
        let mut amounts = measured(&resources::requests(pod));
        amounts.insert(PODS.to_owned(), 1);
        Share {
            amounts,
            ports: host_ports(pod),
        }
    }

    /// What a Pod on a node holds at most: what it asks for, or what its status says that it was allocated (§12.7).
    pub fn held_by(pod: &Pod) -> Self {
        let mut share = Self::of(pod);
        if let Some(allocated) = allocated(pod) {
            share.raise(&Self::of(&allocated));
        }
        share
    }

    /// What such a list says, as a node's `status.allocatable`.
    pub fn listed(list: Option<&List>) -> Self {
        Share {
            amounts: measured(&resources::parsed(list)),
            ports: BTreeSet::new(),
        }
    }

    /// Without extended resources that `other` does not know: somebody else may know them (§1.2).
    #[must_use]
    pub fn known_to(mut self, other: &Self) -> Self {
        let is_known = |name: &str| !is_extended(name) || other.amounts.contains_key(name);
        self.amounts.retain(|name, _| is_known(name));
        self
    }

    /// How much of a resource.
    pub(crate) fn amount(&self, name: &str) -> i64 {
        self.amounts.get(name).copied().unwrap_or(0)
    }

    /// Names, in the order in which shortages are told.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let others = self.amounts.keys().map(String::as_str);
        let others = others.filter(|name| !FIRST.contains(name));
        let first = FIRST.into_iter();
        first
            .filter(|name| self.amounts.contains_key(*name))
            .chain(others)
    }

    /// As much as both together, of either.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, more) in &other.amounts {
            let amount = self.amounts.entry(name.clone()).or_default();
            *amount = amount.saturating_add(*more);
        }
        self.ports.extend(other.ports.iter().cloned());
    }

    /// At least as much as the other, of either.
    pub(crate) fn raise(&mut self, other: &Self) {
        for (name, least) in &other.amounts {
            let amount = self.amounts.entry(name.clone()).or_default();
            *amount = (*amount).max(*least);
        }
        self.ports.extend(other.ports.iter().cloned());
    }

    /// Whether both name a port that only one can have.
    pub(crate) fn shares_port(&self, other: &Self) -> bool {
        let clash = |a: &HostPort, b: &HostPort| {
            let addresses = [&a.address, &b.address];
            a.port == b.port
                && a.protocol == b.protocol
                && (a.address == b.address || addresses.iter().any(|at| *at == EVERY_ADDRESS))
        };
        let mut mine = self.ports.iter();
        mine.any(|a| other.ports.iter().any(|b| clash(a, b)))
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage {
            resource,
            requested,
            used,
            capacity,
        } = self;
        write!(
            f,
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    }
}

impl Shortage {
    /// The scheduler's words.
    pub fn summary(&self) -> String {
        match self.resource.as_str() {
            PODS => "Too many pods".to_owned(),
            name => format!("Insufficient {name}"),
        }
    }

    /// Whether there would not be enough without the others either.
    pub fn is_for_good(&self) -> bool {
        self.resource != PODS && self.requested > self.capacity
    }
}

fn measured(list: &BTreeMap<String, Quantity>) -> BTreeMap<String, i64> {
    let measure = |(name, amount): (&String, &Quantity)| {
        let units = match name.as_str() {
            "cpu" => amount.milli_value(),
            _ => amount.value(),
        };
        (name.clone(), units)
    };
    list.iter().map(measure).collect()
}

/// Whether a resource is a device or the like, named by its vendor.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// Ports of containers that stay; where none is named, none is held.
fn host_ports(pod: &Pod) -> BTreeSet<HostPort> {
    let members = kinds::members(pod);
    let staying = members.iter().filter(|m| m.kind != ContainerKind::Init);
    let ports = staying.flat_map(|m| m.spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let text = |text: &Option<String>, default: &str| {
                let given = text.clone().filter(|text| !text.is_empty());
                given.unwrap_or_else(|| default.to_owned())
            };
            Some(HostPort {
                port: port.host_port.filter(|port| *port > 0)?,
                protocol: text(&port.protocol, "TCP"),
                address: text(&port.host_ip, EVERY_ADDRESS),
            })
        })
        .collect()
}

/// The Pod with the requests that its status says it was allocated, where it says so.
fn allocated(pod: &Pod) -> Option<Pod> {
    let status = pod.status.as_ref()?;
    let statuses = status.init_container_statuses.iter().flatten();
    let statuses = statuses.chain(status.container_statuses.iter().flatten());
    let lists: BTreeMap<&str, &List> = statuses
        .filter_map(|s| Some((s.name.as_str(), s.allocated_resources.as_ref()?)))
        .collect();
    if lists.is_empty() {
        return None;
    }
    let mut pod = pod.clone();
    let spec = pod.spec.as_mut()?;
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(&mut spec.containers) {
        if let Some(list) = lists.get(container.name.as_str()) {
            let requests = &mut container.resources.get_or_insert_default().requests;
            *requests = Some((*list).clone());
        }
    }
    Some(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value, status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": spec, "status": status})).unwrap()
    }

    fn amounts(share: &Share) -> Vec<(&str, i64)> {
        share.names().map(|n| (n, share.amount(n))).collect()
    }

    #[test]
    fn amounts_are_in_the_units_of_their_resource() {
        let requests = json!({"cpu": "1500m", "memory": "1Ki", "example.com/dongle": "2", "ephemeral-storage": "1k"});
        let spec = json!({"containers": [{"name": "a", "resources": {"requests": requests}}, {"name": "b", "resources": {"requests": {"cpu": 1}}}],
            "overhead": {"cpu": "1m"}});
        let share = Share::of(&pod(spec, json!({})));
        let wanted = [
            ("pods", 1),
            ("cpu", 2501),
            ("memory", 1024),
            ("ephemeral-storage", 1000),
            ("example.com/dongle", 2),
        ];
        assert_eq!(amounts(&share), wanted);
        let node = Share::listed(Some(&BTreeMap::new()));
        assert_eq!(amounts(&share.known_to(&node)), wanted[..4]);
    }

    #[test]
    fn a_pod_holds_what_it_was_allocated_until_it_is_smaller() {
        let spec = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "2"}}}]});
        for (allocated, cpu, memory) in [
            (json!({"cpu": "300m", "memory": "1"}), 300, 2),
            (json!({"cpu": "50m", "memory": "5"}), 100, 5),
            (json!(null), 100, 2),
        ] {
            let statuses = json!({"containerStatuses": [{"name": "a", "allocatedResources": allocated, "image": "", "imageID": "",
                "ready": true, "restartCount": 0}]});
            let share = Share::held_by(&pod(spec.clone(), statuses));
            assert_eq!(
                amounts(&share),
                [("pods", 1), ("cpu", cpu), ("memory", memory)]
            );
        }
    }

    #[test]
    fn one_port_of_the_node_is_held_once() {
        let with = |port: serde_json::Value, policy: Option<&str>| {
            let container = json!({"name": "a", "ports": [port], "restartPolicy": policy});
            Share::of(&pod(
                json!({"containers": [], "initContainers": [container]}),
                json!({}),
            ))
        };
        let stays = Some("Always");
        let plain = with(json!({"containerPort": 1, "hostPort": 80}), stays);
        let table = [
            (json!({"containerPort": 2, "hostPort": 80}), stays, true),
            (json!({"containerPort": 1}), stays, false),
            (json!({"containerPort": 1, "hostPort": 81}), stays, false),
            (
                json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}),
                stays,
                false,
            ),
            (
                json!({"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"}),
                stays,
                true,
            ),
            (json!({"containerPort": 1, "hostPort": 80}), None, false),
        ];
        for (port, policy, clash) in table {
            let other = with(port.clone(), policy);
            assert_eq!(plain.shares_port(&other), clash, "{port} {policy:?}");
            assert_eq!(other.shares_port(&plain), clash, "{port} {policy:?}");
        }
        let at = |address: &str| {
            with(
                json!({"containerPort": 1, "hostPort": 80, "hostIP": address}),
                stays,
            )
        };
        assert!(!at("127.0.0.1").shares_port(&at("127.0.0.2")));
        assert!(at("127.0.0.1").shares_port(&at("127.0.0.1")));
    }
}
