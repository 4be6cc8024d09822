//! Workloads, storage, limits, quotas and NetworkPolicies against what the strategies of Kubernetes 1.36.3 make of the same objects:
//! files in `data` hold, for each behaviour, the object (and the one before it), upstream's errors and warnings, repeats dropped, and
//! where it says what is filled in, reset or counted, the object as upstream stores it.

use admission::Subresource;
use serde_json::{Map, Value};

/// What became of a case: errors, warnings, and the object.
fn play(case: &Value) -> (Vec<String>, Vec<String>, Value) {
    let resource = case["resource"].as_str().expect("a resource");
    let mut new = case["new"].clone();
    admission::default(resource, &mut new);
    let errors = match case.get("old") {
        None => {
            admission::prepare_create(resource, &mut new);
            admission::validate_create(resource, &new)
        }
        Some(old) => {
            let part = match case["subresource"].as_str() {
                Some("status") => Subresource::Status,
                _ => Subresource::Main,
            };
            let mut old = old.clone();
            admission::default(resource, &mut old);
            admission::prepare_update(resource, part, &mut new, &old);
            admission::validate_update(resource, part, &new, &old)
        }
    };
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let is_silent = !errors.is_empty() || case["subresource"].is_string();
    let warnings = match case.get("old") {
        _ if is_silent => Vec::new(),
        old => admission::warnings(resource, &new, old),
    };
    (errors, warnings, new)
}

/// Without what Go leaves out, and the words for the kind.
fn essential(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .iter()
                .map(|(key, value)| (key.clone(), essential(value)));
            let is_kept = |key: &str, value: &Value| {
                !is_nothing(value) && key != "kind" && key != "apiVersion"
            };
            let kept: Map<String, Value> =
                kept.filter(|(key, value)| is_kept(key, value)).collect();
            kept.into()
        }
        Value::Array(items) => items.iter().map(essential).collect(),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[test]
fn workloads_are_what_upstream_makes_of_them() {
    play_all(include_str!("data/workloads.json"), 100);
}

#[test]
fn storage_is_what_upstream_makes_of_it() {
    play_all(include_str!("data/storage.json"), 100);
}

#[test]
fn limits_and_quotas_are_what_upstream_makes_of_them() {
    play_all(include_str!("data/quotas.json"), 140);
}

#[test]
fn policies_are_what_upstream_makes_of_them() {
    play_all(include_str!("data/policies.json"), 40);
}

fn play_all(cases: &str, count: usize) {
    let cases: Vec<Value> = serde_json::from_str(cases).expect("cases are JSON");
    assert!(cases.len() >= count, "cases went missing");
    let mut wrong = String::new();
    for case in &cases {
        let texts = |name: &str| -> Vec<String> {
            let texts = case
                .get(name)
                .cloned()
                .unwrap_or_else(|| Value::Array(Vec::new()));
            serde_json::from_value(texts).expect("texts")
        };
        let (errors, warnings, object) = play(case);
        let mut differs = |what: &str, expected: String, found: String| {
            if expected != found {
                wrong.push_str(&format!(
                    "\n== {} ({}): {what}\nexpected:\n  {expected}\nfound:\n  {found}\n",
                    case["name"], case["resource"]
                ));
            }
        };
        differs("errors", texts("errors").join("\n  "), errors.join("\n  "));
        differs(
            "warnings",
            texts("warnings").join("\n  "),
            warnings.join("\n  "),
        );
        if let Some(stored) = case.get("stored") {
            differs(
                "object",
                essential(stored).to_string(),
                essential(&object).to_string(),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
