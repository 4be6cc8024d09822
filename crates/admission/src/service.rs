//! Services. Addresses and node ports come from the API server's allocators, which run between [`crate::prepare_create`] and
//! [`crate::validate_create`] and fill `clusterIP`, `clusterIPs`, `ipFamilies`, `ipFamilyPolicy`, `nodePort` and
//! `healthCheckNodePort`.

mod family;
mod validate;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::view::{self, dig, get, is_zero, list, same, text};
use crate::{Rules, Subresource};

pub use family::settle_families;

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create,
    prepare_update,
    validate_create: |object| validate::validate_create(object),
    validate_update: validate::validate_update,
};

/// ClientIP affinity unless told otherwise: three hours, in seconds.
const AFFINITY_SECONDS: i64 = 10_800;
/// The longest affinity, one day in seconds.
const AFFINITY_MAX_SECONDS: i64 = 86_400;

fn kind(object: &Value) -> &str {
    text(dig(object, &["spec", "type"]))
}

/// Whether the Service is reached from outside: by node port, load balancer or external address.
pub fn is_externally_accessible(object: &Value) -> bool {
    ["LoadBalancer", "NodePort"].contains(&kind(object))
        || (kind(object) == "ClusterIP" && !list(dig(object, &["spec", "externalIPs"])).is_empty())
}

/// Whether the Service needs a node port of its own for health checks.
pub fn needs_health_check(object: &Value) -> bool {
    kind(object) == "LoadBalancer"
        && text(dig(object, &["spec", "externalTrafficPolicy"])) == "Local"
}

/// Whether the Service has no cluster address on purpose.
pub fn is_headless(object: &Value) -> bool {
    matches!(list(dig(object, &["spec", "clusterIPs"])), [only] if only == "None")
}

fn default(object: &mut Value) {
    let external = |object: &Value| is_externally_accessible(object);
    let spec = view::entry(object, "spec");
    view::set_if_zero(spec, "sessionAffinity", "None");
    if text(get(spec, "sessionAffinity")) == "None" {
        view::remove(spec, "sessionAffinityConfig");
    } else if dig(
        spec,
        &["sessionAffinityConfig", "clientIP", "timeoutSeconds"],
    )
    .is_null()
    {
        view::object(spec).insert(
            "sessionAffinityConfig".to_owned(),
            json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}),
        );
    }
    view::set_if_zero(spec, "type", "ClusterIP");
    for port in view::list_mut(spec, "ports") {
        view::set_if_zero(port, "protocol", "TCP");
        let number = get(port, "port").clone();
        view::set_if_zero(port, "targetPort", number);
    }
    let service_kind = text(get(spec, "type")).to_owned();
    if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&service_kind.as_str()) {
        view::set_if_absent(spec, "internalTrafficPolicy", "Cluster");
    }
    if service_kind == "LoadBalancer" {
        view::set_if_absent(spec, "allocateLoadBalancerNodePorts", true);
    }
    if external(object) {
        view::set_if_zero(
            view::entry(object, "spec"),
            "externalTrafficPolicy",
            "Cluster",
        );
    }
    if service_kind == "LoadBalancer"
        && let Some(balancer) = view::object_mut(object, "status")
            .and_then(|status| view::object_mut(status, "loadBalancer"))
    {
        for ingress in view::list_mut(balancer, "ingress")
            .iter_mut()
            .filter(|ingress| !text(get(ingress, "ip")).is_empty())
        {
            view::set_if_absent(ingress, "ipMode", "VIP");
        }
    }
}

fn prepare_create(object: &mut Value) {
    view::object(object).insert("status".to_owned(), json!({"loadBalancer": {}}));
    normalize_cluster_ips(object, None);
}

/// Keeps `clusterIP` and `clusterIPs` in step when a client sets only one of them.
pub fn normalize_cluster_ips(object: &mut Value, old: Option<&Value>) {
    if kind(object) == "ExternalName" {
        return;
    }
    let spec = view::entry(object, "spec");
    let single = text(get(spec, "clusterIP")).to_owned();
    let plural = list(get(spec, "clusterIPs")).to_vec();
    let Some(old) = old else {
        if !single.is_empty() && plural.is_empty() {
            view::object(spec).insert("clusterIPs".to_owned(), json!([single]));
        }
        return;
    };
    let old_single = text(dig(old, &["spec", "clusterIP"]));
    let plural_changed = !same(
        &Value::Array(plural.clone()),
        dig(old, &["spec", "clusterIPs"]),
    );
    if single != old_single && !plural_changed {
        if single.is_empty() {
            view::remove(spec, "clusterIPs");
        } else if let Some(first) = spec
            .get_mut("clusterIPs")
            .and_then(Value::as_array_mut)
            .and_then(|ips| ips.first_mut())
        {
            *first = single.into();
        } else {
            view::object(spec).insert("clusterIPs".to_owned(), json!([single]));
        }
    }
}

fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    if subresource == Subresource::Status {
        view::restore(new, old, "spec");
        return;
    }
    view::restore(new, old, "status");
    keep_allocated(new, old);
    normalize_cluster_ips(new, Some(old));
    drop_what_type_does_not_use(new, old);
}

/// What was allocated stays unless the client says otherwise.
fn keep_allocated(new: &mut Value, old: &Value) {
    let needs_address = |object: &Value| kind(object) != "ExternalName";
    if needs_address(new) && needs_address(old) {
        let spec = view::entry(new, "spec");
        if text(get(spec, "clusterIP")).is_empty() && list(get(spec, "clusterIPs")).is_empty() {
            view::restore(spec, get(old, "spec"), "clusterIP");
            view::restore(spec, get(old, "spec"), "clusterIPs");
        } else if text(get(spec, "clusterIP")).is_empty() {
            view::restore(spec, get(old, "spec"), "clusterIP");
        } else if list(get(spec, "clusterIPs")).is_empty() {
            view::restore(spec, get(old, "spec"), "clusterIPs");
        }
        for name in ["ipFamilies", "ipFamilyPolicy"] {
            if is_zero(get(spec, name)) {
                view::restore(spec, get(old, "spec"), name);
            }
        }
    }
    let with_node_ports = |object: &Value| ["NodePort", "LoadBalancer"].contains(&kind(object));
    if with_node_ports(new) && with_node_ports(old) {
        keep_node_ports(new, old);
    }
    if needs_health_check(new)
        && needs_health_check(old)
        && is_zero(dig(new, &["spec", "healthCheckNodePort"]))
    {
        view::restore(
            view::entry(new, "spec"),
            get(old, "spec"),
            "healthCheckNodePort",
        );
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let known = list(dig(old, &["spec", "ports"]));
    let used: BTreeSet<i64> = list(dig(new, &["spec", "ports"]))
        .iter()
        .filter_map(|port| get(port, "nodePort").as_i64())
        .collect();
    for port in view::list_mut(view::entry(new, "spec"), "ports") {
        let same_name = known
            .iter()
            .find(|known| text(get(known, "name")) == text(get(port, "name")));
        let node_port = same_name
            .and_then(|known| get(known, "nodePort").as_i64())
            .unwrap_or(0);
        if is_zero(get(port, "nodePort")) && node_port != 0 && !used.contains(&node_port) {
            view::object(port).insert("nodePort".to_owned(), node_port.into());
        }
    }
}

/// A changed type takes along the fields it no longer uses, unless the client changed them too.
fn drop_what_type_does_not_use(new: &mut Value, old: &Value) {
    let unchanged =
        |new: &Value, name: &str| same(dig(new, &["spec", name]), dig(old, &["spec", name]));
    let mut dropped: Vec<&str> = Vec::new();
    if kind(old) != "ExternalName" && kind(new) == "ExternalName" {
        if unchanged(new, "clusterIP") && unchanged(new, "clusterIPs") {
            dropped.extend(["clusterIP", "clusterIPs"]);
        }
        dropped.extend(
            ["ipFamilies", "ipFamilyPolicy"]
                .into_iter()
                .filter(|name| unchanged(new, name)),
        );
    }
    if needs_health_check(old) && !needs_health_check(new) && unchanged(new, "healthCheckNodePort")
    {
        dropped.push("healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        dropped.extend(
            ["allocateLoadBalancerNodePorts", "loadBalancerClass"]
                .into_iter()
                .filter(|name| unchanged(new, name)),
        );
    }
    if is_externally_accessible(old)
        && !is_externally_accessible(new)
        && unchanged(new, "externalTrafficPolicy")
    {
        dropped.push("externalTrafficPolicy");
    }
    let ports = |object: &Value| -> Vec<i64> {
        list(dig(object, &["spec", "ports"]))
            .iter()
            .filter_map(|port| get(port, "nodePort").as_i64())
            .collect()
    };
    let with_node_ports = |object: &Value| ["NodePort", "LoadBalancer"].contains(&kind(object));
    let wipe_ports = with_node_ports(old) && !with_node_ports(new) && ports(old) == ports(new);
    let balanced = kind(new) == "LoadBalancer";
    let spec = view::entry(new, "spec");
    dropped
        .into_iter()
        .for_each(|name| view::remove(spec, name));
    if wipe_ports {
        view::list_mut(spec, "ports")
            .iter_mut()
            .for_each(|port| view::remove(port, "nodePort"));
    }
    if !balanced {
        view::object(view::entry(new, "status")).insert("loadBalancer".to_owned(), json!({}));
    }
}
