//! What probes and lifecycle hooks are made with: a program in the container, an HTTP request, a TCP connection, gRPC's health
//! service. Requests come from the node, so nothing is needed in the image (spec `§5.3`, `§6`).
//!
//! Error texts are those of Go's standard library, which users search for.

pub(crate) mod exec;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod tcp;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Most bytes of an answer that are kept.
pub(crate) const MOST_OUTPUT: usize = 10 * 1024;

/// The port a handler means: a number, or a name among the container's ports.
///
/// # Errors
/// There is no such port; the text says so.
pub(crate) fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            ports
                .into_iter()
                .find(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port)
                .or_else(|| name.parse().ok())
        }
    };
    match number.map(u16::try_from) {
        Some(Ok(number)) if number > 0 => Ok(number),
        Some(_) => Err(format!("invalid port number: {}", shown(port))),
        None => Err(format!(
            "couldn't find port: {} in container {}",
            shown(port),
            container.name
        )),
    }
}

fn shown(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// The host a handler means: its own, else the Pod.
pub(crate) fn host(own: Option<&str>, pod_ips: &[IpAddr]) -> String {
    match own.filter(|host| !host.is_empty()) {
        Some(host) => host.to_owned(),
        None => pod_ips.first().map(ToString::to_string).unwrap_or_default(),
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What the kernel says, in lower case and without its number.
pub(crate) fn kernel_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
