//! The ports of the node that Pods ask for (`hostPort`, what CNI's portmap plugin serves elsewhere).

use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use nat::{Address, Front, Outside, Protocol, Redirect, Table};

/// Where the traffic to a Pod's host ports goes; empty for a Pod that is not on the node, is on its network, has no address or has
/// ended. Ports of app containers and sidecars count, as upstream's kubelet has it.
pub(crate) fn table(pod: &Pod, node: &str) -> Table {
    let (Some(spec), Some(ip)) = (&pod.spec, address(pod)) else {
        return Table::new();
    };
    if spec.node_name.as_deref() != Some(node) || spec.host_network == Some(true) {
        return Table::new();
    }
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let ports = spec.containers.iter().chain(sidecars);
    let ports = ports.flat_map(|container| container.ports.iter().flatten());
    ports.flat_map(|port| redirects(port, ip)).collect()
}

/// The Pod's address while its sandbox is there.
fn address(pod: &Pod) -> Option<Ipv4Addr> {
    let status = pod.status.as_ref()?;
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    status.pod_ip.as_ref()?.parse().ok().filter(|_| !has_ended)
}

fn redirects(port: &ContainerPort, ip: Ipv4Addr) -> Vec<(Front, Redirect)> {
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    let (Some(host), Some(inside), Some(protocol)) = (
        port.host_port.and_then(number),
        number(port.container_port),
        Protocol::from_name(port.protocol.as_deref().unwrap_or("TCP")),
    ) else {
        return Vec::new();
    };
    // Unlike node ports, those that name no address are on loopback as well.
    let addresses = match port.host_ip.as_deref() {
        None | Some("" | "0.0.0.0") => vec![Address::Node, Address::Ip(Ipv4Addr::LOCALHOST)],
        Some(ip) => ip.parse().map(Address::Ip).into_iter().collect(),
    };
    let redirect = |address| {
        let front = Front {
            address,
            protocol,
            port: host,
        };
        let is_loopback = matches!(address, Address::Ip(ip) if ip.is_loopback());
        let redirect = Redirect {
            backends: [SocketAddrV4::new(ip, inside)].into(),
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
