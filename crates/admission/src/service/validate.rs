//! What a Service must look like, and what of it may change.

use std::collections::BTreeSet;

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use super::{
    AFFINITY_MAX_SECONDS, is_externally_accessible, is_headless, kind, needs_health_check,
};
use crate::endpoints::{app_protocol, protocol};
use crate::meta::invalid_text;
use crate::view::{At, dig, is_zero, list, text};
use crate::{Subresource, meta, net};

pub(super) fn validate_create(object: &Value) -> ErrorList {
    let mut errors = meta::validate(object, true, names::dns1123_label);
    errors.extend(validate(object, None));
    errors
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let spec = At::field(object, "spec");
    let ports = spec.get("ports");
    let headless = is_headless(object);
    let mut errors = ErrorList::new();
    if ports.len() == 0 && !headless && kind(object) != "ExternalName" {
        errors.push(Error::required(&ports.path, ""));
    }
    errors.extend(by_type(&spec, headless));
    errors.extend(validate_ports(&ports));
    errors.extend(meta::labels(&spec.get("selector")));
    errors.extend(session_affinity(&spec));
    errors.extend(cluster_ips(&spec, old));
    errors.extend(external_ips(&spec, old));
    errors.extend(one_of(
        &spec.get("type"),
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    ));
    errors.extend(port_uniqueness(&spec));
    errors.extend(load_balancer(object, &spec, old));
    errors.extend(traffic(object, &spec));
    errors
}

fn one_of(at: &At<'_>, supported: &[&str]) -> ErrorList {
    match at.text() {
        "" => vec![Error::required(&at.path, "")],
        known if supported.contains(&known) => ErrorList::new(),
        other => vec![Error::not_supported(&at.path, other, supported)],
    }
}

fn by_type(spec: &At<'_>, headless: bool) -> ErrorList {
    let ips = spec.get("clusterIPs");
    let mut errors = ErrorList::new();
    match spec.get("type").text() {
        kind @ ("LoadBalancer" | "NodePort") if headless => {
            errors.push(Error::invalid(
                &ips.path.index(0),
                "None",
                format!("may not be set to 'None' for {kind} services"),
            ));
        }
        "ExternalName" => {
            for field in [ips, spec.get("ipFamilies"), spec.get("ipFamilyPolicy")] {
                if !is_zero(field.value) {
                    errors.push(Error::forbidden(
                        &field.path,
                        "may not be set for ExternalName services",
                    ));
                }
            }
            let name = spec.get("externalName");
            match name.text().strip_suffix('.').unwrap_or(name.text()) {
                "" => errors.push(Error::required(&name.path, "")),
                cname => errors.extend(
                    names::dns1123_subdomain(cname)
                        .into_iter()
                        .map(|message| Error::invalid(&name.path, cname, message)),
                ),
            }
        }
        _ => {}
    }
    errors
}

fn validate_ports(ports: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        if name.text().is_empty() {
            if ports.len() > 1 {
                errors.push(Error::required(&name.path, ""));
            }
        } else {
            errors.extend(invalid_text(&name, names::dns1123_label(name.text())));
            if !seen.insert(name.text()) {
                errors.push(Error::duplicate(&name.path, name.text()));
            }
        }
        errors.extend(crate::pod::port_number(&port.get("port")));
        errors.extend(protocol(&port.get("protocol")));
        errors.extend(crate::pod::port_number_or_name(&port.get("targetPort")));
        errors.extend(app_protocol(&port.get("appProtocol")));
    }
    errors
}

fn session_affinity(spec: &At<'_>) -> ErrorList {
    let affinity = spec.get("sessionAffinity");
    let mut errors = one_of(&affinity, &["ClientIP", "None"]);
    let config = spec.get("sessionAffinityConfig");
    match affinity.text() {
        "ClientIP" => {
            let (client, timeout) = (
                config.get("clientIP"),
                config.get("clientIP").get("timeoutSeconds"),
            );
            match [&config, &client, &timeout]
                .into_iter()
                .find(|field| !field.given())
            {
                Some(missing) => errors.push(Error::required(
                    &missing.path,
                    "when session affinity type is ClientIP",
                )),
                None => {
                    let seconds = timeout.int().unwrap_or(0);
                    if seconds <= 0 || seconds > AFFINITY_MAX_SECONDS {
                        let range =
                            format!("must be greater than 0 and less than {AFFINITY_MAX_SECONDS}");
                        errors.push(Error::invalid(&timeout.path, seconds, range));
                    }
                }
            }
        }
        "None" if config.given() => errors.push(Error::forbidden(
            &config.path,
            "must not be set when session affinity is None",
        )),
        _ => {}
    }
    errors
}

/// Whether addresses, families and their policy fit each other.
pub(super) fn cluster_addresses(object: &Value, old: Option<&Value>) -> ErrorList {
    cluster_ips(&At::field(object, "spec"), old)
}

fn cluster_ips(spec: &At<'_>, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    if spec.get("type").text() == "ExternalName" {
        return errors;
    }
    let (single, ips, families, policy) = (
        spec.get("clusterIP"),
        spec.get("clusterIPs"),
        spec.get("ipFamilies"),
        spec.get("ipFamilyPolicy"),
    );
    let texts: Vec<&str> = list(ips.value).iter().map(text).collect();
    match (single.text(), texts.first()) {
        ("", None) => {}
        ("", Some(_)) => errors.push(Error::invalid(
            &ips.path,
            ips.value.clone(),
            "must be empty when `clusterIP` is not specified",
        )),
        (_, None) => errors.push(Error::required(&ips.path, "")),
        (single, Some(first)) if single != *first => {
            errors.push(Error::invalid(
                &ips.path,
                ips.value.clone(),
                "first value must match `clusterIP`",
            ));
        }
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in families.items() {
        if !["IPv4", "IPv6"].contains(&family.text()) {
            errors.push(Error::not_supported(
                &family.path,
                family.text(),
                &["IPv4", "IPv6"],
            ));
        }
        if !seen.insert(family.text()) {
            errors.push(Error::duplicate(&family.path, family.text()));
        }
    }
    if policy.given()
        && !["PreferDualStack", "RequireDualStack", "SingleStack"].contains(&policy.text())
    {
        errors.push(Error::not_supported(
            &policy.path,
            policy.text(),
            &["PreferDualStack", "RequireDualStack", "SingleStack"],
        ));
    }
    let existing: Vec<&str> = old
        .map(|old| {
            list(dig(old, &["spec", "clusterIPs"]))
                .iter()
                .map(text)
                .collect()
        })
        .unwrap_or_default();
    let mut broken = ErrorList::new();
    for (i, ip) in ips.items().enumerate() {
        if i == 0 && ip.text() == "None" {
            if texts.len() > 1 {
                broken.push(Error::invalid(
                    &ips.path,
                    ips.value.clone(),
                    "'None' must be the first and only value",
                ));
            }
            continue;
        }
        broken.extend(net::ip(&ip.path, ip.text(), &existing));
    }
    let stop = !broken.is_empty();
    errors.extend(broken);
    if texts.len() > 2 {
        errors.push(Error::invalid(
            &ips.path,
            ips.value.clone(),
            "may only hold up to 2 values",
        ));
    }
    if stop {
        return errors;
    }
    if texts.len() > 1 && !net::one_per_family(&texts) {
        errors.push(Error::invalid(
            &ips.path,
            ips.value.clone(),
            "may specify no more than one IP for each IP family",
        ));
    }
    if texts != ["None"] {
        errors.extend(ips.items().zip(families.items()).enumerate().filter_map(
            |(i, (ip, family))| {
                let wrong = matches!(family.text(), "IPv4" | "IPv6")
                    && ip.text().contains(':') != (family.text() == "IPv6");
                let detail = format!(
                    "expected an {} value as indicated by `ipFamilies[{i}]`",
                    family.text()
                );
                wrong.then(|| Error::invalid(&ip.path, ip.text(), detail))
            },
        ));
    }
    errors
}

fn external_ips(spec: &At<'_>, old: Option<&Value>) -> ErrorList {
    let existing: Vec<&str> = old
        .map(|old| {
            list(dig(old, &["spec", "externalIPs"]))
                .iter()
                .map(text)
                .collect()
        })
        .unwrap_or_default();
    let check = |ip: At<'_>| {
        let errors = net::ip(&ip.path, ip.text(), &existing);
        if errors.is_empty() {
            net::endpoint_ip(&ip.path, ip.text())
        } else {
            errors
        }
    };
    spec.get("externalIPs").items().flat_map(check).collect()
}

fn port_uniqueness(spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (mut node_ports, mut ports) = (BTreeSet::new(), BTreeSet::new());
    let all: Vec<At<'_>> = spec.get("ports").items().collect();
    let node_port = |port: &At<'_>| port.get("nodePort").int().filter(|number| *number != 0);
    if spec.get("type").text() == "ClusterIP" {
        for port in all.iter().filter(|port| node_port(port).is_some()) {
            errors.push(Error::forbidden(
                &port.path.child("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            ));
        }
    }
    for port in &all {
        if let Some(number) = node_port(port)
            && !node_ports.insert((port.get("protocol").text(), number))
        {
            errors.push(Error::duplicate(&port.path.child("nodePort"), number));
        }
    }
    for port in &all {
        let (protocol, number) = (
            port.get("protocol").text(),
            port.get("port").int().unwrap_or(0),
        );
        if !ports.insert((protocol, number)) {
            errors.push(repeated_port(&port.path, protocol, number));
        }
    }
    errors
}

/// Upstream prints its internal structure, in the order of its fields.
fn repeated_port(path: &Path, protocol: &str, port: i64) -> Error {
    let mut error = Error::duplicate(path, Value::Null);
    error.value = None;
    error.detail = format!(
        r#"{{"Name":"","Protocol":"{protocol}","AppProtocol":null,"Port":{port},"TargetPort":0,"NodePort":0}}"#
    );
    error
}

fn load_balancer(object: &Value, spec: &At<'_>, old: Option<&Value>) -> ErrorList {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let balanced = spec.get("type").text() == "LoadBalancer";
    let ranges = spec
        .get("loadBalancerSourceRanges")
        .reported_at(spec.path.child("LoadBalancerSourceRanges"));
    let mut errors = ErrorList::new();
    if ranges.len() > 0 {
        if !balanced {
            errors.push(Error::forbidden(&ranges.path, ONLY));
        }
        let existing: Vec<&str> = old
            .map(|old| {
                list(dig(old, &["spec", "loadBalancerSourceRanges"]))
                    .iter()
                    .map(|range| text(range).trim())
                    .collect()
            })
            .unwrap_or_default();
        errors.extend(
            ranges
                .items()
                .flat_map(|range| net::cidr(&range.path, range.text().trim(), &existing)),
        );
    } else if let Some(annotation) = meta::annotation(object, ANNOTATION) {
        let path = Path::new("metadata.annotations").key(ANNOTATION);
        if !balanced {
            errors.push(Error::forbidden(&path, ONLY));
        }
        if !annotation.trim().is_empty()
            && old.and_then(|old| meta::annotation(old, ANNOTATION)) != Some(annotation)
        {
            errors.extend(
                annotation
                    .split(',')
                    .flat_map(|range| net::cidr(&path, range.trim(), &[])),
            );
        }
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if allocate.given() && !balanced {
        errors.push(Error::forbidden(&allocate.path, ONLY));
    }
    if !allocate.given() && balanced {
        errors.push(Error::required(
            &Path::new("allocateLoadBalancerNodePorts"),
            "",
        ));
    }
    errors.extend(load_balancer_class(spec, balanced));
    errors
}

fn load_balancer_class(spec: &At<'_>, balanced: bool) -> ErrorList {
    let class = spec.get("loadBalancerClass");
    match (class.given(), balanced) {
        (true, true) => invalid_text(&class, names::qualified_name(class.text())),
        (true, false) => vec![Error::forbidden(
            &class.path,
            "may only be used when `type` is 'LoadBalancer'",
        )],
        (false, _) => ErrorList::new(),
    }
}

fn traffic(object: &Value, spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let external = spec.get("externalTrafficPolicy");
    if is_externally_accessible(object) {
        errors.extend(one_of(&external, &["Cluster", "Local"]));
    } else if !external.text().is_empty() {
        errors.push(Error::invalid(
            &external.path,
            external.text(),
            "may only be set for externally-accessible services",
        ));
    }
    let health = spec.get("healthCheckNodePort");
    let number = health.int().unwrap_or(0);
    if needs_health_check(object) {
        match number {
            0 => errors.push(Error::required(&health.path, "")),
            _ => errors.extend(crate::pod::port_number(&health)),
        }
    } else if number != 0 {
        errors.push(Error::invalid(
            &health.path,
            number,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ));
    }
    let internal = spec.get("internalTrafficPolicy");
    if internal.given() {
        if !["Cluster", "Local"].contains(&internal.text()) {
            errors.push(Error::not_supported(
                &internal.path,
                internal.text(),
                &["Cluster", "Local"],
            ));
        }
    } else if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind(object)) {
        errors.push(Error::required(&internal.path, ""));
    }
    let distribution = spec.get("trafficDistribution");
    const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if distribution.given() && !DISTRIBUTIONS.contains(&distribution.text()) {
        errors.push(Error::not_supported(
            &distribution.path,
            distribution.text(),
            &DISTRIBUTIONS,
        ));
    }
    errors
}

pub(super) fn validate_update(subresource: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = meta::validate_update(new, old);
    if subresource == Subresource::Status {
        return errors;
    }
    errors.extend(address_changes(new, old));
    let spec = At::field(new, "spec");
    let class = spec.get("loadBalancerClass");
    let balanced = |object: &Value| kind(object) == "LoadBalancer";
    if balanced(new) && balanced(old) && class.value != dig(old, &["spec", "loadBalancerClass"]) {
        errors.push(Error::invalid(
            &class.path,
            class.value.clone(),
            "may not change once set",
        ));
    }
    if needs_health_check(new)
        && needs_health_check(old)
        && dig(new, &["spec", "healthCheckNodePort"]) != dig(old, &["spec", "healthCheckNodePort"])
    {
        errors.push(Error::forbidden(
            &spec.path.child("healthCheckNodePort"),
            "field is immutable",
        ));
    }
    errors.extend(validate(new, Some(old)));
    errors
}

/// A second address may come and go; the first stays.
fn address_changes(new: &Value, old: &Value) -> ErrorList {
    if kind(new) == "ExternalName" || kind(old) == "ExternalName" {
        return ErrorList::new();
    }
    let mut errors = ErrorList::new();
    let spec = At::field(new, "spec");
    let both_headless = is_headless(new) && is_headless(old);
    if !both_headless {
        errors.extend(list_change(&spec, old, "clusterIPs", "clusterIP"));
    }
    if !both_headless && is_headless(new) == is_headless(old) {
        errors.extend(list_change(&spec, old, "ipFamilies", "ipFamily"));
    }
    errors
}

fn list_change(spec: &At<'_>, old: &Value, name: &str, singular: &str) -> ErrorList {
    let at = spec.get(name);
    let (new, old) = (list(at.value), list(dig(old, &["spec", name])));
    let shown = if new.is_empty() {
        Value::Null
    } else {
        Value::Array(new.to_vec())
    };
    let mut errors = ErrorList::new();
    if new.len() == old.len() {
        for (i, _) in new
            .iter()
            .zip(old)
            .enumerate()
            .filter(|(_, (new, old))| new != old)
        {
            let index = if name == "clusterIPs" { i } else { 0 };
            errors.push(Error::invalid(
                &at.path.index(index),
                shown.clone(),
                "may not change once set",
            ));
        }
        return errors;
    }
    if let (Some(first), Some(before)) = (new.first(), old.first())
        && first != before
    {
        errors.push(Error::invalid(
            &at.path.index(0),
            shown.clone(),
            "may not change once set",
        ));
    }
    if new.len() < old.len() {
        if new.is_empty() {
            errors.push(Error::invalid(
                &at.path.index(0),
                shown,
                format!("primary {singular} can not be unset"),
            ));
        } else if new.len() == 1 && spec.get("ipFamilyPolicy").text() != "SingleStack" {
            let policy = spec.get("ipFamilyPolicy");
            let detail =
                format!("must be set to 'SingleStack' when releasing the secondary {singular}");
            errors.push(Error::invalid(&policy.path, policy.value.clone(), detail));
        }
    }
    errors
}
