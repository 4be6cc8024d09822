//! The checks of each level, by version: one function looks at one thing. Names, order, texts and allowed values are upstream's.

mod baseline;
mod restricted;

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::{Level, LevelVersion, Version};
use crate::view::{dig, get, list, text};

/// The last version in which a check changed; later ones are the same.
const NEWEST: u32 = 35;

/// What a Pod, or a Pod template, is made of.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

type Rule = fn(Subject<'_>) -> Option<Violation>;

struct Check {
    id: &'static str,
    /// From which minor version on, in order.
    versions: &'static [(u32, Rule)],
    /// The check of the level below that is not made any more where this one is.
    instead_of: &'static str,
}

/// Everything a Pod violates at a level, in upstream's order.
pub(super) fn violations(lv: LevelVersion, subject: Subject<'_>) -> Vec<Violation> {
    let minor = match lv.version {
        Version::Minor(minor) => minor.min(NEWEST),
        Version::Latest => NEWEST,
    };
    let current = |check: &Check| -> Option<Rule> {
        let versions = check.versions.iter().rev();
        versions
            .copied()
            .find(|(from, _)| *from <= minor)
            .map(|(_, rule)| rule)
    };
    let restricted: &[Check] = match lv.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => &restricted::CHECKS,
    };
    let replaced = |id: &str| {
        restricted
            .iter()
            .any(|c| c.instead_of == id && current(c).is_some())
    };
    let baseline = baseline::CHECKS.iter().filter(|c| !replaced(c.id));
    let rules = baseline.chain(restricted).filter_map(current);
    rules.filter_map(|rule| rule(subject)).collect()
}

fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation {
        reason: reason.into(),
        detail: detail.into(),
    })
}

impl<'a> Subject<'a> {
    /// Every container, in upstream's order.
    fn containers(self) -> impl Iterator<Item = &'a Value> {
        let kinds = ["initContainers", "containers", "ephemeralContainers"];
        kinds
            .into_iter()
            .flat_map(move |kind| list(get(self.spec, kind)))
    }

    /// Names of containers that are bad.
    fn bad(self, is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        let mut is_bad = is_bad;
        let bad = self.containers().filter(|container| is_bad(container));
        bad.map(|container| text(get(container, "name"))).collect()
    }

    /// The Pod's own security context.
    fn context(self) -> &'a Value {
        get(self.spec, "securityContext")
    }

    fn is_windows(self) -> bool {
        text(dig(self.spec, &["os", "name"])) == "windows"
    }

    /// Whether root inside is nobody outside.
    fn has_own_users(self) -> bool {
        *get(self.spec, "hostUsers") == Value::Bool(false)
    }

    fn annotation(self, key: &str) -> Option<&'a str> {
        get(get(self.metadata, "annotations"), key).as_str()
    }
}

/// A container's security context.
fn context(container: &Value) -> &Value {
    get(container, "securityContext")
}

fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items
        .into_iter()
        .map(|i| format!("\"{}\"", i.as_ref()))
        .collect();
    items.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", names.len()),
        quoted(names)
    )
}

/// `pod and containers "a", "b"`: who sets something.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let mut who = Vec::new();
    if pod {
        who.push("pod".to_owned());
    }
    if !names.is_empty() {
        who.push(containers(names));
    }
    (!who.is_empty()).then(|| who.join(" and "))
}

/// Texts in order, each once.
type Texts = BTreeSet<String>;
