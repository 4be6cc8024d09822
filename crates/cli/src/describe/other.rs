//! ConfigMaps, Secrets, ServiceAccounts, PodDisruptionBudgets, PriorityClasses, and kinds that have no layout of their own (§15.6, §14.2).

use api::selector::Selector;
use serde_json::{Map, Value};

use super::tabs::Tabs;
use super::{is_set, labels_and_annotations, list, name_and_namespace, pairs, shown, text};

/// Parts of an object that stand at the top, or say nothing to people.
const AT_THE_TOP: [&str; 5] = [
    "managedFields",
    "name",
    "namespace",
    "labels",
    "annotations",
];

/// Values in full.
pub(super) fn config_map(out: &mut Tabs, object: &Value) {
    name_and_namespace(out, object);
    labels_and_annotations(out, object);
    out.line(0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        out.line(0, format!("{key}:\n----\n{}\n", text(value)));
    }
    out.line(0, "\nBinaryData\n====");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        out.line(0, format!("{key}: {} bytes", decoded_length(text(value))));
    }
    out.line(0, "");
}

/// Lengths of values only.
pub(super) fn secret(out: &mut Tabs, object: &Value) {
    name_and_namespace(out, object);
    labels_and_annotations(out, object);
    let kind = text(&object["type"]);
    out.line(0, "");
    out.field(0, "Type", kind);
    out.line(0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        out.field(0, key, format!("{} bytes", decoded_length(text(value))));
    }
}

/// With the Secrets it pulls images with.
pub(super) fn service_account(out: &mut Tabs, object: &Value) {
    name_and_namespace(out, object);
    labels_and_annotations(out, object);
    let secrets = list(&object["imagePullSecrets"]);
    let names: Vec<String> = secrets
        .iter()
        .map(|secret| text(&secret["name"]).to_owned())
        .collect();
    out.column("Image pull secrets", &names);
}

/// What it asks for and what it allows.
pub(super) fn disruption_budget(out: &mut Tabs, object: &Value) {
    name_and_namespace(out, object);
    let spec = &object["spec"];
    if is_set(&spec["minAvailable"]) {
        out.field(0, "Min available", shown(&spec["minAvailable"]));
    } else if is_set(&spec["maxUnavailable"]) {
        out.field(0, "Max unavailable", shown(&spec["maxUnavailable"]));
    }
    out.field(0, "Selector", label_selector(&spec["selector"]));
    out.line(0, "Status:");
    for (name, count) in [
        ("Allowed disruptions", "disruptionsAllowed"),
        ("Current", "currentHealthy"),
        ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ] {
        let count = object["status"][count].as_i64().unwrap_or(0);
        out.field(2, name, count.to_string());
    }
}

/// What Pods of it are worth. Its annotations are shown all, in one line.
pub(super) fn priority_class(out: &mut Tabs, object: &Value) {
    out.field(0, "Name", text(&object["metadata"]["name"]));
    let value = object["value"].as_i64().unwrap_or(0);
    out.field(0, "Value", value.to_string());
    let is_default = object["globalDefault"] == true;
    out.field(0, "GlobalDefault", is_default.to_string());
    out.field(0, "PreemptionPolicy", text(&object["preemptionPolicy"]));
    out.field(0, "Description", text(&object["description"]));
    let annotations = pairs(&object["metadata"]["annotations"]);
    let shown = if annotations.is_empty() {
        "<none>".to_owned()
    } else {
        annotations.join(",")
    };
    out.field(0, "Annotations", shown);
}

/// A LabelSelector in one line.
pub(super) fn label_selector(selector: &Value) -> String {
    if selector.is_null() {
        return "<unset>".into();
    }
    let selector = serde_json::from_value(selector.clone());
    match selector.map(|selector| Selector::from_object(Some(&selector))) {
        Ok(Ok(selector)) if selector.is_everything() => "<none>".into(),
        Ok(Ok(selector)) => selector.to_string(),
        _ => "<error>".into(),
    }
}

fn decoded_length(base64: &str) -> usize {
    let digits = base64.trim_end_matches('=').len();
    digits * 3 / 4
}

/// Every field, its name split into words.
pub(super) fn generic(out: &mut Tabs, object: &Value) {
    name_and_namespace(out, object);
    labels_and_annotations(out, object);
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !AT_THE_TOP.contains(&field.as_str()));
    }
    if let Some(fields) = object.as_object() {
        dump(out, 0, fields);
    }
}

fn dump(out: &mut Tabs, level: usize, fields: &Map<String, Value>) {
    for (field, value) in fields {
        let title = title(field);
        match value {
            Value::Object(inner) => {
                out.line(level, format!("{title}:"));
                dump(out, level + 1, inner);
            }
            Value::Array(items) => {
                out.line(level, format!("{title}:"));
                for item in items {
                    match item {
                        Value::Object(inner) => dump(out, level + 1, inner),
                        other => out.line(level + 1, plain(other)),
                    }
                }
            }
            other => out.field(level, &title, plain(other)),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// `creationTimestamp` becomes `Creation Timestamp`; what is not a name stays.
fn title(field: &str) -> String {
    if field.chars().any(|c| !c.is_alphabetic() && c != '-') {
        return field.to_owned();
    }
    let capital = |word: String| -> String {
        let upper = word.to_uppercase();
        if ["API", "URL", "UID", "GUID"].contains(&upper.as_str()) {
            return upper;
        }
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if word.chars().all(|c| !c.is_uppercase()) => {
                first.to_uppercase().chain(letters).collect()
            }
            _ => word,
        }
    };
    words(field)
        .into_iter()
        .map(capital)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Splits at capitals; a run of them is one word, its last letter belongs to what follows.
fn words(field: &str) -> Vec<String> {
    let letters: Vec<char> = field.chars().collect();
    let mut words = vec![String::new()];
    for (place, letter) in letters.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| letters[place]);
        let after = letters.get(place + 1);
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| {
                !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase())
            });
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(*letter);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_become_titles() {
        for (field, expected) in [
            ("creationTimestamp", "Creation Timestamp"),
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("podCIDR", "Pod CIDR"),
            ("clusterIP", "Cluster IP"),
            ("a.b/c", "a.b/c"),
        ] {
            assert_eq!(title(field), expected);
        }
    }

    #[test]
    fn lengths_of_base64() {
        for (text, length) in [("", 0), ("YQ==", 1), ("YWI=", 2), ("YWJj", 3)] {
            assert_eq!(decoded_length(text), length);
        }
    }
}
