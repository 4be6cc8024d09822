//! Merging what is applied into what is there, and taking out what is applied no more.

use super::compare::{entries, items, zip};
use super::element::Element;
use super::place::{Kind, Place, element_of};
use super::set::Set;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Merges: what `new` says counts, what only `old` says stays. Nothing is removed. `None` when nothing is left to say.
pub(super) fn merge(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Option<Value> {
    match place.kind() {
        Kind::Leaf => new.or(old).cloned(),
        Kind::List(element, keys) => {
            let (a, b) = (
                items(old).unwrap_or_default(),
                items(new).unwrap_or_default(),
            );
            if a.is_empty() && b.is_empty() {
                return new.or(old).cloned();
            }
            let merged = merge_lists(element, keys, a, b);
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
        Kind::Struct(_) | Kind::Map(_) => {
            let (a, b) = (entries(old), entries(new));
            if a.is_none_or(Map::is_empty) && b.is_none_or(Map::is_empty) {
                return new.or(old).cloned();
            }
            let mut out = Map::new();
            for (key, a, b) in zip(a, b) {
                let merged = match (place.kind(), a, b) {
                    (Kind::Struct(ty), a, b) => match ty.field(key) {
                        Some(field) => merge(Place::field(field), a, b),
                        None => b.or(a).cloned(),
                    },
                    (Kind::Map(values), a, b) => merge(values, a, b),
                    (_, a, b) => b.or(a).cloned(),
                };
                out.extend(merged.map(|value| (key.clone(), value)));
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
    }
}

/// Elements that both have come in the new order; elements that only the old list has stay behind the one they followed.
fn merge_lists(
    element: Place<'_>,
    keys: &[&'static str],
    old: &[Value],
    new: &[Value],
) -> Vec<Value> {
    let named = |list: &[Value]| -> Vec<(Element, usize)> {
        let names = list.iter().enumerate();
        names
            .filter_map(|(i, item)| Some((element_of(element, keys, item).ok()?, i)))
            .collect()
    };
    let (left, right) = (named(old), named(new));
    let mut in_old: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (name, i) in &left {
        // Of an element that is there twice, neither counts when it is applied.
        let value = match in_old.contains_key(name) {
            true => None,
            false => Some(&old[*i]),
        };
        in_old.insert(name, value);
    }
    let in_new: BTreeSet<&Element> = right.iter().map(|(name, _)| name).collect();
    let mut shared = right
        .iter()
        .map(|(name, _)| name)
        .filter(|name| in_old.contains_key(name));
    let mut next_shared = shared.next();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((a, _)), Some((b, j))) = (left.get(l), right.get(r)) {
            if a == b {
                done.insert(a);
                out.extend(merge(
                    element,
                    in_old.get(a).copied().flatten(),
                    Some(&new[*j]),
                ));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            // It comes later, where the new order wants it.
            if in_new.contains(a) && next_shared.is_some_and(|next| next != a) {
                l += 1;
                continue;
            }
        }
        if let Some((a, i)) = left.get(l) {
            if !in_new.contains(a) {
                out.extend(merge(element, Some(&old[*i]), None));
                l += 1;
                continue;
            }
            if done.contains(a) {
                l += 1;
            }
        }
        if let Some((b, j)) = right.get(r) {
            done.insert(b);
            out.extend(merge(
                element,
                in_old.get(b).copied().flatten(),
                Some(&new[*j]),
            ));
            r += 1;
            if next_shared == Some(b) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// Takes the elements and fields of a set out of a value; null when nothing is left.
pub(super) fn remove(place: Place<'_>, value: &Value, set: &Set) -> Value {
    match (place.kind(), value) {
        (Kind::List(element, keys), Value::Array(list)) => {
            let kept = list.iter().filter_map(|item| {
                let Ok(name) = element_of(element, keys, item) else {
                    return Some(item.clone());
                };
                if set.members.contains(&name) {
                    return None;
                }
                Some(match set.children.get(&name).filter(|s| !s.is_empty()) {
                    Some(below) => remove(element, item, below),
                    None => item.clone(),
                })
            });
            let kept: Vec<Value> = kept.collect();
            match kept.is_empty() {
                true => Value::Null,
                false => Value::Array(kept),
            }
        }
        (kind @ (Kind::Struct(_) | Kind::Map(_)), Value::Object(map)) => {
            let mut out = Map::new();
            for (key, item) in map {
                let name = Element::field(key);
                if set.members.contains(&name) {
                    continue;
                }
                let place = match kind {
                    Kind::Struct(ty) => ty.field(key).map(Place::field),
                    Kind::Map(values) => Some(values),
                    _ => None,
                };
                let below = set.children.get(&name).filter(|s| !s.is_empty());
                let left = match (below, place) {
                    (Some(below), Some(place)) => remove(place, item, below),
                    _ => item.clone(),
                };
                out.insert(key.clone(), left);
            }
            match out.is_empty() {
                true => Value::Null,
                false => Value::Object(out),
            }
        }
        (Kind::Leaf, scalar) if !scalar.is_object() && !scalar.is_array() => scalar.clone(),
        _ => Value::Null,
    }
}

/// The set with the struct fields that lead to its paths.
pub(super) fn with_parents(place: Option<Place<'_>>, set: &Set) -> Set {
    let kind = place.map(Place::kind);
    let mut out = Set {
        members: set.members.clone(),
        children: BTreeMap::new(),
    };
    for (name, child) in &set.children {
        let below = match (kind, name) {
            (Some(Kind::Struct(ty)), Element::Field(key)) => {
                let field = ty.field(key);
                if field.is_some() {
                    out.members.insert(name.clone());
                }
                field.map(Place::field)
            }
            (Some(Kind::Map(values)), Element::Field(_)) => Some(values),
            (Some(Kind::List(element, _)), Element::Key(_)) => Some(element),
            _ => None,
        };
        out.children
            .insert(name.clone(), with_parents(below, child));
    }
    out
}
