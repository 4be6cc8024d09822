//! Resource lists: names, quantities, limits against requests.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{Error, ErrorList, Path};
use api::names;
use api::quantity::Quantity;
use serde_json::Value;

use crate::view::{self, At, get, text};

const NEGATIVE: &str = "must be greater than or equal to 0";
/// Amounts above this are compared in whole units.
pub(crate) const MAX_MILLI: i64 = i64::MAX / 1000;
pub(crate) const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// The quantity a value stands for; absent ones are `None`.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    if value.is_null() {
        None
    } else {
        Quantity::from_json(value).ok()
    }
}

/// A resource list as a map.
pub(crate) fn list(value: &Value) -> BTreeMap<String, Quantity> {
    view::entries(value)
        .filter_map(|(name, value)| Some((name.to_owned(), quantity(value)?)))
        .collect()
}

/// `hugepages-<size>`.
pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether Kubernetes itself knows the resource.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether requests may be smaller than limits.
pub(crate) fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// What devices of a node are asked for by.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// What Pods may ask for as a whole (KEP-2837).
pub(crate) fn is_pod_level(name: &str) -> bool {
    ["cpu", "memory"].contains(&name) || is_huge_page(name)
}

/// The name of a resource of any kind.
pub(crate) fn resource_name(path: &Path, name: &str) -> ErrorList {
    let errors: ErrorList = names::qualified_name(name)
        .into_iter()
        .map(|message| Error::invalid(path, name, message))
        .collect();
    if errors.is_empty()
        && !name.contains('/')
        && !STANDARD.contains(&name)
        && !is_huge_page(name)
        && !name.starts_with("requests.hugepages-")
    {
        return vec![Error::invalid(
            path,
            name,
            "must be a standard resource type or fully qualified",
        )];
    }
    errors
}

/// The name of a resource that containers may ask for.
pub(crate) fn container_resource_name(path: &Path, name: &str) -> ErrorList {
    let mut errors = resource_name(path, name);
    if !name.contains('/') {
        if !["cpu", "memory", "ephemeral-storage"].contains(&name) && !is_huge_page(name) {
            errors.push(Error::invalid(
                path,
                name,
                "must be a standard resource for containers",
            ));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(Error::invalid(
            path,
            name,
            "doesn't follow extended resource name standard",
        ));
    }
    errors
}

fn pod_resource_name(path: &Path, name: &str) -> ErrorList {
    let mut errors = resource_name(path, name);
    if errors.is_empty() && !is_pod_level(name) {
        errors.push(Error::not_supported(
            path,
            name,
            &["cpu", "hugepages-", "memory"],
        ));
    }
    errors
}

/// A quantity of the named resource: not negative, whole where only whole ones make sense.
pub(crate) fn quantity_value(path: &Path, name: &str, value: &Quantity) -> ErrorList {
    let mut errors: ErrorList = not_below_zero(path, value).into_iter().collect();
    if (COUNTED.contains(&name) || is_extended(name)) && value.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(
            path,
            value.canonical(),
            "must be an integer",
        ));
    }
    errors
}

fn not_below_zero(path: &Path, value: &Quantity) -> Option<Error> {
    let is_below = value.signum() < 0;
    is_below.then(|| Error::invalid(path, value.canonical(), NEGATIVE))
}

/// A quantity of anything, not negative.
pub(crate) fn non_negative_quantity(at: &At<'_>) -> Option<Error> {
    not_below_zero(&at.path, &quantity(at.value)?)
}

/// A quantity of anything, not negative; parts of one are not looked at.
pub(crate) fn not_negative(at: &At<'_>) -> ErrorList {
    match quantity(at.value) {
        Some(quantity) if quantity.value() < 0 => vec![Error::invalid(
            &at.path,
            quantity.value(),
            "must be a valid resource quantity",
        )],
        _ => ErrorList::new(),
    }
}

/// Whose requirements are being looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A container's (or a Pod's overhead).
    Container,
    /// A whole Pod's.
    Pod,
}

/// `resources` of a container or Pod.
pub(crate) fn requirements(at: &At<'_>, scope: Scope, claims: &BTreeSet<&str>) -> ErrorList {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    let mut errors = ErrorList::new();
    for (name, value) in limits.entries() {
        errors.extend(one_quantity(name, &value, scope));
    }
    for (name, value) in requests.entries() {
        errors.extend(one_quantity_name(name, &value, scope));
        let Some(amount) = quantity(value.value) else {
            continue;
        };
        errors.extend(quantity_value(&value.path, name, &amount));
        errors.extend(against_limit(name, &amount, &limits, &requests.path));
        errors.extend(huge_page_multiple(&value.path, name, &amount));
    }
    let any = |wanted: fn(&str) -> bool| {
        limits
            .entries()
            .chain(requests.entries())
            .any(|(name, _)| wanted(name))
    };
    if any(is_huge_page) && !any(|name| ["cpu", "memory"].contains(&name)) {
        errors.push(Error::forbidden(
            &at.path,
            "HugePages require cpu or memory",
        ));
    }
    errors.extend(claim_names(&at.get("claims"), claims));
    errors
}

fn one_quantity_name(name: &str, value: &At<'_>, scope: Scope) -> ErrorList {
    match scope {
        Scope::Container => container_resource_name(&value.path, name),
        Scope::Pod => pod_resource_name(&value.path, name),
    }
}

fn one_quantity(name: &str, value: &At<'_>, scope: Scope) -> ErrorList {
    let mut errors = one_quantity_name(name, value, scope);
    if let Some(amount) = quantity(value.value) {
        errors.extend(quantity_value(&value.path, name, &amount));
        errors.extend(huge_page_multiple(&value.path, name, &amount));
    }
    errors
}

fn against_limit(name: &str, request: &Quantity, limits: &At<'_>, requests: &Path) -> ErrorList {
    match quantity(get(limits.value, name)) {
        Some(limit) if *request != limit && !is_overcommit_allowed(name) => {
            vec![Error::invalid(
                requests,
                request.canonical(),
                format!("must be equal to {name} limit of {}", limit.canonical()),
            )]
        }
        Some(limit) if *request > limit => {
            vec![Error::invalid(
                requests,
                request.canonical(),
                format!(
                    "must be less than or equal to {name} limit of {}",
                    limit.canonical()
                ),
            )]
        }
        None if !is_overcommit_allowed(name) => vec![Error::required(
            &limits.path,
            "Limit must be set for non overcommitable resources",
        )],
        _ => ErrorList::new(),
    }
}

fn huge_page_multiple(path: &Path, name: &str, amount: &Quantity) -> ErrorList {
    let Some(size) = name.strip_prefix("hugepages-") else {
        return ErrorList::new();
    };
    let divisible = match size.parse::<Quantity>() {
        Ok(size) => {
            size.signum() > 0
                && size.milli_value() % 1000 == 0
                && amount.value() % size.value() == 0
        }
        Err(_) => false,
    };
    if divisible {
        return ErrorList::new();
    }
    vec![Error::invalid(
        path,
        amount.canonical(),
        format!(
            "{} is not positive integer multiple of {name}",
            amount.canonical()
        ),
    )]
}

fn claim_names(claims: &At<'_>, known: &BTreeSet<&str>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for claim in claims.items() {
        let (name, request) = (text(get(claim.value, "name")), claim.get("request"));
        if name.is_empty() {
            errors.push(Error::required(&claim.path, ""));
            continue;
        }
        let key = if request.text().is_empty() {
            name.to_owned()
        } else {
            format!("{name}/{}", request.text())
        };
        if seen.contains(name) {
            errors.push(Error::duplicate(&claim.path, name));
        } else {
            errors.extend(if request.text().is_empty() {
                vec![]
            } else {
                names_at(&request, names::dns1123_label)
            });
            if seen.contains(&key) {
                errors.push(Error::duplicate(&claim.path, key.clone()));
            } else if request.text().is_empty()
                && seen
                    .iter()
                    .any(|other: &String| other.split_once('/').is_some_and(|(n, _)| n == name))
            {
                errors.push(Error::duplicate(&claim.path, name));
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            errors.push(unknown_claim(&claim.path, name, known));
        }
    }
    errors
}

fn unknown_claim(path: &Path, name: &str, known: &BTreeSet<&str>) -> Error {
    let mut error = Error::not_found(path, name);
    let names: Vec<&str> = known.iter().copied().collect();
    error.detail = match names.is_empty() {
        true => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
        false => format!(
            "must be one of the names in pod.spec.resourceClaims: {}",
            names.join(", ")
        ),
    };
    error
}

/// One `Invalid value` per message of a name rule.
pub(crate) fn names_at(at: &At<'_>, rule: fn(&str) -> Vec<String>) -> ErrorList {
    crate::meta::invalid_text(at, rule(at.text()))
}
