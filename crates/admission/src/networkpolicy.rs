//! NetworkPolicies (upstream's pkg/apis/networking). What upstream lets stand in policies that are older than a rule has no place here:
//! none is.

use api::field::{Error, ErrorList};
use serde_json::{Value, json};

use crate::pod::{label_selector, port_number, port_number_or_name};
use crate::view::{At, entry, get, len, list_mut, object, set_if_absent};
use crate::{Rules, generic, meta, net};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: |policy| {
        let metadata = object(entry(policy, "metadata"));
        metadata.insert("generation".to_owned(), 1.into());
    },
    prepare_update: (generic::RULES).prepare_update,
    validate_create: |policy| meta::validate_new(policy, true, "spec", validate_spec),
    validate_update: |_, new, _| validate_spec(&At::field(new, "spec")),
};

const TYPES: [&str; 2] = ["Ingress", "Egress"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
/// Where the rules of a way are, and where their peers.
const WAYS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn default(policy: &mut Value) {
    let spec = entry(policy, "spec");
    set_if_absent(spec, "podSelector", json!({}));
    for (way, _) in WAYS {
        for rule in list_mut(spec, way) {
            for port in list_mut(rule, "ports") {
                set_if_absent(port, "protocol", "TCP");
            }
        }
    }
    if len(get(spec, "policyTypes")) == 0 {
        let has_egress = len(get(spec, "egress")) > 0;
        let types = &TYPES[..if has_egress { 2 } else { 1 }];
        object(spec).insert("policyTypes".to_owned(), json!(types));
    }
}

/// What a client is told about a policy besides the answer: networks that are not written as they should be.
pub(crate) fn warnings(policy: &Value) -> Vec<String> {
    let spec = At::field(policy, "spec");
    let mut found = Vec::new();
    for (way, peers) in WAYS {
        for rule in spec.get(way).items() {
            for peer in rule.get(peers).items() {
                let block = peer.get("ipBlock");
                let networks =
                    std::iter::once(block.get("cidr")).chain(block.get("except").items());
                found.extend(networks.filter_map(|at| net::cidr_warning(&at.path, at.text())));
            }
        }
    }
    found
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let mut errors = label_selector(&spec.get("podSelector"));
    for (way, peers) in WAYS {
        for rule in spec.get(way).items() {
            errors.extend(rule.get("ports").items().flat_map(|at| validate_port(&at)));
            errors.extend(rule.get(peers).items().flat_map(|at| validate_peer(&at)));
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > TYPES.len() {
        let why = "may not specify more than two policyTypes";
        errors.push(Error::invalid(&types.path, types.value.clone(), why));
        return errors;
    }
    let unknown = types.items().filter(|at| !TYPES.contains(&at.text()));
    errors.extend(unknown.map(|at| Error::not_supported(&at.path, at.text(), &TYPES)));
    errors
}

fn validate_port(given: &At<'_>) -> ErrorList {
    let (protocol, port, end) = (
        given.get("protocol"),
        given.get("port"),
        given.get("endPort"),
    );
    let mut errors = ErrorList::new();
    if protocol.given() && !PROTOCOLS.contains(&protocol.text()) {
        let text = protocol.text();
        errors.push(Error::not_supported(&protocol.path, text, &PROTOCOLS));
    }
    let mut refuse = |value: Option<i64>, why: &str| {
        errors.push(Error::invalid(&end.path, value.unwrap_or(0), why));
    };
    if !end.given() {
    } else if !port.given() {
        refuse(
            end.int(),
            "may not be specified when `port` is not specified",
        );
    } else if port.value.is_string() {
        refuse(end.int(), "may not be specified when `port` is non-numeric");
    }
    if port.given() {
        errors.extend(port_number_or_name(&port));
    }
    if end.given() && port.value.is_number() {
        if end.int() < port.int() {
            let first = port.int().unwrap_or(0);
            let why = "must be greater than or equal to `port`";
            errors.push(Error::invalid(&end.path, first, why));
        }
        errors.extend(port_number(&end));
    }
    errors
}

fn validate_peer(peer: &At<'_>) -> ErrorList {
    let selectors = [peer.get("podSelector"), peer.get("namespaceSelector")];
    let selectors = selectors.iter().filter(|selector| selector.given());
    let mut errors: ErrorList = selectors.clone().flat_map(label_selector).collect();
    let block = peer.get("ipBlock");
    match (block.given(), selectors.count()) {
        (false, 0) => errors.push(Error::required(&peer.path, "must specify a peer")),
        (false, _) => {}
        (true, others) => {
            errors.extend(validate_block(&block));
            if others > 0 {
                let why = "may not specify both ipBlock and another peer";
                errors.push(Error::forbidden(&peer.path, why));
            }
        }
    }
    errors
}

fn validate_block(block: &At<'_>) -> ErrorList {
    let network = block.get("cidr");
    if network.text().is_empty() {
        return vec![Error::required(&network.path, "")];
    }
    let mut errors = net::cidr(&network.path, network.text(), &[]);
    if !net::is_cidr(network.text()) {
        return errors;
    }
    for except in block.get("except").items() {
        errors.extend(net::cidr(&except.path, except.text(), &[]));
        if net::is_cidr(except.text()) && !net::is_strictly_within(except.text(), network.text()) {
            let why = "must be a strict subset of `cidr`";
            errors.push(Error::invalid(&except.path, except.text(), why));
        }
    }
    errors
}
