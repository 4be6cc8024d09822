//! ResourceQuotas: how much a namespace may have of what (upstream's pkg/registry/core/resourcequota).
//!
//! What counts for how much is [`crate::quota`]'s business.

use std::collections::BTreeSet;

use api::field::{Error, ErrorKind, ErrorList, Path};
use api::names;
use serde_json::Value;

use crate::meta::{self, immutable};
use crate::pod::round_up;
use crate::resources::{self, quantity};
use crate::view::{At, dig, entries, entry, get, list, remove, restore, text};
use crate::{Rules, Subresource};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: |quota| remove(quota, "status"),
    prepare_update: |part, new, old| {
        let kept = match part {
            Subresource::Status => "spec",
            _ => "status",
        };
        restore(new, old, kept);
    },
    validate_create: validate,
    validate_update,
};

/// Scopes that are there or not.
const PLAIN_SCOPES: [&str; 5] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "CrossNamespacePodAffinity",
];
/// Scopes that have values.
const CLASS_SCOPES: [&str; 2] = ["PriorityClass", "VolumeAttributesClass"];
const MISAPPLIED: &str = "unsupported scope applied to resource";
const EXCLUSIVE: [[&str; 2]; 2] = [
    ["BestEffort", "NotBestEffort"],
    ["Terminating", "NotTerminating"],
];
const POD_AMOUNTS: [&str; 7] = [
    "pods",
    "cpu",
    "memory",
    "limits.cpu",
    "limits.memory",
    "requests.cpu",
    "requests.memory",
];

/// What a client is told about a new quota besides the answer: that it allows fewer limits than requests.
pub(crate) fn warnings(quota: &Value) -> Vec<String> {
    let hard = dig(quota, &["spec", "hard"]);
    let amount = |name: &str| quantity(get(hard, name));
    let mut found = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let limited = format!("limits.{name}");
        let mut requested = format!("requests.{name}");
        if amount(&requested).is_none() && ["cpu", "memory"].contains(&name) {
            requested = name.to_owned();
        }
        if let (Some(request), Some(limit)) = (amount(&requested), amount(&limited))
            && request > limit
        {
            found.push(format!(
                "ResourceQuota {requested} ({request}) should be less than {limited} ({limit})"
            ));
        }
    }
    found
}

fn default(quota: &mut Value) {
    for (part, name) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        if !get(quota, part).is_null() {
            let list = entry(quota, part).get_mut(name);
            list.into_iter().for_each(round_up);
        }
    }
}

fn validate(quota: &Value) -> ErrorList {
    let mut errors = meta::validate(quota, true, names::dns1123_subdomain);
    errors.extend(spec(&At::field(quota, "spec")));
    errors
}

fn validate_update(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    if part == Subresource::Status {
        let status = At::field(new, "status");
        return ["hard", "used"]
            .iter()
            .flat_map(|name| amounts(&status.get(name)))
            .collect();
    }
    let asked = At::field(new, "spec");
    let mut errors = spec(&asked);
    let scopes = asked.get("scopes");
    let before = dig(old, &["spec", "scopes"]);
    let set = |scopes: &Value| -> BTreeSet<String> {
        list(scopes).iter().map(|s| text(s).to_owned()).collect()
    };
    if set(scopes.value) != set(before) {
        errors.extend(immutable(&scopes, before));
    }
    errors
}

fn spec(spec: &At<'_>) -> ErrorList {
    let hard = spec.get("hard");
    let mut errors = amounts(&hard);
    errors.extend(scopes(spec, hard.value));
    errors.extend(selector(spec, hard.value));
    errors
}

fn amounts(amounts: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, amount) in amounts.entries() {
        errors.extend(resources::resource_name(&amount.path, name));
        if !name.contains('/') && !is_standard(name) {
            let why = "must be a standard resource for quota";
            errors.push(Error::invalid(&amount.path, name, why));
        }
        if let Some(quantity) = quantity(amount.value) {
            errors.extend(resources::quantity_value(&amount.path, name, &quantity));
        }
    }
    errors
}

fn is_standard(name: &str) -> bool {
    (resources::STANDARD.contains(&name) && name != "storage")
        || resources::is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

fn scopes(spec: &At<'_>, hard: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let scopes = spec.get("scopes");
    let wrong = |why: &str| Error::invalid(&scopes.path, scopes.value.clone(), why);
    for scope in list(scopes.value).iter().map(text) {
        if !is_scope(scope) {
            errors.push(wrong("unsupported scope"));
        }
        errors.extend(misapplied(scope, hard).map(|()| wrong(MISAPPLIED)));
    }
    let given: Vec<&str> = list(scopes.value).iter().map(text).collect();
    errors.extend(conflicts(&given).map(|()| wrong("conflicting scopes")));
    errors
}

fn is_scope(scope: &str) -> bool {
    PLAIN_SCOPES.contains(&scope) || CLASS_SCOPES.contains(&scope)
}

/// Once for each resource that cannot be counted by the scope.
fn misapplied(scope: &str, hard: &Value) -> impl Iterator<Item = ()> {
    let names = entries(hard).map(|(name, _)| name);
    names
        .filter(|name| is_standard(name) && !applies(scope, name))
        .map(|_| ())
}

fn applies(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            ["persistentvolumeclaims", "requests.storage"].contains(&resource)
        }
        scope if is_scope(scope) => POD_AMOUNTS.contains(&resource),
        _ => true,
    }
}

fn conflicts(given: &[&str]) -> impl Iterator<Item = ()> {
    let pairs = EXCLUSIVE.iter();
    pairs
        .filter(|pair| pair.iter().all(|scope| given.contains(scope)))
        .map(|_| ())
}

fn selector(spec: &At<'_>, hard: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let selector = spec.get("scopeSelector");
    let terms = selector.get("matchExpressions");
    let path = terms.path.clone();
    let mut given = Vec::new();
    for term in terms.items() {
        let [scope, operator] = ["scopeName", "operator"].map(|n| text(get(term.value, n)));
        given.push(scope);
        if !is_scope(scope) {
            errors.push(Error::invalid(
                &path.child("scopeName"),
                scope,
                "unsupported scope",
            ));
        }
        errors.extend(misapplied(scope, hard).map(|()| misused(&path, selector.value)));
        if PLAIN_SCOPES.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&path.child("operator"), operator, why));
        }
        errors.extend(values(&path, operator, get(term.value, "values")));
    }
    // Upstream shows the other list of scopes here.
    let shown = get(spec.value, "scopes");
    let wrong = || Error::invalid(&path, shown.clone(), "conflicting scopes");
    errors.extend(conflicts(&given).map(|()| wrong()));
    errors
}

fn values(path: &Path, operator: &str, values: &Value) -> Option<Error> {
    let is_given = !list(values).is_empty();
    let path_of = |name: &str| path.child(name);
    match operator {
        "In" | "NotIn" => (!is_given).then(|| {
            let why =
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            Error::required(&path_of("values"), why)
        }),
        "Exists" | "DoesNotExist" => is_given.then(|| {
            let why =
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            Error::invalid(&path_of("values"), values.clone(), why)
        }),
        other => Some(Error::invalid(
            &path_of("operator"),
            other,
            "not a valid selector operator",
        )),
    }
}

/// A selector whose scopes do not fit, as upstream shows it: by the names and in the order it has inside its server.
fn misused(path: &Path, selector: &Value) -> Error {
    let terms = list(get(selector, "matchExpressions")).iter().map(|term| {
        let [scope, operator, values] =
            ["scopeName", "operator", "values"].map(|name| get(term, name));
        format!("{{\"ScopeName\":{scope},\"Operator\":{operator},\"Values\":{values}}}")
    });
    let terms = terms.collect::<Vec<_>>().join(",");
    Error {
        kind: ErrorKind::Invalid,
        field: path.to_string(),
        value: None,
        detail: format!("{{\"MatchExpressions\":[{terms}]}}: {MISAPPLIED}"),
    }
}
