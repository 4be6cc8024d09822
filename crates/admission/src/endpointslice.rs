//! EndpointSlices.

use std::net::IpAddr;

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use crate::endpoints::{app_protocol, protocol};
use crate::meta::invalid_text;
use crate::view::{self, At, get, same, text};
use crate::{Rules, Subresource, meta, net};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create,
    prepare_update,
    validate_create: |object| validate(object, None),
    validate_update,
};

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
const MAX_HINTS: usize = 8;

fn default(object: &mut Value) {
    for port in view::list_mut(object, "ports") {
        view::set_if_absent(port, "name", "");
        view::set_if_absent(port, "protocol", "TCP");
    }
}

fn prepare_create(object: &mut Value) {
    view::object(view::entry(object, "metadata")).insert("generation".to_owned(), 1.into());
}

fn prepare_update(_: Subresource, new: &mut Value, old: &Value) {
    let changed = ["addressType", "endpoints", "ports"]
        .iter()
        .any(|name| !same(get(new, name), get(old, name)))
        || !same(
            view::dig(new, &["metadata", "labels"]),
            view::dig(old, &["metadata", "labels"]),
        );
    meta::count_generation(new, old, changed);
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = meta::validate(object, true, names::dns1123_subdomain);
    let kind = At::field(object, "addressType");
    match kind.text() {
        "" => errors.push(Error::required(&kind.path, "")),
        known if ADDRESS_TYPES.contains(&known) => {}
        other => errors.push(Error::not_supported(&kind.path, other, &ADDRESS_TYPES)),
    }
    errors.extend(validate_ports(&At::field(object, "ports")));
    let endpoints = At::field(object, "endpoints");
    if !old.is_some_and(|old| same(get(old, "endpoints"), endpoints.value)) {
        errors.extend(validate_endpoints(&endpoints, kind.text()));
    }
    errors
}

fn validate_ports(ports: &At<'_>) -> ErrorList {
    if ports.len() > MAX_PORTS {
        return vec![Error::too_many(&ports.path, ports.len(), MAX_PORTS)];
    }
    let mut errors = ErrorList::new();
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            errors.extend(invalid_text(&name, names::dns1123_label(name.text())));
        }
        if seen.contains(&name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        } else {
            seen.push(name.text());
        }
        errors.extend(protocol(&port.get("protocol")));
        errors.extend(app_protocol(&port.get("appProtocol")));
    }
    errors
}

fn validate_endpoints(endpoints: &At<'_>, kind: &str) -> ErrorList {
    if endpoints.len() > MAX_ENDPOINTS {
        return vec![Error::too_many(
            &endpoints.path,
            endpoints.len(),
            MAX_ENDPOINTS,
        )];
    }
    endpoints
        .items()
        .flat_map(|endpoint| validate_endpoint(&endpoint, kind))
        .collect()
}

fn validate_endpoint(endpoint: &At<'_>, kind: &str) -> ErrorList {
    let addresses = endpoint.get("addresses");
    let mut errors = ErrorList::new();
    match addresses.len() {
        0 => errors.push(Error::required(
            &addresses.path,
            "must contain at least 1 address",
        )),
        n if n > MAX_ADDRESSES => errors.push(Error::too_many(&addresses.path, n, MAX_ADDRESSES)),
        _ => {}
    }
    errors.extend(
        addresses
            .items()
            .flat_map(|address| validate_address(&address, &addresses.path, kind)),
    );
    let node = endpoint.get("nodeName");
    if node.given() {
        errors.extend(invalid_text(&node, names::dns1123_subdomain(node.text())));
    }
    let topology = endpoint.get("deprecatedTopology");
    if topology.len() > 16 {
        errors.push(Error::too_many(&topology.path, topology.len(), 16));
    }
    errors.extend(meta::labels(&topology));
    let hostname = endpoint.get("hostname");
    if hostname.given() {
        errors.extend(invalid_text(
            &hostname,
            names::dns1123_label(hostname.text()),
        ));
    }
    errors.extend(hints(
        &endpoint.get("hints").get("forZones"),
        names::label_value,
    ));
    errors.extend(hints(
        &endpoint.get("hints").get("forNodes"),
        names::dns1123_subdomain,
    ));
    errors
}

fn validate_address(address: &At<'_>, list: &Path, kind: &str) -> ErrorList {
    let value = address.text();
    let family = |wanted: bool, name: &str| {
        if wanted {
            vec![]
        } else {
            vec![Error::invalid(
                list,
                value,
                format!("must be an {name} address"),
            )]
        }
    };
    let mut errors = match kind {
        "IPv4" => net::ip(&address.path, value, &[]),
        "IPv6" => canonical_ip(address),
        "FQDN" => return fqdn(address),
        _ => return ErrorList::new(),
    };
    if errors.is_empty() {
        let is_v6 = value.contains(':');
        errors.extend(if kind == "IPv4" {
            family(!is_v6, "IPv4")
        } else {
            family(is_v6, "IPv6")
        });
        errors.extend(net::endpoint_ip(&address.path, value));
    }
    errors
}

fn canonical_ip(address: &At<'_>) -> ErrorList {
    let errors = net::ip(&address.path, address.text(), &[]);
    match address.text().parse::<IpAddr>() {
        Ok(ip) if errors.is_empty() && ip.to_string() != address.text() => {
            vec![Error::invalid(
                &address.path,
                address.text(),
                format!("must be in canonical form (\"{ip}\")"),
            )]
        }
        _ => errors,
    }
}

fn fqdn(address: &At<'_>) -> ErrorList {
    if address.text().is_empty() {
        return vec![Error::required(&address.path, "")];
    }
    let name = address.text().strip_suffix('.').unwrap_or(address.text());
    let mut wrong = names::dns1123_subdomain(name);
    if wrong.is_empty() && name.split('.').count() < 2 {
        wrong.push("should be a domain with at least two segments separated by dots".to_owned());
    }
    for label in name.split('.') {
        if label.len() > names::LABEL_MAX {
            wrong.push(names::max_len(names::LABEL_MAX));
        }
    }
    wrong
        .into_iter()
        .map(|message| Error::invalid(&address.path, name, message))
        .collect()
}

fn hints(at: &At<'_>, rule: fn(&str) -> Vec<String>) -> ErrorList {
    if at.len() > MAX_HINTS {
        return vec![Error::too_many(&at.path, at.len(), MAX_HINTS)];
    }
    let mut errors = ErrorList::new();
    let mut seen: Vec<&str> = Vec::new();
    for hint in at.items() {
        let name = hint.get("name");
        if seen.contains(&name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        } else {
            seen.push(name.text());
        }
        errors.extend(invalid_text(&name, rule(name.text())));
    }
    errors
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(new, Some(old));
    errors.extend(meta::immutable(
        &At::field(new, "addressType"),
        &Value::from(text(get(old, "addressType"))),
    ));
    errors
}
