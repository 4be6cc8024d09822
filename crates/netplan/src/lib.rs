//! Where the traffic of Services goes, as upstream's kube-proxy decides it, and that of Pods' host ports: from Services, their
//! EndpointSlices and Pods to the table of redirects, and from one event to what changes in that table.
//!
//! [`redirects`] is the rule for one Service. [`State`] holds what is known and says what has changed since it was last asked; the
//! table it leads to depends on what is known only, not on the order in which it was heard. [`names`] is what they are called, [`policy`] what is let
//! through, and [`nodes`] which addresses the Pods of each node have.

mod endpoints;
mod hostport;
pub mod names;
pub mod nodes;
pub mod policy;
mod service;
mod state;

pub use endpoints::Slice;
pub use service::{Traffic, redirects};
pub use state::{Key, State};

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

/// The addresses a Pod reports, one of a family; in `podIP` alone where whoever reports knows no other.
fn pod_ips(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let listed = status.pod_ips.iter().flatten().map(|of| &of.ip);
    let all = status.pod_ip.iter().chain(listed);
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in all.filter_map(|text| text.parse::<IpAddr>().ok()) {
        if ips.iter().all(|known| known.is_ipv6() != ip.is_ipv6()) {
            ips.push(ip);
        }
    }
    ips
}
