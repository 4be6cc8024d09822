//! The fields of an object, and those in which two objects differ.

use super::element::Element;
use super::place::{Kind, Place, element_of, zero};
use super::set::Set;
use crate::schema::Type;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The leaves and list elements of a value.
pub(super) fn fields(place: Place<'_>, value: &Value) -> Set {
    collect(place, value).0
}

/// What is below a place, and whether the place itself is a leaf.
fn collect(place: Place<'_>, value: &Value) -> (Set, bool) {
    let mut set = Set::default();
    match (place.kind(), value) {
        (Kind::Leaf, _) => return (set, true),
        (Kind::List(element, keys), Value::Array(items)) => {
            let names: Vec<_> = items
                .iter()
                .map(|item| element_of(element, keys, item).ok())
                .collect();
            let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
            for name in names.iter().flatten() {
                if !seen.insert(name) {
                    twice.insert(name);
                }
            }
            for (name, item) in names.iter().zip(items) {
                let Some(name) = name else { continue };
                set.members.insert(name.clone());
                if !twice.contains(name) {
                    below(&mut set, name, collect(element, item).0);
                }
            }
        }
        (Kind::Struct(ty), Value::Object(map)) => {
            for (key, item) in map {
                if let Some(field) = ty.field(key) {
                    add(&mut set, Place::field(field), key, item, false);
                }
            }
        }
        (Kind::Map(values), Value::Object(map)) => {
            for (key, item) in map {
                add(&mut set, values, key, item, true);
            }
        }
        _ => {}
    }
    (set, false)
}

fn add(set: &mut Set, place: Place<'_>, key: &str, item: &Value, in_map: bool) {
    let name = Element::field(key);
    let (child, leaf) = collect(place, item);
    let bare = item.is_null() || item.as_object().is_some_and(Map::is_empty);
    if leaf || bare || in_map {
        set.members.insert(name.clone());
    }
    below(set, &name, child);
}

fn below(set: &mut Set, name: &Element, child: Set) {
    if !child.is_empty() {
        set.children.insert(name.clone(), child);
    }
}

/// In what two objects differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) removed: Set,
    pub(super) modified: Set,
    pub(super) added: Set,
}

/// An object, and whether it went through a Go struct upstream: such structs always have some of their fields, set or not.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    Typed(&'a Value),
    /// As a client wrote it, or merged from that.
    Plain(&'a Value),
}

impl<'a> Side<'a> {
    fn take(self) -> (&'a Value, bool) {
        match self {
            Self::Typed(value) => (value, true),
            Self::Plain(value) => (value, false),
        }
    }
}

/// Compares two values of the same type.
pub(super) fn compare(place: Place<'_>, old: Side<'_>, new: Side<'_>) -> Comparison {
    let ((old, old_typed), (new, new_typed)) = (old.take(), new.take());
    let mut walk = Walk {
        path: Vec::new(),
        found: Comparison::default(),
        old_typed,
        new_typed,
    };
    walk.compare(place, Some(old), Some(new));
    walk.found
}

struct Walk {
    path: Vec<Element>,
    found: Comparison,
    old_typed: bool,
    new_typed: bool,
}

impl Walk {
    fn compare(&mut self, place: Place<'_>, old: Option<&Value>, new: Option<&Value>) {
        if old == new {
            return;
        }
        let whole = match place.kind() {
            Kind::Leaf => true,
            Kind::List(element, keys) => self.lists(element, keys, items(old), items(new)),
            Kind::Struct(ty) => self.structs(ty, entries(old), entries(new)),
            Kind::Map(values) => self.maps(values, entries(old), entries(new)),
        };
        match (old, new) {
            (None, Some(_)) => self.found.added.insert(&self.path),
            (Some(_), None) => self.found.removed.insert(&self.path),
            _ if whole => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn step(&mut self, name: Element, place: Place<'_>, old: Option<&Value>, new: Option<&Value>) {
        self.path.push(name);
        self.compare(place, old, new);
        self.path.pop();
    }

    /// Whether there is nothing to go into, so that the place is compared as a whole; so for the others.
    fn structs(&mut self, ty: &'static Type, old: Entries<'_>, new: Entries<'_>) -> bool {
        if old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty) {
            return true;
        }
        for field in &ty.fields {
            let a = old.and_then(|m| m.get(field.name));
            let b = new.and_then(|m| m.get(field.name));
            if a == b && old.is_some() == new.is_some() {
                continue;
            }
            let always = zero(field);
            // What neither side says is no difference, even if one of them would say it upstream.
            let both = self.old_typed && self.new_typed;
            let says = |typed: bool, other: Option<&Value>| typed && (both || other.is_some());
            let fill_old = old.is_some() && says(self.old_typed, b);
            let fill_new = new.is_some() && says(self.new_typed, a);
            let a = a.or(always.as_ref().filter(|_| fill_old));
            let b = b.or(always.as_ref().filter(|_| fill_new));
            if a.is_some() || b.is_some() {
                self.step(Element::field(field.name), Place::field(field), a, b);
            }
        }
        false
    }

    fn maps(&mut self, values: Place<'_>, old: Entries<'_>, new: Entries<'_>) -> bool {
        if old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty) {
            return true;
        }
        for (key, a, b) in zip(old, new) {
            self.step(Element::field(key), values, a, b);
        }
        false
    }

    fn lists(
        &mut self,
        element: Place<'_>,
        keys: &[&'static str],
        old: Items<'_>,
        new: Items<'_>,
    ) -> bool {
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        if old.is_empty() && new.is_empty() {
            return true;
        }
        let mut named: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            if let Ok(name) = element_of(element, keys, item) {
                named.entry(name).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(name) = element_of(element, keys, item) {
                named.entry(name).or_default().1.push(item);
            }
        }
        for (name, (a, b)) in named {
            self.elements(element, name, &a, &b);
        }
        false
    }

    /// Elements of one name; more than one is an object from before its list had keys, and compared as a whole.
    fn elements(&mut self, element: Place<'_>, name: Element, old: &[&Value], new: &[&Value]) {
        match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => {
                self.step(name, element, old.first().copied(), new.first().copied());
            }
            (2.., 2..) => {
                if old != new {
                    self.at(name, |found| &mut found.modified);
                }
            }
            (2.., _) => {
                self.step(name.clone(), element, None, new.first().copied());
                self.at(name, |found| &mut found.removed);
            }
            (_, _) => {
                self.step(name.clone(), element, old.first().copied(), None);
                self.at(name, |found| &mut found.added);
            }
        }
    }

    fn at(&mut self, name: Element, which: impl Fn(&mut Comparison) -> &mut Set) {
        self.path.push(name);
        which(&mut self.found).insert(&self.path);
        self.path.pop();
    }
}

type Entries<'a> = Option<&'a Map<String, Value>>;
type Items<'a> = Option<&'a [Value]>;

pub(super) fn entries(value: Option<&Value>) -> Entries<'_> {
    value.and_then(Value::as_object)
}

pub(super) fn items(value: Option<&Value>) -> Items<'_> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}

/// Every key of either map, with both values.
pub(super) fn zip<'a>(
    old: Entries<'a>,
    new: Entries<'a>,
) -> impl Iterator<Item = (&'a String, Option<&'a Value>, Option<&'a Value>)> {
    let keys = [old, new].into_iter().flatten().flat_map(Map::keys);
    let keys: BTreeSet<&String> = keys.collect();
    keys.into_iter().map(move |key| {
        (
            key,
            old.and_then(|m| m.get(key)),
            new.and_then(|m| m.get(key)),
        )
    })
}
