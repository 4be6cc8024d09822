//! Quotas: what the objects of a namespace count for ([`usage`]), what a new or changed object adds, and whether that is allowed
//! ([`charge`]), and what a quota's status has to be ([`count`]) (upstream's plugin ResourceQuota, its controller and evaluators).
//!
//! A quota is charged before an object is there, in the same write; what becomes less is counted anew afterwards. A quota whose status
//! does not yet count what its spec wants counted says nothing about that; see [`is_uncounted`].

mod scope;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::Subresource;
use crate::pod::aggregate::{Amounts, add};
use crate::resources;
use crate::view::{dig, entry, get, object, same, text};

pub use usage::{counts, kind_of, usage};

/// Kinds that no quota counts.
const IGNORED: [&str; 2] = ["events", "events.events.k8s.io"];

/// A write that quotas may have to say something about.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The kind, as `GroupResource` prints it.
    pub kind: &'a str,
    /// What is written.
    pub part: Subresource,
    /// The object as it is to be.
    pub new: &'a Value,
    /// The object as it is; `None` when it is made.
    pub old: Option<&'a Value>,
    /// The time.
    pub now: Timestamp,
}

impl Request<'_> {
    /// Whether the write can make anything count for more.
    pub fn is_counted(&self) -> bool {
        let Some(old) = self.old else {
            return !IGNORED.contains(&self.kind);
        };
        match (self.kind, self.part) {
            ("pods", Subresource::Resize) => true,
            ("pods", Subresource::Main) => {
                scope::is_terminating(old) != scope::is_terminating(self.new)
            }
            ("services", Subresource::Main) => true,
            ("persistentvolumeclaims", Subresource::Main | Subresource::Status) => true,
            _ => false,
        }
    }

    /// What the write adds.
    fn added(&self, quota: &Value) -> Amounts {
        let is_old = |old: &&Value| scope::fits(quota, self.kind, old);
        let before = self.old.filter(is_old);
        let before = before.map(|old| usage(self.kind, old, self.now));
        let mut added = usage(self.kind, self.new, self.now);
        if let Some(before) = before {
            for (name, amount) in &mut added {
                if let Some(had) = before.get(name) {
                    *amount = amount.minus(had);
                }
            }
        }
        added.retain(|_, amount| amount.signum() > 0);
        added
    }
}

/// Whether the status of a quota does not say yet how much there is of something that objects of this kind count for.
pub fn is_uncounted(quota: &Value, kind: &str) -> bool {
    let hard = amounts(quota, "spec", "hard");
    let (held, used) = (
        amounts(quota, "status", "hard"),
        amounts(quota, "status", "used"),
    );
    let mut names = hard.keys();
    names.any(|name| counts(kind, name) && !(held.contains_key(name) && used.contains_key(name)))
}

/// Whether the status of a quota says something else than its spec wants counted.
pub fn is_stale(quota: &Value) -> bool {
    amounts(quota, "spec", "hard") != amounts(quota, "status", "hard")
        || kinds(quota).iter().any(|kind| is_uncounted(quota, kind))
}

/// What the quotas of a namespace have used after a write, by their index: of those that it adds something to.
///
/// # Errors
/// Why one of them does not allow it: 403 `… is forbidden: <this>`.
pub fn charge(request: &Request<'_>, quotas: &[Value]) -> Result<BTreeMap<usize, Value>, String> {
    let mut concerned = Vec::new();
    for (index, quota) in quotas.iter().enumerate() {
        let hard = amounts(quota, "status", "hard");
        let names: Vec<&str> = hard
            .keys()
            .map(String::as_str)
            .filter(|name| counts(request.kind, name))
            .collect();
        if names.is_empty() || !scope::fits(quota, request.kind, request.new) {
            continue;
        }
        check_said(request, quota, &names)?;
        concerned.push((index, quota, hard));
    }
    check_signs(request, concerned.is_empty())?;
    let mut charged = BTreeMap::new();
    for (index, quota, hard) in concerned {
        let mut added = request.added(quota);
        added.retain(|name, _| hard.contains_key(name));
        if added.is_empty() {
            continue;
        }
        let before = amounts(quota, "status", "used");
        let mut after = before.clone();
        add(&mut after, &added);
        if request.part != Subresource::Status {
            check_bounds(quota, &added, &before, &after, &hard)?;
        }
        charged.insert(index, to_value(&after));
    }
    Ok(charged)
}

/// The object has to say what is counted, and the quota how much there is.
fn check_said(request: &Request<'_>, quota: &Value, names: &[&str]) -> Result<(), String> {
    let name = name_of(quota);
    if request.kind == "pods"
        && let Some(missing) = usage::missing(request.new, names.iter().copied())
    {
        return Err(format!("failed quota: {name}: must specify {missing}"));
    }
    let used = get(get(quota, "status"), "used");
    if names.iter().any(|name| get(used, name).is_null()) {
        return Err(format!(
            "status unknown for quota: {name}, resources: {}",
            names.join(",")
        ));
    }
    Ok(())
}

fn check_signs(request: &Request<'_>, is_free: bool) -> Result<(), String> {
    if is_free {
        return Ok(());
    }
    let used = usage(request.kind, request.new, request.now);
    let negative = used.iter().filter(|(_, amount)| amount.signum() < 0);
    let negative: Vec<&str> = negative.map(|(name, _)| name.as_str()).collect();
    if negative.is_empty() {
        return Ok(());
    }
    Err(format!(
        "quota usage is negative for resource(s): {}",
        negative.join(",")
    ))
}

fn check_bounds(
    quota: &Value,
    added: &Amounts,
    before: &Amounts,
    after: &Amounts,
    hard: &Amounts,
) -> Result<(), String> {
    let is_above = |name: &&String| hard.get(*name) < after.get(*name);
    let exceeded: Vec<&String> = added.keys().filter(is_above).collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let shown = |amounts: &Amounts| {
        let parts = exceeded.iter().filter_map(|name| {
            let amount = amounts.get(*name)?;
            Some(format!("{name}={}", amount.canonical()))
        });
        parts.collect::<Vec<_>>().join(",")
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        name_of(quota),
        shown(added),
        shown(before),
        shown(hard)
    ))
}

/// The kinds whose objects have to be looked at to count a quota.
pub fn kinds(quota: &Value) -> BTreeSet<String> {
    let hard = amounts(quota, "spec", "hard");
    let kinds = hard.keys().filter_map(|name| kind_of(name));
    kinds.map(str::to_owned).collect()
}

/// A quota's status, given all objects of its namespace of [`kinds`]; and when it has to be counted again because Pods end by then.
/// What no kind here counts for stays as it was.
pub fn count(
    quota: &Value,
    objects: &BTreeMap<String, Vec<Value>>,
    now: Timestamp,
) -> (Value, Option<Timestamp>) {
    let hard = amounts(quota, "spec", "hard");
    let mut used = amounts(quota, "status", "used");
    let mut again = None;
    for (kind, objects) in objects {
        let names = hard.keys().filter(|name| counts(kind, name));
        let mut total: Amounts = names
            .map(|name| (name.clone(), Quantity::from_i64(0)))
            .collect();
        for object in objects
            .iter()
            .filter(|object| scope::fits(quota, kind, object))
        {
            let mut counted = usage(kind, object, now);
            counted.retain(|name, _| total.contains_key(name));
            add(&mut total, &counted);
            let end = usage::ends_at(object).filter(|end| kind == "pods" && *end >= now);
            again = again.into_iter().chain(end).min();
        }
        used.extend(total);
    }
    used.retain(|name, _| hard.contains_key(name));
    (
        json!({"hard": to_value(&hard), "used": to_value(&used)}),
        again,
    )
}

/// Whether two states of a quota's status say the same.
pub fn is_same(one: &Value, other: &Value) -> bool {
    ["hard", "used"].iter().all(|list| {
        let [one, other] = [one, other].map(|status| get(status, list));
        one.is_object() && other.is_object() && resources::list(one) == resources::list(other)
    })
}

/// Whether a change of an object may make a quota's status wrong that was charged for what it was before.
pub fn is_news(kind: &str, old: &Value, new: &Value, now: Timestamp) -> bool {
    let scopes = |object: &Value| match kind {
        "pods" => json!([
            scope::is_terminating(object),
            dig(object, &["status", "qosClass"])
        ]),
        "persistentvolumeclaims" => json!(scope::attributes(object)),
        _ => Value::Null,
    };
    usage(kind, old, now) != usage(kind, new, now)
        || !same(&scopes(old), &scopes(new))
        || get(get(new, "metadata"), "deletionTimestamp")
            != get(get(old, "metadata"), "deletionTimestamp")
}

/// Puts what is used into a quota.
pub fn set_used(quota: &mut Value, used: Value) {
    object(entry(quota, "status")).insert("used".to_owned(), used);
}

fn name_of(quota: &Value) -> &str {
    text(dig(quota, &["metadata", "name"]))
}

fn amounts(quota: &Value, part: &str, list: &str) -> Amounts {
    resources::list(dig(quota, &[part, list]))
}

fn to_value(amounts: &Amounts) -> Value {
    let fields = amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.canonical().into()));
    Value::Object(Map::from_iter(fields))
}
