//! LimitRanges: what containers, Pods and claims of a namespace may ask for (upstream's pkg/registry/core/limitrange).
//!
//! What they do to objects is [`crate::limits`]' business.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{Error, ErrorList, Path};
use api::names;
use api::quantity::Quantity;
use serde_json::Value;

use crate::pod::round_up;
use crate::resources::{self, MAX_MILLI};
use crate::view::{At, dig, entry, get, list_mut, object, text};
use crate::{Rules, generic, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate,
    validate_update: |_, new, _| validate(new),
};

/// The lists of amounts of a limit.
const LISTS: [&str; 5] = [
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];
const TYPES: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

type Amounts = BTreeMap<String, Quantity>;

fn default(limits: &mut Value) {
    for limit in list_mut(entry(limits, "spec"), "limits") {
        for name in LISTS {
            limit.get_mut(name).into_iter().for_each(round_up);
        }
        if text(get(limit, "type")) == "Container" {
            fill(limit, "default", "max");
            fill(limit, "defaultRequest", "default");
            fill(limit, "defaultRequest", "min");
        }
    }
}

/// What `name` does not say is as in `source`.
fn fill(limit: &mut Value, name: &str, source: &str) {
    let Some(source) = get(limit, source).as_object().cloned() else {
        return;
    };
    let list = object(entry(limit, name));
    for (resource, amount) in source {
        list.entry(resource).or_insert(amount);
    }
}

fn validate(limits: &Value) -> ErrorList {
    let mut errors = meta::validate(limits, true, names::dns1123_subdomain);
    let mut seen = BTreeSet::new();
    let path = Path::new("spec").child("limits");
    let limits = At {
        value: dig(limits, &["spec", "limits"]),
        path,
    };
    for limit in limits.items() {
        let kind = limit.get("type");
        errors.extend(type_name(&kind));
        if !seen.insert(kind.text()) {
            errors.push(Error::duplicate(&kind.path, kind.text()));
        }
        errors.extend(one(&limit, kind.text()));
    }
    errors
}

fn type_name(kind: &At<'_>) -> ErrorList {
    let errors = resources::names_at(kind, names::qualified_name);
    if errors.is_empty() && !kind.text().contains('/') && !TYPES.contains(&kind.text()) {
        let why = "must be a standard limit type or fully qualified";
        return vec![Error::invalid(&kind.path, kind.text(), why)];
    }
    errors
}

fn one(limit: &At<'_>, kind: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut lists: [Amounts; 5] = Default::default();
    for (name, amounts) in LISTS.iter().zip(&mut lists) {
        let given = limit.get(name);
        if *name == "maxLimitRequestRatio" {
            errors.extend(claim_size(limit, kind));
        }
        if kind == "Pod" && name.starts_with("default") {
            if given.len() > 0 {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(Error::forbidden(&given.path, why));
            }
            continue;
        }
        for (resource, amount) in given.entries() {
            errors.extend(match kind {
                "Pod" | "Container" => resources::container_resource_name(&amount.path, resource),
                _ => resources::resource_name(&amount.path, resource),
            });
        }
        *amounts = resources::list(given.value);
    }
    let names: BTreeSet<&String> = lists.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        errors.extend(agree(limit, name, &lists));
    }
    errors
}

fn claim_size(limit: &At<'_>, kind: &str) -> Option<Error> {
    let has = |list: &str| !dig(limit.value, &[list, "storage"]).is_null();
    let is_wrong = kind == "PersistentVolumeClaim" && !has("min") && !has("max");
    let why = "either minimum or maximum storage value is required, but neither was provided";
    is_wrong.then(|| Error::required(&limit.path.child("limits"), why))
}

/// What the lists say of one resource goes together.
fn agree(limit: &At<'_>, name: &str, lists: &[Amounts; 5]) -> ErrorList {
    let [max, min, default, request, ratio] = lists.each_ref().map(|list| list.get(name));
    let mut errors = ErrorList::new();
    let mut wrong = |list: &str, shown: &Quantity, why: String| {
        let path = limit.path.child(list).key(name);
        errors.push(Error::invalid(&path, shown.canonical(), why));
    };
    // The smaller, the larger, what they are called, and where and with which of the two it is said.
    let orders = [
        (min, max, "min value", "max value", "min", min),
        (
            min,
            request,
            "min value",
            "default request value",
            "defaultRequest",
            request,
        ),
        (
            request,
            max,
            "default request value",
            "max value",
            "defaultRequest",
            request,
        ),
        (
            request,
            default,
            "default request value",
            "default limit value",
            "defaultRequest",
            request,
        ),
        (min, default, "min value", "default value", "default", min),
        (default, max, "default value", "max value", "default", max),
    ];
    for (less, more, lesser, greater, list, shown) in orders {
        if let (Some(less), Some(more), Some(shown)) = (less, more, shown)
            && less > more
        {
            let why = format!("{lesser} {less} is greater than {greater} {more}");
            wrong(list, shown, why);
        }
    }
    if let Some(ratio) = ratio {
        if *ratio < Quantity::from_i64(1) {
            wrong(
                "maxLimitRequestRatio",
                ratio,
                format!("ratio {ratio} is less than 1"),
            );
        }
        if let (Some(min), Some(max)) = (min, max)
            && let Some(possible) = exceeded(ratio, min, max)
        {
            let why = format!("ratio {ratio} is greater than max/min = {possible:.6}");
            wrong("maxLimitRequestRatio", ratio, why);
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && default != request
        && !resources::is_overcommit_allowed(name)
    {
        let why = format!(
            "default value {default} must equal to defaultRequest value {request} in {name}"
        );
        wrong("defaultRequest", request, why);
    }
    errors
}

/// The largest ratio between these, if `ratio` is above it.
fn exceeded(ratio: &Quantity, min: &Quantity, max: &Quantity) -> Option<f64> {
    let all = [ratio, min, max];
    let [ratio, min, max] = match all.iter().all(|amount| amount.value() < MAX_MILLI) {
        true => all.map(|amount| amount.milli_value() as f64 / 1000.0),
        false => all.map(|amount| amount.value() as f64),
    };
    let possible = max / min;
    (ratio > possible).then_some(possible)
}
