//! The semantics of NetworkPolicies, said once more and plainly: by looking at every object for every connection.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nat::{IpRange, Protocol};

use crate::plan::Connection;

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    pub(crate) pods: BTreeMap<netplan::Key, Pod>,
    pub(crate) policies: BTreeMap<netplan::Key, NetworkPolicy>,
}

type Labels = BTreeMap<String, String>;

impl World {
    pub(crate) fn lets_through(&self, connection: &Connection) -> bool {
        let (from, to) = (self.at(connection.from), self.at(connection.to));
        connection.from == connection.to
            || (from.is_none_or(|pod| self.lets(pod, connection, "Egress"))
                && to.is_none_or(|pod| self.lets(pod, connection, "Ingress")))
    }

    /// The Pod with this address: not one on the node's network, and not one that has ended.
    fn at(&self, address: IpAddr) -> Option<&Pod> {
        self.pods.values().find(|pod| {
            let status = pod.status.as_ref().expect("a status");
            let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            let is_on_host = pod.spec.as_ref().expect("a spec").host_network == Some(true);
            let mut ips = status.pod_ips.iter().flatten();
            let is_its = ips.any(|of| of.ip == address.to_string());
            is_its && !has_ended && !is_on_host
        })
    }

    fn lets(&self, pod: &Pod, connection: &Connection, kind: &str) -> bool {
        let isolating = self.policies.values().filter(|policy| {
            let spec = policy.spec.as_ref().expect("a spec");
            let selector = spec.pod_selector.clone().unwrap_or_default();
            policy.metadata.namespace == pod.metadata.namespace
                && selects(&selector, &labels(&pod.metadata.labels))
                && spec.policy_types.iter().flatten().any(|of| of == kind)
        });
        let isolating: Vec<_> = isolating.collect();
        let lets = |policy: &&NetworkPolicy| {
            let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
            let spec = policy.spec.as_ref().expect("a spec");
            let rules: Vec<_> = match kind {
                "Ingress" => spec
                    .ingress
                    .iter()
                    .flatten()
                    .map(|r| (&r.from, &r.ports))
                    .collect(),
                _ => spec
                    .egress
                    .iter()
                    .flatten()
                    .map(|r| (&r.to, &r.ports))
                    .collect(),
            };
            let peer = match kind {
                "Ingress" => connection.from,
                _ => connection.to,
            };
            rules.iter().any(|(peers, ports)| {
                let (peers, ports) = (peers.iter().flatten(), ports.iter().flatten());
                let (peers, ports): (Vec<_>, Vec<_>) = (peers.collect(), ports.collect());
                let is_peer = |of: &&NetworkPolicyPeer| self.is_peer(of, peer, namespace);
                let is_port = |of: &&NetworkPolicyPort| self.is_port(of, connection);
                (peers.is_empty() || peers.iter().any(is_peer))
                    && (ports.is_empty() || ports.iter().any(is_port))
            })
        };
        isolating.is_empty() || isolating.iter().any(lets)
    }

    fn is_peer(&self, peer: &NetworkPolicyPeer, address: IpAddr, namespace: &str) -> bool {
        if let Some(block) = &peer.ip_block {
            let contains = |text: &String| {
                let range: Option<IpRange> = text.parse().ok();
                range.is_some_and(|range| range.contains(address))
            };
            return contains(&block.cidr) && !block.except.iter().flatten().any(contains);
        }
        let Some(pod) = self.at(address) else {
            return false;
        };
        let home = pod.metadata.namespace.as_deref().unwrap_or_default();
        let is_there = match &peer.namespace_selector {
            Some(selector) => {
                let namespace = self.namespaces.get(home);
                selects(
                    selector,
                    &labels(&namespace.and_then(|n| n.metadata.labels.clone())),
                )
            }
            None => home == namespace,
        };
        let selector = peer.pod_selector.clone().unwrap_or_default();
        is_there && selects(&selector, &labels(&pod.metadata.labels))
    }

    fn is_port(&self, port: &NetworkPolicyPort, connection: &Connection) -> bool {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if Protocol::from_name(protocol) != Some(connection.protocol) {
            return false;
        }
        let number = i32::from(connection.port);
        match &port.port {
            None => true,
            Some(IntOrString::Int(first)) => {
                (*first..=port.end_port.unwrap_or(*first)).contains(&number)
            }
            Some(IntOrString::String(name)) => {
                let spec = self.at(connection.to).and_then(|pod| pod.spec.as_ref());
                let containers = spec.iter().flat_map(|spec| &spec.containers);
                let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
                ports.any(|of| {
                    of.name.as_ref() == Some(name)
                        && of.container_port == number
                        && of.protocol.as_deref().unwrap_or("TCP") == protocol
                })
            }
        }
    }
}

fn labels(labels: &Option<Labels>) -> Labels {
    labels.clone().unwrap_or_default()
}

/// By `matchLabels`, and by expressions with `NotIn`.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let mut wanted = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|of| {
            assert_eq!(of.operator, "NotIn");
            let values = of.values.iter().flatten();
            let mut values = values.filter(|value| labels.get(&of.key) == Some(value));
            values.next().is_none()
        })
}
