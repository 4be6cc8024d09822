//! What an object counts for, and which resources of a quota objects of its kind count for.

use api::quantity::Quantity;
use api::storage::CLASS_ANNOTATION;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::meta::annotation;
use crate::pod::aggregate::{Amounts, Which, add, effective};
use crate::resources;
use crate::view::{dig, get, list, text};

/// What Pods count for by plain names.
const POD: [&str; 10] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// What each container has to say where a quota counts it.
const REQUIRED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const SERVICE: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];
const CLAIM: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// Kinds that are counted by their own name, too.
const NAMED: [&str; 4] = [
    "configmaps",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
];
/// What stands between a class of storage and what is counted of it.
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Devices by their class.
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Whether objects of a kind count for a resource of a quota. Kinds are named as `GroupResource` prints them.
pub fn counts(kind: &str, resource: &str) -> bool {
    if resource.strip_prefix("count/") == Some(kind) {
        return true;
    }
    match kind {
        "pods" => POD.contains(&resource) || is_prefixed(resource),
        "services" => SERVICE.contains(&resource),
        "persistentvolumeclaims" => {
            let by_class = resource.split_once(BY_CLASS).map(|(_, counted)| counted);
            CLAIM.contains(&by_class.unwrap_or(resource))
        }
        _ => NAMED.contains(&kind) && kind == resource,
    }
}

/// Huge pages, and devices.
fn is_prefixed(resource: &str) -> bool {
    let request = resource.strip_prefix("requests.");
    resources::is_huge_page(request.unwrap_or(resource))
        || request.is_some_and(|request| {
            !resources::is_native(resource) || request.starts_with(DEVICE_CLASS)
        })
}

/// The kind whose objects count for a resource of a quota.
pub fn kind_of(resource: &str) -> Option<&str> {
    let special = ["pods", "services", "persistentvolumeclaims"];
    let mut known = special.into_iter().chain(NAMED);
    known
        .find(|kind| counts(kind, resource))
        .or_else(|| resource.strip_prefix("count/"))
}

/// What an object counts for.
pub fn usage(kind: &str, object: &Value, now: Timestamp) -> Amounts {
    let mut total = Amounts::from([(format!("count/{kind}"), Quantity::from_i64(1))]);
    match kind {
        "pods" if is_charged(object, now) => {
            let [requests, limits] =
                [Which::Requests, Which::Limits].map(|which| effective(object, which));
            total.extend(compute(&requests, &limits));
        }
        "services" => total.extend(service(object)),
        "persistentvolumeclaims" => total.extend(claim(object)),
        kind if NAMED.contains(&kind) => {
            total.insert(kind.to_owned(), Quantity::from_i64(1));
        }
        _ => {}
    }
    total
}

/// Whether a Pod counts for more than an object that is there: it is not over, and not long overdue.
fn is_charged(pod: &Value, now: Timestamp) -> bool {
    let is_over = api::pod::is_final(text(dig(pod, &["status", "phase"])));
    !is_over && ends_at(pod).is_none_or(|end| now <= end)
}

/// When a Pod that is deleted counts no more, even if it is still there: after its grace period once more.
pub(super) fn ends_at(pod: &Value) -> Option<Timestamp> {
    let metadata = get(pod, "metadata");
    let grace = get(metadata, "deletionGracePeriodSeconds").as_i64()?;
    let due: Timestamp = text(get(metadata, "deletionTimestamp")).parse().ok()?;
    due.checked_add(SignedDuration::from_secs(grace)).ok()
}

/// Requests and limits by the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut total = Amounts::from([("pods".to_owned(), Quantity::from_i64(1))]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            total.insert(name.to_owned(), request.clone());
            total.insert(format!("requests.{name}"), request.clone());
        }
        if let Some(limit) = limits.get(name) {
            total.insert(format!("limits.{name}"), limit.clone());
        }
    }
    for (name, request) in requests {
        let is_page = resources::is_huge_page(name);
        if is_page {
            total.insert(name.clone(), request.clone());
        }
        if is_page || resources::is_extended(name) || name.starts_with(DEVICE_CLASS) {
            total.insert(format!("requests.{name}"), request.clone());
        }
    }
    total
}

/// What the containers of a Pod have to say of `resources`, and do not: `limits.cpu for: a,b; requests.cpu for: a`.
pub(super) fn missing<'a>(pod: &Value, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let spec = get(pod, "spec");
    let is_whole = ["requests", "limits"].iter().any(|list| {
        let own = resources::list(dig(spec, &["resources", list]));
        own.keys().any(|name| resources::is_pod_level(name))
    });
    if is_whole {
        return None;
    }
    let mut names: Vec<&str> = names.filter(|name| REQUIRED.contains(name)).collect();
    names.sort_unstable();
    let mut said = Vec::new();
    for name in names {
        let containers = ["containers", "initContainers"].map(|field| list(get(spec, field)));
        let lacking = containers.into_iter().flatten().filter(|container| {
            let of = |list| resources::list(dig(container, &["resources", list]));
            !compute(&of("requests"), &of("limits")).contains_key(name)
        });
        let mut lacking: Vec<&str> = lacking.map(|c| text(get(c, "name"))).collect();
        lacking.sort_unstable();
        if !lacking.is_empty() {
            said.push(format!("{name} for: {}", lacking.join(",")));
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}

fn service(service: &Value) -> Amounts {
    let spec = get(service, "spec");
    let ports = list(get(spec, "ports"));
    let given = ports
        .iter()
        .filter(|port| get(port, "nodePort").as_i64().unwrap_or(0) != 0);
    let (balancers, node_ports) = match text(get(spec, "type")) {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" if *get(spec, "allocateLoadBalancerNodePorts") == false => {
            (1, given.count())
        }
        "LoadBalancer" => (1, ports.len()),
        _ => (0, 0),
    };
    let node_ports = i64::try_from(node_ports).unwrap_or(i64::MAX);
    let amounts = SERVICE.into_iter().zip([1, node_ports, balancers]);
    amounts
        .map(|(name, amount)| (name.to_owned(), Quantity::from_i64(amount)))
        .collect()
}

fn claim(claim: &Value) -> Amounts {
    let mut total = Amounts::from([(CLAIM[0].to_owned(), Quantity::from_i64(1))]);
    let storage = |path: &[&str]| {
        let mut amount = resources::quantity(dig(claim, path))?;
        amount.round_up(0);
        Some(amount)
    };
    if let Some(asked) = storage(&["spec", "resources", "requests", "storage"]) {
        let granted = storage(&["status", "allocatedResources", "storage"]);
        let most = granted.filter(|granted| *granted > asked).unwrap_or(asked);
        total.insert(CLAIM[1].to_owned(), most);
    }
    let class = annotation(claim, CLASS_ANNOTATION)
        .unwrap_or_else(|| text(dig(claim, &["spec", "storageClassName"])));
    if !class.is_empty() {
        let by_class = total
            .iter()
            .map(|(name, amount)| (format!("{class}{BY_CLASS}{name}"), amount.clone()));
        let by_class: Amounts = by_class.collect();
        add(&mut total, &by_class);
    }
    total
}
