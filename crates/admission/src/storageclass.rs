//! StorageClasses (upstream's pkg/apis/storage), and which of them is for claims that name none.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use api::field::{Error, ErrorList};
use api::names;
use api::storage::DEFAULT_MARKS;
use serde_json::Value;

use crate::meta::{self, annotation, immutable};
use crate::pod::deprecated_label;
use crate::view::{At, dig, get, set_if_absent, text};
use crate::{Rules, Subresource, generic};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: |class| {
        set_if_absent(class, "reclaimPolicy", "Delete");
        set_if_absent(class, "volumeBindingMode", "Immediate");
    },
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: validate,
    validate_update,
};

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 << 10;

/// The name of the class for claims that name none, of all classes: of several the newest, and of those the first by name.
pub(crate) fn default_of(classes: &[Value]) -> Option<&str> {
    let metadata = |class: &'_ Value, field| text(dig(class, &["metadata", field])).to_owned();
    let is_marked = |class: &&Value| {
        let mut marks = DEFAULT_MARKS.iter();
        marks.any(|mark| annotation(class, mark) == Some("true"))
    };
    let newest = classes.iter().filter(is_marked).max_by_key(|class| {
        let name = metadata(class, "name");
        (metadata(class, "creationTimestamp"), Reverse(name))
    })?;
    Some(text(dig(newest, &["metadata", "name"])))
}

/// What a client is told about a class besides the answer: names of nodes' labels that are no more.
pub(crate) fn warnings(class: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for term in At::field(class, "allowedTopologies").items() {
        for item in term.get("matchLabelExpressions").items() {
            let key = item.get("key");
            let why = deprecated_label(key.text());
            found.extend(why.map(|why| format!("{}: {why}", key.path)));
        }
    }
    found
}

fn validate(class: &Value) -> ErrorList {
    let mut errors = meta::validate(class, false, names::dns1123_subdomain);
    errors.extend(provisioner(&At::field(class, "provisioner")));
    errors.extend(parameters(&At::field(class, "parameters")));
    let policy = At::field(class, "reclaimPolicy");
    if !["", "Delete", "Retain"].contains(&policy.text()) {
        let known = ["Delete", "Retain"];
        errors.push(Error::not_supported(&policy.path, policy.text(), &known));
    }
    let mode = At::field(class, "volumeBindingMode");
    let known = ["Immediate", "WaitForFirstConsumer"];
    if !known.contains(&mode.text()) {
        errors.push(Error::not_supported(&mode.path, mode.text(), &known));
    }
    errors.extend(topologies(&At::field(class, "allowedTopologies")));
    errors
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(new);
    for name in [
        "parameters",
        "provisioner",
        "reclaimPolicy",
        "volumeBindingMode",
    ] {
        errors.extend(immutable(&At::field(new, name), get(old, name)));
    }
    errors
}

/// Who makes or changes volumes.
pub(crate) fn provisioner(at: &At<'_>) -> ErrorList {
    if at.text().is_empty() {
        return vec![Error::required(&at.path, "")];
    }
    let name = at.text().to_lowercase();
    let wrong = names::qualified_name(&name).into_iter();
    wrong
        .map(|why| Error::invalid(&at.path, &*name, why))
        .collect()
}

/// What a provisioner is told.
pub(crate) fn parameters(given: &At<'_>) -> ErrorList {
    if given.len() > MAX_PARAMETERS {
        return vec![Error::too_long(&given.path, MAX_PARAMETERS)];
    }
    let mut errors = ErrorList::new();
    let mut bytes = 0;
    for (key, value) in given.entries() {
        if key.is_empty() {
            errors.push(Error::invalid(&given.path, key, "field can not be empty."));
        }
        bytes += key.len() + value.text().len();
    }
    if bytes > MAX_PARAMETER_BYTES {
        errors.push(Error::too_long(&given.path, MAX_PARAMETER_BYTES));
    }
    errors
}

fn topologies(terms: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen: Vec<Vec<(&str, BTreeSet<&str>)>> = Vec::new();
    for term in terms.items() {
        let expressions = term.get("matchLabelExpressions");
        let mut asked: Vec<(&str, BTreeSet<&str>)> = Vec::new();
        for item in expressions.items() {
            let (key, values) = (item.get("key"), item.get("values"));
            if values.len() == 0 {
                errors.push(Error::required(&values.path, ""));
            }
            let mut wanted = BTreeSet::new();
            for value in values.items() {
                if !wanted.insert(value.text()) {
                    errors.push(Error::duplicate(&value.path, value.text()));
                }
            }
            errors.extend(meta::label_name(&key.path, key.text()));
            if asked.iter().any(|(other, _)| *other == key.text()) {
                errors.push(Error::duplicate(&key.path, key.text()));
            }
            asked.retain(|(other, _)| *other != key.text());
            asked.push((key.text(), wanted));
        }
        asked.sort_unstable();
        if seen.contains(&asked) {
            errors.push(Error::duplicate(&expressions.path, ""));
        }
        seen.push(asked);
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::default_of;

    #[test]
    fn the_newest_marked_class_is_the_default() {
        let class = |name: &str, since: &str, mark: &str, value: &str| json!({"metadata": {"name": name, "creationTimestamp": since, "annotations": {mark: value}}});
        let [now, once] = super::DEFAULT_MARKS;
        let classes = [
            class("old", "2026-01-01T00:00:00Z", now, "true"),
            class("b", "2026-01-02T00:00:00Z", now, "true"),
            class("a", "2026-01-02T00:00:00Z", once, "true"),
            class("not", "2026-01-03T00:00:00Z", now, "false"),
        ];
        assert_eq!(default_of(&classes), Some("a"));
        assert_eq!(default_of(&classes[..1]), Some("old"));
        assert_eq!(default_of(&classes[3..]), None);
        assert_eq!(default_of(&[] as &[Value]), None);
    }
}
