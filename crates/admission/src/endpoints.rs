//! Endpoints.

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;

use crate::meta::invalid_text;
use crate::view::{self, At, get, same};
use crate::{Rules, Subresource, generic, meta, net};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: |object| validate(object, None),
    validate_update,
};

/// Protocols of ports everywhere.
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

fn default(object: &mut Value) {
    for subset in view::list_mut(object, "subsets") {
        for port in view::list_mut(subset, "ports") {
            view::set_if_zero(port, "protocol", "TCP");
        }
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = meta::validate(object, true, names::dns1123_subdomain);
    let subsets = At::field(object, "subsets");
    if !old.is_some_and(|old| same(get(old, "subsets"), subsets.value)) {
        errors.extend(subsets.items().flat_map(|subset| validate_subset(&subset)));
    }
    errors
}

fn validate_subset(subset: &At<'_>) -> ErrorList {
    let (ready, not_ready, ports) = (
        subset.get("addresses"),
        subset.get("notReadyAddresses"),
        subset.get("ports"),
    );
    let mut errors = ErrorList::new();
    if ready.len() + not_ready.len() == 0 {
        errors.push(Error::required(
            &subset.path,
            "must specify `addresses` or `notReadyAddresses`",
        ));
    }
    errors.extend(
        ready
            .items()
            .chain(not_ready.items())
            .flat_map(|address| validate_address(&address)),
    );
    let named = ports.len() > 1;
    errors.extend(ports.items().flat_map(|port| validate_port(&port, named)));
    errors
}

fn validate_address(address: &At<'_>) -> ErrorList {
    let ip = address.get("ip");
    let mut errors = net::ip(&ip.path, ip.text(), &[]);
    let hostname = address.get("hostname");
    if !hostname.text().is_empty() {
        errors.extend(invalid_text(
            &hostname,
            names::dns1123_label(hostname.text()),
        ));
    }
    let node = address.get("nodeName");
    if node.given() {
        errors.extend(invalid_text(&node, names::dns1123_subdomain(node.text())));
    }
    errors.extend(net::endpoint_ip(&ip.path, ip.text()));
    errors
}

fn validate_port(port: &At<'_>, named: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let name = port.get("name");
    match name.text() {
        "" if named => errors.push(Error::required(&name.path, "")),
        "" => {}
        text => errors.extend(invalid_text(&name, names::dns1123_label(text))),
    }
    errors.extend(crate::pod::port_number(&port.get("port")));
    errors.extend(protocol(&port.get("protocol")));
    errors.extend(app_protocol(&port.get("appProtocol")));
    errors
}

/// TCP, UDP or SCTP.
pub(crate) fn protocol(at: &At<'_>) -> ErrorList {
    match at.text() {
        "" => vec![Error::required(&at.path, "")],
        known if PROTOCOLS.contains(&known) => ErrorList::new(),
        other => vec![Error::not_supported(&at.path, other, &PROTOCOLS)],
    }
}

/// A qualified name, when given.
pub(crate) fn app_protocol(at: &At<'_>) -> ErrorList {
    if at.given() {
        invalid_text(at, names::qualified_name(at.text()))
    } else {
        ErrorList::new()
    }
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = meta::validate_update(new, old);
    errors.extend(validate(new, Some(old)));
    errors
}
