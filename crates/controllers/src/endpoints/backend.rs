//! What the rules look at of a Pod, and which of its ports a port of a Service means. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lifecycle::kinds::{self, Member};

/// What there is to know of a Pod behind Services: while this is the same, so are all slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The node it is on; empty: none yet.
    pub(super) node: String,
    pub(super) hostname: String,
    pub(super) subdomain: String,
    /// In the order of its status.
    pub(super) ips: Vec<IpAddr>,
    /// Its condition Ready is True.
    pub(super) is_ready: bool,
    /// It is marked for deletion.
    pub(super) is_terminating: bool,
    /// Succeeded or Failed: it will never run again.
    pub(super) is_over: bool,
    /// Named ports of app containers, then of sidecars.
    ports: Vec<NamedPort>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NamedPort {
    name: String,
    protocol: String,
    number: i32,
}

impl Backend {
    /// Looks at a Pod.
    pub(super) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let ips = status.and_then(|s| s.pod_ips.as_deref());
        Backend {
            namespace: text(pod.metadata.namespace.as_ref()),
            name: text(pod.metadata.name.as_ref()),
            uid: text(pod.metadata.uid.as_ref()),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            node: text(spec.and_then(|s| s.node_name.as_ref())),
            hostname: text(spec.and_then(|s| s.hostname.as_ref())),
            subdomain: text(spec.and_then(|s| s.subdomain.as_ref())),
            ips: ips
                .unwrap_or_default()
                .iter()
                .filter_map(|ip| ip.ip.parse().ok())
                .collect(),
            is_ready: api::pod::is_ready(pod),
            is_terminating: pod.metadata.deletion_timestamp.is_some(),
            is_over: api::pod::is_over(pod),
            ports: named_ports(pod),
        }
    }

    /// Whether a Service with this selector means it.
    pub(super) fn matches(&self, selector: &BTreeMap<String, String>) -> bool {
        selector
            .iter()
            .all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Whether anything may be sent to it at all: it has an address and will run on.
    pub(super) fn is_reachable(&self) -> bool {
        !self.is_over && !self.ips.is_empty()
    }

    /// The hostname that DNS knows it by below this Service.
    pub(super) fn hostname_in(&self, service: &Service) -> Option<String> {
        let is_here = service.metadata.name.as_deref() == Some(&*self.subdomain);
        (is_here && !self.hostname.is_empty()).then(|| self.hostname.clone())
    }

    /// The number of the port a port of a Service means; none if it has no port of that name and protocol.
    pub(super) fn target(&self, port: &ServicePort) -> Option<i32> {
        match &port.target_port {
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => {
                let wanted = (name.as_str(), protocol(port.protocol.as_deref()));
                let mut ports = self.ports.iter();
                ports
                    .find(|p| (p.name.as_str(), p.protocol.as_str()) == wanted)
                    .map(|p| p.number)
            }
            None => Some(port.port),
        }
    }

    /// What an endpoint says it stands for.
    pub(super) fn reference(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// A protocol as it is written, or the one that is meant without.
pub(super) fn protocol(written: Option<&str>) -> &str {
    written.unwrap_or("TCP")
}

fn named_ports(pod: &Pod) -> Vec<NamedPort> {
    let sidecars = kinds::init(pod).into_iter().filter(Member::is_sidecar);
    let all = kinds::apps(pod).into_iter().chain(sidecars);
    let all = all.flat_map(|member| member.spec.ports.clone().unwrap_or_default());
    all.filter_map(|port| {
        Some(NamedPort {
            protocol: protocol(port.protocol.as_deref()).to_owned(),
            number: port.container_port,
            name: port.name?,
        })
    })
    .collect()
}
