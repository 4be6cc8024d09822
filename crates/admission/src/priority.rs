//! PriorityClasses: how important the Pods are that name one, and whether they may take the place of others (KEP-268).

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;

use crate::meta::{self, immutable};
use crate::view::{At, dig, entry, get, object, set_if_absent, text};
use crate::{Rules, Subresource, generic, pod};

/// The policy of a class that has none of its own.
pub(crate) const PREEMPT: &str = "PreemptLowerPriority";
const POLICIES: [&str; 2] = [PREEMPT, "Never"];
/// Classes that are named like this are the system's.
const SYSTEM_PREFIX: &str = "system-";
/// The most that other classes can be worth.
const HIGHEST: i64 = 1_000_000_000;

/// A class that every cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemClass {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: i32,
    /// What it is for, as upstream says it.
    pub description: &'static str,
}

/// The classes that every cluster has; no others may be named as they are.
pub const SYSTEM_CLASSES: [SystemClass; 2] = [
    SystemClass {
        name: "system-node-critical",
        value: 2_000_001_000,
        description: "Used for system critical pods that must not be moved from their current node.",
    },
    SystemClass {
        name: "system-cluster-critical",
        value: 2_000_000_000,
        description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    },
];

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: |class| set_if_absent(class, "preemptionPolicy", PREEMPT),
    prepare_create: |class| {
        object(entry(class, "metadata")).insert("generation".to_owned(), 1.into());
    },
    prepare_update: generic::keep,
    validate_create,
    validate_update,
};

/// The class of Pods that name none, of all classes: of several the one that is worth least.
pub fn global_default<'a>(classes: impl IntoIterator<Item = &'a Value>) -> Option<&'a Value> {
    let classes = classes.into_iter();
    let defaults = classes.filter(|class| get(class, "globalDefault") == true);
    defaults.min_by_key(|class| get(class, "value").as_i64().unwrap_or(0))
}

/// Why a class cannot be the default that `classes` have another one for already: 403 `... is forbidden: <this>`.
pub fn second_default<'a>(
    new: &Value,
    is_new: bool,
    classes: impl IntoIterator<Item = &'a Value>,
) -> Option<String> {
    if get(new, "globalDefault") != true {
        return None;
    }
    let other = name(global_default(classes)?);
    (is_new || other != name(new)).then(|| {
        format!("PriorityClass {other} is already marked as default. Only one default can exist")
    })
}

/// A class's name.
pub(crate) fn name(class: &Value) -> &str {
    text(dig(class, &["metadata", "name"]))
}

fn validate_create(class: &Value) -> ErrorList {
    let mut errors = meta::validate(class, false, names::dns1123_subdomain);
    let called = At::field(class, "metadata").get("name");
    let value = At::field(class, "value");
    if called.text().starts_with(SYSTEM_PREFIX) {
        errors.extend(unlike_the_systems(class).map(|why| {
            let text = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            );
            Error::forbidden(&called.path, text)
        }));
    } else if value.int().is_some_and(|value| value > HIGHEST) {
        let text = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.push(Error::forbidden(&value.path, text));
    }
    let policy = At::field(class, "preemptionPolicy");
    if policy.given() {
        errors.extend(pod::word(&policy, &POLICIES));
    }
    errors
}

fn unlike_the_systems(class: &Value) -> Option<String> {
    let called = name(class);
    let Some(known) = SYSTEM_CLASSES.iter().find(|known| known.name == called) else {
        return Some(format!("{called} is not a known system priority class"));
    };
    if get(class, "value").as_i64().unwrap_or(0) != i64::from(known.value) {
        return Some(format!(
            "value of {called} PriorityClass must be {}",
            known.value
        ));
    }
    let is_default = get(class, "globalDefault") == true;
    is_default.then(|| format!("globalDefault of {called} PriorityClass must be false"))
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let value = At::field(new, "value");
    if value.int().unwrap_or(0) != get(old, "value").as_i64().unwrap_or(0) {
        errors.push(Error::forbidden(
            &value.path,
            "may not be changed in an update.",
        ));
    }
    let policy = At::field(new, "preemptionPolicy");
    errors.extend(immutable(&policy, get(old, "preemptionPolicy")));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(name: &str, value: i64, is_default: bool) -> Value {
        json!({"metadata": {"name": name}, "value": value, "globalDefault": is_default})
    }

    #[test]
    fn a_class_is_validated() {
        let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";
        let with_policy = |policy: &str| {
            let mut class = class("c", 1, false);
            class["preemptionPolicy"] = policy.into();
            class
        };
        let table = [
            (class("c", HIGHEST, true), None),
            (class("c", -2_147_483_648, false), None),
            (
                class("c", HIGHEST + 1, false),
                Some("value: Forbidden: maximum allowed value of a user defined priority is 1000000000".to_owned()),
            ),
            (class("system-node-critical", 2_000_001_000, false), None),
            (
                class("system-node-critical", 1, false),
                Some(format!("{reserved}value of system-node-critical PriorityClass must be 2000001000")),
            ),
            (
                class("system-cluster-critical", 2_000_000_000, true),
                Some(format!("{reserved}globalDefault of system-cluster-critical PriorityClass must be false")),
            ),
            (
                class("system-mine", 1, false),
                Some(format!("{reserved}system-mine is not a known system priority class")),
            ),
            (with_policy("Never"), None),
            (with_policy(""), Some("preemptionPolicy: Required value".to_owned())),
            (
                with_policy("Sometimes"),
                Some("preemptionPolicy: Unsupported value: \"Sometimes\": supported values: \"PreemptLowerPriority\", \"Never\"".to_owned()),
            ),
        ];
        for (class, expected) in table {
            let errors = validate_create(&class);
            let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(shown, Vec::from_iter(expected), "{class}");
        }
    }

    #[test]
    fn what_a_class_is_worth_stays() {
        let old = json!({"metadata": {"name": "c"}, "value": 1, "preemptionPolicy": "Never"});
        let mut new = old.clone();
        new["description"] = "d".into();
        assert!(validate_update(Subresource::Main, &new, &old).is_empty());
        new["value"] = 2.into();
        new["preemptionPolicy"] = PREEMPT.into();
        let errors = validate_update(Subresource::Main, &new, &old);
        let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"PreemptLowerPriority\": field is immutable",
            ]
        );
    }

    #[test]
    fn one_class_is_for_pods_that_name_none() {
        let plain = class("plain", 9, false);
        let low = class("low", 1, true);
        let high = class("high", 5, true);
        let called = |class: Option<&Value>| class.map(|class| name(class).to_owned());
        assert_eq!(global_default([&plain]), None);
        assert_eq!(
            called(global_default([&plain, &high, &low])),
            Some("low".to_owned())
        );
        let text = "PriorityClass low is already marked as default. Only one default can exist";
        assert_eq!(
            second_default(&high, true, [&plain, &low]).as_deref(),
            Some(text)
        );
        assert_eq!(second_default(&plain, true, [&low]), None);
        assert_eq!(second_default(&low, false, [&low]), None);
        assert_eq!(second_default(&high, true, [&plain]), None);
    }
}
