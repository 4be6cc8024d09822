//! Metrics as v1 has them in annotations: the words of earlier versions.

use serde_json::{Map, Value, json};

/// Whether it says what is wanted or what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Spec,
    Status,
}

/// The name of a field in v1, and where v2 has it.
type Field = (&'static str, &'static [&'static str]);

/// Where the fields of a source are; the last of a target's come first, so that they decide its type.
fn fields(part: Part, source: &str) -> &'static [Field] {
    match (part, source) {
        (Part::Spec, "resource" | "containerResource") => &[
            ("name", &["name"]),
            ("container", &["container"]),
            (
                "targetAverageUtilization",
                &["target", "averageUtilization"],
            ),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        (Part::Status, "resource" | "containerResource") => &[
            ("name", &["name"]),
            ("container", &["container"]),
            (
                "currentAverageUtilization",
                &["current", "averageUtilization"],
            ),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        (Part::Spec, "pods") => &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        (Part::Status, "pods") => &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        (Part::Spec, "object") => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("averageValue", &["target", "averageValue"]),
        ],
        (Part::Status, "object") => &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("averageValue", &["current", "averageValue"]),
        ],
        (Part::Spec, "external") => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        (Part::Status, "external") => &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        _ => &[],
    }
}

/// The quantity that Go's type of v1 cannot leave out.
fn always(part: Part, source: &str) -> Option<&'static str> {
    match (part, source) {
        (Part::Spec, "pods") => Some("targetAverageValue"),
        (Part::Spec, "object") => Some("targetValue"),
        (Part::Status, "resource" | "containerResource" | "pods") => Some("currentAverageValue"),
        (Part::Status, "object" | "external") => Some("currentValue"),
        _ => None,
    }
}

/// A metric of v2 in the words of v1.
pub(super) fn to_v1(part: Part, metric: &Value) -> Value {
    with_sources(metric, |source, from| {
        let mut to = Map::new();
        if let Some(name) = always(part, source) {
            to.insert(name.into(), "0".into());
        }
        for (name, path) in fields(part, source) {
            let found = path.iter().fold(from, |value, field| &value[*field]);
            if !found.is_null() {
                to.insert((*name).into(), found.clone());
            }
        }
        to.into()
    })
}

/// A metric of v1 in the words of v2.
pub(super) fn to_v2(part: Part, metric: &Value) -> Value {
    with_sources(metric, |source, from| {
        let mut to = json!({});
        for (name, path) in fields(part, source) {
            let found = &from[*name];
            if found.is_null() || is_left_out(part, source, name, from) {
                continue;
            }
            let place = path.iter().fold(&mut to, |value, field| &mut value[*field]);
            *place = found.clone();
        }
        if part == Part::Spec {
            to["target"]["type"] = target_type(&to["target"]).into();
        }
        to
    })
}

/// A target of an average on an object has a value of zero where it was left out.
fn is_left_out(part: Part, source: &str, name: &str, from: &Value) -> bool {
    (part, source, name) == (Part::Spec, "object", "targetValue")
        && !from["averageValue"].is_null()
        && from[name] == "0"
}

/// What v1 does not say: by which of its values a target is meant.
fn target_type(target: &Value) -> &'static str {
    if !target["averageUtilization"].is_null() {
        "Utilization"
    } else if !target["value"].is_null() {
        "Value"
    } else {
        "AverageValue"
    }
}

/// The metric with each source as `change` makes it.
fn with_sources(metric: &Value, change: impl Fn(&str, &Value) -> Value) -> Value {
    let all = metric.as_object().into_iter().flatten();
    let changed = all.map(|(key, value)| match value {
        Value::Object(_) => (key.clone(), change(key, value)),
        other => (key.clone(), other.clone()),
    });
    changed.collect::<Map<String, Value>>().into()
}
