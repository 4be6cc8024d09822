//! HorizontalPodAutoscalers of autoscaling/v1 and v2 are the same objects; they are stored as v2 and shown as either. What v1 has no
//! field for, it has in annotations (upstream's pkg/apis/autoscaling/v1/conversion.go); v2 never shows these.

mod metrics;

use metrics::Part;
use serde_json::{Map, Value, json};

use crate::gotext;

/// Metrics beyond the utilization of CPU.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
/// All that was measured.
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// The annotations that v2 never shows; the last two are of old times.
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
/// Percent of what is requested, where nothing is said.
const DEFAULT_UTILIZATION: i64 = 80;

type Object = Map<String, Value>;

/// Turns an autoscaler of v2 into one of v1.
pub fn to_autoscaler_v1(object: &mut Object) {
    take_annotations(object);
    let mut spec = take(object, "spec");
    let mut status = take(object, "status");
    let mut told = Vec::new();
    if let Some(spec) = spec.as_object_mut() {
        let metrics = list(spec.remove("metrics"));
        let (cpu, others): (Vec<_>, Vec<_>) = metrics.into_iter().partition(is_cpu_utilization);
        if let Some(first) = cpu.first() {
            let target = first["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), target);
        }
        if !others.is_empty() {
            let others = others.iter().map(|m| metrics::to_v1(Part::Spec, m));
            told.push((METRICS, others.collect::<Value>()));
        }
        if let Some(behavior) = spec.remove("behavior").filter(|b| !b.is_null()) {
            told.push((BEHAVIOR, recased(&behavior, in_capitals)));
        }
    }
    if let Some(status) = status.as_object_mut() {
        let metrics = list(status.remove("currentMetrics"));
        let cpu = metrics.iter().rfind(|metric| is_cpu(metric));
        let cpu = cpu.map(|metric| &metric["resource"]["current"]["averageUtilization"]);
        if let Some(current) = cpu.filter(|current| !current.is_null()) {
            status.insert("currentCPUUtilizationPercentage".into(), current.clone());
        }
        if !metrics.is_empty() {
            let metrics = metrics.iter().map(|m| metrics::to_v1(Part::Status, m));
            told.push((CURRENT_METRICS, metrics.collect()));
        }
        let conditions = list(status.remove("conditions"));
        if !conditions.is_empty() {
            told.push((CONDITIONS, conditions.into()));
        }
    }
    put(object, "autoscaling/v1", spec, status);
    if told.is_empty() {
        return;
    }
    let annotations = entry(entry(object, "metadata"), "annotations");
    for (key, value) in told {
        annotations.insert(key.to_owned(), gotext::json(&value).into());
    }
}

/// Turns an autoscaler of v1 into one of v2. Annotations that cannot be read are dropped.
pub fn to_autoscaler_v2(object: &mut Object) {
    let told = take_annotations(object);
    let read = |key: &str| -> Option<Value> {
        let text = told.get(key)?.as_str()?;
        serde_json::from_str(text).ok()
    };
    let mut spec = take(object, "spec");
    let mut status = take(object, "status");
    if let Some(spec) = spec.as_object_mut() {
        let target = spec.remove("targetCPUUtilizationPercentage");
        let target = target.filter(|target| !target.is_null());
        let others = list(read(METRICS));
        let mut metrics: Vec<Value> = others
            .iter()
            .map(|m| metrics::to_v2(Part::Spec, m))
            .collect();
        if target.is_some() || metrics.is_empty() {
            metrics.push(cpu_utilization(target));
        }
        spec.insert("metrics".into(), metrics.into());
        let behavior = read(BEHAVIOR).map(|behavior| recased(&behavior, in_small));
        let says = |behavior: &Value| behavior.as_object().is_some_and(|b| !b.is_empty());
        if let Some(behavior) = behavior.filter(says) {
            spec.insert("behavior".into(), behavior);
        }
    }
    let measured = read(CURRENT_METRICS).filter(Value::is_array);
    let conditions = read(CONDITIONS).filter(Value::is_array);
    if status.is_null() && (measured.is_some() || conditions.is_some()) {
        status = json!({});
    }
    if let Some(status) = status.as_object_mut() {
        let current = status.remove("currentCPUUtilizationPercentage");
        let current = current.filter(|current| !current.is_null());
        let cpu = |current| json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": current}}}]);
        let metrics = match measured {
            Some(metrics) => {
                let metrics = list(Some(metrics));
                let metrics = metrics.iter().map(|m| metrics::to_v2(Part::Status, m));
                Some(metrics.collect())
            }
            None => current.map(cpu),
        };
        let fields = [("currentMetrics", metrics), ("conditions", conditions)];
        for (name, value) in fields {
            if let Some(value) = value {
                status.insert(name.into(), value);
            }
        }
    }
    put(object, "autoscaling/v2", spec, status);
}

/// The metric that stands for a target of CPU, in percent of what is requested.
pub fn cpu_utilization(target: Option<Value>) -> Value {
    let target = target.unwrap_or(DEFAULT_UTILIZATION.into());
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}})
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn is_cpu_utilization(metric: &Value) -> bool {
    is_cpu(metric) && metric["resource"]["target"]["averageUtilization"].is_number()
}

/// Takes the annotations out that v2 never shows.
fn take_annotations(object: &mut Object) -> Object {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else {
        return Object::new();
    };
    let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    else {
        return Object::new();
    };
    let taken = ANNOTATIONS
        .into_iter()
        .filter_map(|key| annotations.remove_entry(key))
        .collect();
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    taken
}

fn take(object: &mut Object, name: &str) -> Value {
    object.remove(name).unwrap_or_default()
}

fn put(object: &mut Object, version: &str, spec: Value, status: Value) {
    object.insert("apiVersion".into(), version.into());
    for (name, value) in [("spec", spec), ("status", status)] {
        if !value.is_null() {
            object.insert(name.into(), value);
        }
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// The object in a field, made if there is none.
fn entry<'a>(object: &'a mut Object, name: &str) -> &'a mut Object {
    let value = object.entry(name).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// A behavior with other names of fields: the annotation has them as Go's type does.
fn recased(value: &Value, name: fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (name(key), recased(value, name)))
            .collect::<Object>()
            .into(),
        Value::Array(items) => items.iter().map(|item| recased(item, name)).collect(),
        other => other.clone(),
    }
}

fn in_capitals(name: &str) -> String {
    with_first(name, char::to_ascii_uppercase)
}

fn in_small(name: &str) -> String {
    with_first(name, char::to_ascii_lowercase)
}

fn with_first(name: &str, change: fn(&char) -> char) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|c| change(&c));
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests;
