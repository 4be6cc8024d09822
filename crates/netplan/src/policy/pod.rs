//! What matters of a Pod to policies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::pod::{MIRROR, annotation};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use nat::{Family, Protocol};

/// Labels of a Pod or a namespace.
pub(super) type Labels = BTreeMap<String, String>;

/// While this is the same, policies mean the same for the Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) labels: Labels,
    /// Ports that have a name.
    pub(super) ports: Vec<NamedPort>,
    /// It has an address of its own, or will: it is not on the network of its node, which is the node to policies, and has not ended.
    pub(super) is_on_network: bool,
    /// The addresses it reports, one of a family.
    pub(super) addresses: Vec<IpAddr>,
    /// When it was created, as text that sorts by time.
    pub(super) since: String,
}

/// A port that rules can call by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedPort {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

impl Member {
    /// Looks at a Pod.
    pub(super) fn of(pod: &Pod) -> Self {
        let (meta, status) = (&pod.metadata, pod.status.as_ref());
        let spec = pod.spec.clone().unwrap_or_default();
        let phase = status.and_then(|status| status.phase.as_deref());
        let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
        let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
        let containers = spec.containers.iter().chain(sidecars);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let since = meta.creation_timestamp.as_ref();
        Member {
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: uid(pod),
            labels: meta.labels.clone().unwrap_or_default(),
            ports: ports.filter_map(named).collect(),
            is_on_network: spec.host_network != Some(true) && !has_ended,
            addresses: crate::pod_ips(pod),
            since: since.map(|time| time.0.to_string()).unwrap_or_default(),
        }
    }
}

impl Member {
    /// The address of a family it reports.
    pub(super) fn address(&self, family: Family) -> Option<IpAddr> {
        let mut of_family = self.addresses.iter().copied();
        of_family.find(|ip| Family::of(*ip) == family)
    }
}

/// The UID that its node knows it by: for what stands for a static Pod, that Pod's own.
fn uid(pod: &Pod) -> String {
    let own = pod.metadata.uid.as_deref().unwrap_or_default();
    annotation(pod, MIRROR).unwrap_or(own).to_owned()
}

fn named(port: &ContainerPort) -> Option<NamedPort> {
    Some(NamedPort {
        name: port.name.clone()?,
        protocol: Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP"))?,
        number: u16::try_from(port.container_port).ok()?,
    })
}
