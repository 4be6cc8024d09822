//! Sets of paths, as managedFields hold them: a tree whose nodes may belong to the set themselves.

use super::element::{Element, ElementError};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A set of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    pub(super) members: BTreeSet<Element>,
    pub(super) children: BTreeMap<Element, Set>,
}

impl Set {
    /// Adds a path; what leads to it is not added. The object as a whole belongs to nobody.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether there is no path in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Whether this very path is in it.
    pub fn contains(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|c| c.contains(rest)),
        }
    }

    /// Every path, those of a level before those below it.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut found = Vec::new();
        self.walk(&mut Vec::new(), &mut found);
        found
    }

    fn walk(&self, at: &mut Vec<Element>, found: &mut Vec<Vec<Element>>) {
        for member in &self.members {
            at.push(member.clone());
            found.push(at.clone());
            at.pop();
        }
        for (element, child) in &self.children {
            at.push(element.clone());
            child.walk(at, found);
            at.pop();
        }
    }

    /// Adds all of another set.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let own = self.children.entry(element.clone()).or_default();
            *own = std::mem::take(own).union(child);
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let both = child.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// What is not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let left = match other.children.get(element) {
                Some(theirs) => child.difference(theirs),
                None => child.clone(),
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// Without a field and all below it.
    pub(super) fn remove_below(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                let last = Element::field(last);
                self.members.remove(&last);
                self.children.remove(&last);
            }
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(&Element::field(first)) {
                    child.remove_below(rest);
                }
            }
        }
    }

    /// Only what begins with one of `patterns`, in which `*` stands for any step, and what leads there.
    pub(super) fn only(&self, patterns: &[&[&str]]) -> Self {
        if patterns.iter().any(|p| p.is_empty()) {
            return self.clone();
        }
        let matching = |element: &Element| -> Vec<&[&str]> {
            let matches = |head: &str| head == "*" || *element == Element::field(head);
            let heads = patterns.iter().filter_map(|p| p.split_first());
            heads
                .filter(|(head, _)| matches(head))
                .map(|(_, tail)| tail)
                .collect()
        };
        let children = self.children.iter().filter_map(|(element, child)| {
            let tails = matching(element);
            let kept = child.only(&tails);
            (!tails.is_empty() && !kept.is_empty()).then(|| (element.clone(), kept))
        });
        Self {
            members: self
                .members
                .iter()
                .filter(|m| !matching(m).is_empty())
                .cloned()
                .collect(),
            children: children.collect(),
        }
    }

    /// Reads `fieldsV1`.
    pub fn decode(fields: &Value) -> Result<Self, ElementError> {
        Ok(Self::read(fields)?.1)
    }

    /// Whether the node itself is a member, and what is below it.
    fn read(fields: &Value) -> Result<(bool, Self), ElementError> {
        let mut set = Self::default();
        let Some(map) = fields.as_object() else {
            return Err(ElementError::Invalid(fields.to_string()));
        };
        for (key, value) in map.iter().filter(|(key, _)| *key != ".") {
            let element = Element::parse(key)?;
            let (member, child) = Self::read(value)?;
            if member {
                set.members.insert(element.clone());
            }
            if !child.is_empty() {
                set.children.insert(element, child);
            }
        }
        Ok((map.is_empty() || map.contains_key("."), set))
    }

    /// Writes what [`Set::decode`] reads.
    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        for (element, child) in &self.children {
            if child.is_empty() {
                continue;
            }
            let mut below = child.encode();
            if self.members.contains(element) {
                below["."] = Value::Object(Map::new());
            }
            map.insert(element.serialize(), below);
        }
        for member in &self.members {
            let empty = || Value::Object(Map::new());
            map.entry(member.serialize()).or_insert_with(empty);
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> Set {
        Set::decode(&value).unwrap()
    }

    #[test]
    fn sets_read_and_write() {
        let fields =
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "k:{\"name\":\"x\"}": {"f:d": {}}}});
        assert_eq!(set(fields.clone()).encode(), fields);
        let paths: Vec<String> = set(fields)
            .paths()
            .iter()
            .map(|p| super::super::element::path_text(p))
            .collect();
        assert_eq!(paths, [".a", ".b", ".b.c", ".b[name=\"x\"].d"]);
        assert!(Set::decode(&json!([])).is_err());
        assert!(Set::decode(&json!({"f:a": 1})).is_err());
    }

    #[test]
    fn parents_and_children_are_told_apart() {
        let parent = set(json!({"f:a": {}}));
        let child = set(json!({"f:a": {"f:b": {}}}));
        let both = set(json!({"f:a": {".": {}, "f:b": {}}}));
        assert_eq!(parent.clone().union(&child), both);
        assert_eq!(both.difference(&parent), child);
        assert_eq!(both.difference(&child), parent);
        assert!(parent.intersection(&child).is_empty());
        assert_eq!(both.intersection(&child), child);
        let mut gone = both.clone();
        gone.remove_below(&["a"]);
        assert!(gone.is_empty());
    }

    #[test]
    fn patterns_keep_what_leads_there() {
        let all = set(json!({"f:spec": {
            "f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}, "f:resources": {"f:limits": {}}}},
            "f:nodeName": {}
        }}));
        let kept = all.only(&[&["spec", "containers", "*", "resources"]]);
        let wanted = json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:resources": {"f:limits": {}}}}}});
        assert_eq!(kept.encode(), wanted);
    }
}
