//! Server-side apply against what upstream's own code makes of the same writes: `data/apply.json` has the object before each write,
//! the write, and the object after it or the refusal.

use api::apply::{Scope, Write, apply, update};
use api::schema::Schema;
use api::status::StatusError;
use api::validate::decode_value;
use serde::Deserialize;
use serde_json::Value;

/// A day after what is there was written.
const NOW: &str = "2026-01-03T03:04:05Z";

#[derive(Deserialize)]
struct Step {
    op: String,
    manager: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    subresource: String,
    kind: String,
    live: Option<Value>,
    given: Value,
    #[serde(default)]
    want: Value,
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: u16,
    #[serde(default)]
    causes: Vec<String>,
}

impl Step {
    fn scope(&self) -> Scope {
        match (self.kind.as_str(), self.subresource.as_str()) {
            ("ConfigMap", _) => Scope::Except(&[]),
            (_, "") => Scope::Except(&[&["status"]]),
            (_, "status") => Scope::Except(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            _ => Scope::Only(&[
                &["spec", "containers", "*", "resources"],
                &["spec", "containers", "*", "resizePolicy"],
            ]),
        }
    }

    fn run(&self) -> Result<Value, StatusError> {
        let ty = Schema::get().of("", "v1", &self.kind).unwrap();
        let write = Write {
            ty,
            api_version: "v1",
            subresource: &self.subresource,
            manager: &self.manager,
            now: NOW,
            scope: self.scope(),
        };
        let new = if self.op == "apply" {
            apply(&write, self.live.as_ref(), &self.given, self.force)?
        } else {
            // Go drops nulls when it decodes a body.
            let mut new = decode_value(&self.given, ty).unwrap().value;
            update(&write, self.live.as_ref(), &mut new);
            new
        };
        Ok(decode_value(&new, ty).unwrap().value)
    }
}

/// Without empty maps and lists and zeros: Go writes some of them whether they were set or not.
fn full(value: &Value) -> Value {
    let empty = |v: &Value| match v {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        other => other.is_null() || *other == 0 || *other == "",
    };
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| (k.clone(), full(v)))
            .filter(|(_, v)| !empty(v))
            .collect(),
        Value::Array(list) => list.iter().map(full).collect(),
        other => other.clone(),
    }
}

fn entries(object: &Value) -> String {
    serde_json::to_string_pretty(&object["metadata"]["managedFields"]).unwrap()
}

fn without_entries(object: &Value) -> Value {
    let mut object = full(object);
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    object
}

#[test]
fn writes_come_out_as_upstreams() {
    let steps: Vec<Step> = serde_json::from_str(include_str!("data/apply.json")).unwrap();
    assert!(steps.len() > 100);
    for (i, step) in steps.iter().enumerate() {
        let context = || {
            format!(
                "step {i}: {} by {} {} force={}\nlive {:#}\ngiven {:#}",
                step.op,
                step.manager,
                step.subresource,
                step.force,
                step.live.as_ref().unwrap_or(&Value::Null),
                step.given
            )
        };
        match step.run() {
            Ok(got) => {
                assert_eq!(step.error, "", "{}", context());
                assert_eq!(entries(&got), entries(&step.want), "{}", context());
                assert_eq!(
                    without_entries(&got),
                    without_entries(&step.want),
                    "{}",
                    context()
                );
            }
            Err(error) => {
                assert_eq!(
                    (error.code, error.message.as_str()),
                    (step.code, step.error.as_str()),
                    "{}",
                    context()
                );
                let details = error.details.iter().flat_map(|d| &d.causes);
                let mut causes: Vec<String> = details
                    .map(|c| format!("{} {}", c.field, c.message))
                    .collect();
                causes.sort();
                assert_eq!(causes, step.causes, "{}", context());
            }
        }
    }
}
