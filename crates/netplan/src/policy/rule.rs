//! What a policy says, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::selector::Selector;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nat::policy::{Block, Door, Peers, PortRange, Ports, Rule, Way};
use nat::{IpRange, Protocol};

use super::pod::{Labels, Member};

/// What matters of a NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    namespace: String,
    selector: Selector,
    /// What it lets in, if it isolates Pods that way.
    ingress: Option<Vec<Passage>>,
    /// What it lets out, if it isolates Pods that way.
    egress: Option<Vec<Passage>>,
}

/// A rule's way and number in its policy.
pub(super) type Place = (Way, usize);

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passage {
    way: Way,
    /// `None`: anybody.
    peers: Option<Vec<Peer>>,
    /// `None`: all of them.
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Peer {
    Pods {
        /// `None`: the policy's own.
        namespaces: Option<Selector>,
        pods: Selector,
    },
    Block(Block),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Port {
    Numbers(PortRange),
    Named(Protocol, String),
}

impl Policy {
    /// Looks at a policy.
    pub(super) fn of(policy: &NetworkPolicy) -> Self {
        let spec = policy.spec.clone().unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        let is_about = |name: &str| types.iter().any(|of| of == name);
        let ingress = spec.ingress.unwrap_or_default();
        let egress = spec.egress.unwrap_or_default();
        // What the API fills in where no type is said.
        let goes_out = is_about("Egress") || (types.is_empty() && !egress.is_empty());
        let goes_in = is_about("Ingress") || types.is_empty();
        let ingress = ingress
            .iter()
            .map(|rule| Passage::of(Way::In, rule.from.as_deref(), rule.ports.as_deref()));
        let egress = egress
            .iter()
            .map(|rule| Passage::of(Way::Out, rule.to.as_deref(), rule.ports.as_deref()));
        Policy {
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            selector: spec
                .pod_selector
                .as_ref()
                .map_or_else(Selector::everything, read),
            ingress: goes_in.then(|| ingress.collect()),
            egress: goes_out.then(|| egress.collect()),
        }
    }

    /// Whether it is about this Pod.
    fn selects(&self, pod: &Member) -> bool {
        pod.namespace == self.namespace && self.selector.matches(&pod.labels)
    }

    /// Whether the Pod is a peer of one of its rules by what it is called; `labels` are those of its namespace.
    fn admits(&self, passage: &Passage, pod: &Member, labels: &Labels) -> bool {
        let is_one = |peer: &Peer| match peer {
            Peer::Block(_) => false,
            Peer::Pods { namespaces, pods } => {
                let is_there = match namespaces {
                    Some(selector) => selector.matches(labels),
                    None => pod.namespace == self.namespace,
                };
                is_there && pods.matches(&pod.labels)
            }
        };
        passage.peers.iter().flatten().any(is_one)
    }
}

impl Passage {
    fn of(
        way: Way,
        peers: Option<&[NetworkPolicyPeer]>,
        ports: Option<&[NetworkPolicyPort]>,
    ) -> Self {
        let peers = peers.filter(|peers| !peers.is_empty());
        let ports = ports.filter(|ports| !ports.is_empty());
        Passage {
            way,
            peers: peers.map(|peers| peers.iter().filter_map(Peer::of).collect()),
            ports: ports.map(|ports| ports.iter().filter_map(Port::of).collect()),
        }
    }

    /// What of it does not depend on Pods.
    pub(super) fn rule(&self) -> Rule {
        let block = |peer: &Peer| match peer {
            Peer::Block(block) => Some(block.clone()),
            Peer::Pods { .. } => None,
        };
        let numbers = |port: &Port| match port {
            Port::Numbers(range) => Some(*range),
            Port::Named(..) => None,
        };
        Rule {
            way: self.way,
            peers: match &self.peers {
                None => Peers::Any,
                Some(peers) => Peers::Some(peers.iter().filter_map(block).collect()),
            },
            ports: match &self.ports {
                None => Ports::Any,
                Some(ports) => Ports::Some(ports.iter().filter_map(numbers).collect()),
            },
        }
    }

    /// Whether an address is at the other end, whosever it is.
    fn covers(&self, address: IpAddr) -> bool {
        match &self.peers {
            None => true,
            Some(peers) => peers.iter().any(|peer| match peer {
                Peer::Block(block) => block.contains(address),
                Peer::Pods { .. } => false,
            }),
        }
    }

    /// The ports of the Pod that it calls by name.
    fn doors(&self, pod: &Member, address: IpAddr) -> BTreeSet<Door> {
        let ports = self.ports.iter().flatten();
        let named = ports.filter_map(|port| match port {
            Port::Named(protocol, name) => Some((*protocol, name)),
            Port::Numbers(_) => None,
        });
        named
            .flat_map(|(protocol, name)| {
                let ports = pod.ports.iter();
                let ports =
                    ports.filter(move |port| port.protocol == protocol && port.name == *name);
                ports.map(move |port| Door {
                    address,
                    protocol,
                    port: port.number,
                })
            })
            .collect()
    }
}

impl Peer {
    /// `None` for what is no block.
    fn of(peer: &NetworkPolicyPeer) -> Option<Self> {
        if let Some(block) = &peer.ip_block {
            return read_block(block).map(Peer::Block);
        }
        Some(Peer::Pods {
            namespaces: peer.namespace_selector.as_ref().map(read),
            pods: peer
                .pod_selector
                .as_ref()
                .map_or_else(Selector::everything, read),
        })
    }
}

impl Port {
    /// `None` for what is no port.
    fn of(port: &NetworkPolicyPort) -> Option<Self> {
        let protocol = Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP"))?;
        let range = |first, last| {
            let first = u16::try_from(first).ok()?;
            let last = u16::try_from(last).ok().filter(|last| *last >= first)?;
            Some(Port::Numbers(PortRange {
                protocol,
                first,
                last,
            }))
        };
        match &port.port {
            None => range(0, u16::MAX.into()),
            Some(IntOrString::Int(first)) => range(*first, port.end_port.unwrap_or(*first)),
            Some(IntOrString::String(name)) => Some(Port::Named(protocol, name.clone())),
        }
    }
}

fn read_block(block: &IPBlock) -> Option<Block> {
    let except = block.except.iter().flatten();
    Some(Block {
        range: block.cidr.parse().ok()?,
        except: except
            .filter_map(|text| text.parse::<IpRange>().ok())
            .collect(),
    })
}

/// What is no selector selects nothing.
fn read(selector: &LabelSelector) -> Selector {
    Selector::from_object(Some(selector)).unwrap_or_else(|_| Selector::nothing())
}

/// What one policy means for one Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Only what policies let in gets to it.
    pub(super) is_isolated_in: bool,
    /// Only what policies let out gets out of it.
    pub(super) is_isolated_out: bool,
    /// Rules whose peer it is.
    pub(super) member_of: BTreeSet<Place>,
    /// What rules call by name of it.
    pub(super) doors: BTreeMap<Place, BTreeSet<Door>>,
}

impl Policy {
    /// What it means for a Pod with an address; `labels` are those of its namespace.
    pub(super) fn part(&self, pod: &Member, address: IpAddr, labels: &Labels) -> Part {
        let is_selected = self.selects(pod);
        let mut part = Part {
            is_isolated_in: is_selected && self.ingress.is_some(),
            is_isolated_out: is_selected && self.egress.is_some(),
            ..Part::default()
        };
        for (place, passage) in self.passages() {
            let is_member = self.admits(passage, pod, labels);
            if is_member {
                part.member_of.insert(place);
            }
            let is_called = match passage.way {
                Way::In => is_selected,
                Way::Out => is_member || passage.covers(address),
            };
            let doors = passage.doors(pod, address);
            if is_called && !doors.is_empty() {
                part.doors.insert(place, doors);
            }
        }
        part
    }

    /// Every rule with its way and number.
    pub(super) fn passages(&self) -> impl Iterator<Item = (Place, &Passage)> {
        let ingress = self.ingress.iter().flatten().enumerate();
        let egress = self.egress.iter().flatten().enumerate();
        let ingress = ingress.map(|(n, passage)| ((Way::In, n), passage));
        ingress.chain(egress.map(|(n, passage)| ((Way::Out, n), passage)))
    }
}
