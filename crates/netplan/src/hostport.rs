//! The ports of the node that Pods ask for (`hostPort`, what CNI's portmap plugin serves elsewhere).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use nat::{Address, Family, Front, Outside, Protocol, Redirect, Table};

/// Where the traffic to a Pod's host ports goes; empty for a Pod that is not on the node, is on its network, has no address or has
/// ended. Ports of app containers and sidecars count, as upstream's kubelet has it.
pub(crate) fn table(pod: &Pod, node: &str) -> Table {
    let (Some(spec), ips) = (&pod.spec, addresses(pod)) else {
        return Table::new();
    };
    if spec.node_name.as_deref() != Some(node) || spec.host_network == Some(true) {
        return Table::new();
    }
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let ports = spec.containers.iter().chain(sidecars);
    let ports = ports.flat_map(|container| container.ports.iter().flatten());
    let redirects = |port| ips.iter().flat_map(move |ip| redirects(port, *ip));
    ports.flat_map(redirects).collect()
}

/// The Pod's addresses while its sandbox is there.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    match phase {
        Some("Succeeded" | "Failed") => Vec::new(),
        _ => crate::pod_ips(pod),
    }
}

fn redirects(port: &ContainerPort, ip: IpAddr) -> Vec<(Front, Redirect)> {
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    let (Some(host), Some(inside), Some(protocol)) = (
        port.host_port.and_then(number),
        number(port.container_port),
        Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP")),
    ) else {
        return Vec::new();
    };
    let addresses = match (port.host_ip.as_deref().unwrap_or_default(), Family::of(ip)) {
        // Unlike node ports, those that name no address are on loopback as well; the kernel sends nothing away from that of IPv6.
        ("" | "0.0.0.0", Family::V4) => {
            vec![Address::Node(Family::V4), Ipv4Addr::LOCALHOST.into()]
        }
        ("" | "::", Family::V6) => vec![Address::Node(Family::V6)],
        (host, family) => {
            let host = host.parse::<IpAddr>().ok();
            let is_served = |host: &IpAddr| {
                Family::of(*host) == family && (host.is_ipv4() || !host.is_loopback())
            };
            let host = host.filter(is_served).map(Address::Ip);
            host.into_iter().collect()
        }
    };
    let redirect = |address| {
        let front = Front {
            address,
            protocol,
            port: host,
        };
        let is_loopback = matches!(address, Address::Ip(ip) if ip.is_loopback());
        let redirect = Redirect {
            backends: [SocketAddr::new(ip, inside)].into(),
            outside: match is_loopback {
                true => Outside::Untouched,
                false => Outside::Same,
            },
            ..Redirect::default()
        };
        (front, redirect)
    };
    addresses.into_iter().map(redirect).collect()
}
